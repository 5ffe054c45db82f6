"""Scale, crop and flip images with two small matrices: one for the rows, one for the columns.

Bilinear interpolation is separable and linear, so any mix of resize, crop, zero padding and mirror of an image is
``rows @ image @ columns^T``. A batch with a different mix for each image is one batched matrix product. It is fast on
every device, and it exports to any format as a plain MatMul, which all engines compute alike.
"""

import torch
from torch import Tensor


def axis_weights(source: int, target: int, size: Tensor, offset: Tensor, flip: Tensor | None = None) -> Tensor:
    """Return weights that resize an axis, then crop or zero-pad it, then mirror it, for each image of a batch.

    The filter is the triangle that Pillow and torchvision call antialiased bilinear: as wide as one source pixel
    when enlarging, as one target pixel when shrinking, pixel centres at half-integers, weights renormalised at
    the image's edges.

    Args:
        source: length of the axis in the source image, in pixels.
        target: length of the axis in the result, in pixels.
        size: float ``[batch]``: length in pixels that the axis is resized to before cropping.
        offset: float ``[batch]``: start of the crop on the resized axis, in pixels; pixels outside the axis are zero.
        flip: bool ``[batch]``: True mirrors the crop; None mirrors none.

    Returns:
        float32 ``[batch, target, source]``.
    """
    position = torch.arange(target, device=size.device, dtype=torch.float32).expand(len(size), target)
    if flip is not None:
        position = torch.where(flip[:, None], target - 1 - position, position)
    position = position + offset[:, None]
    inside = (position > -0.5) & (position < size[:, None] - 0.5)
    ratio = (source / size)[:, None]
    centre = (position + 0.5) * ratio - 0.5
    distance = (torch.arange(source, device=size.device) - centre[..., None]).abs()
    weights = (1 - distance / ratio.clamp(min=1)[..., None]).clamp(min=0)
    total = weights.sum(-1, keepdim=True)
    return torch.where(inside[..., None], weights / total.clamp(min=1e-6), 0.0)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply row and column weights to images.

    Args:
        images: float ``[..., source height, source width]``.
        rows: float ``[..., height, source height]``, broadcast against `images`.
        columns: float ``[..., width, source width]``, broadcast against `images`.

    Returns:
        float ``[..., height, width]``.
    """
    return rows @ images @ columns.transpose(-1, -2)
