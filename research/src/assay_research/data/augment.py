"""Augmentation of a whole batch of images at once, on its device: flip, crop, rescale, colour jitter and cutout."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from assay_research.data.resample import axis_weights, resample


@dataclass
class Augment:
    """Settings for augmenting a classifier's training images; the defaults change nothing.

    Attributes:
        flip: mirror left to right with probability 1/2.
        pad: width in pixels of a zero border that is added before a random crop to the size of the canvas.
        scale: ``[S_min, S_max]``: the image's shorter side is resized to S pixels, an integer drawn uniformly for
            each image, then the image is randomly cropped to the size of the canvas (Simonyan and Zisserman,
            arXiv:1409.1556, section 3.1). ``[36, 36]`` is a fixed S; None does not resize.
        brightness: pixels are multiplied by a factor drawn uniformly from [1 - brightness, 1 + brightness].
        contrast: the difference from the image's mean grey is multiplied by such a factor.
        saturation: the difference from each pixel's own grey is multiplied by such a factor.
        cutout: side in pixels of a square that is made mid-grey, around a random pixel, so that part of it may lie
            outside the image (DeVries and Taylor, arXiv:1708.04552). 0 turns cutout off.

    Raises:
        ValueError: a value is outside its range.
    """

    flip: bool = False
    pad: int = 0
    scale: list[int] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("pad", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name} must be 0 pixels or more, got {getattr(self, name)}")
        if self.scale is not None and (len(self.scale) != 2 or not 1 <= self.scale[0] <= self.scale[1]):
            raise ValueError(f"augment.scale must be [S_min, S_max] with 1 <= S_min <= S_max, got {list(self.scale)}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be from 0 to 1, got {getattr(self, name)}")


def draw(count: int, settings: Augment, generator: Generator) -> Tensor:
    """Draw all random numbers for augmenting a batch, one column per image.

    Args:
        count: number of images in the batch.
        settings: the augmentations; with the defaults no number is drawn.
        generator: the only source of randomness, on the images' device. The number of draws depends only on `count`,
            so that turning on one augmentation does not change the random numbers of another.

    Returns:
        float32 ``[9, count]`` in [0, 1).
    """
    if settings == Augment():
        return torch.empty(9, count, device=generator.device)
    return torch.rand(9, count, device=generator.device, generator=generator)


def augment(images: Tensor, settings: Augment, draws: Tensor) -> Tensor:
    """Augment each image of a batch independently: resize, pad, crop, mirror, jitter colours, then cutout.

    Args:
        images: uint8 ``[batch, height, width, 3]``, RGB.
        settings: the augmentations to apply. With the defaults the images are only converted to float.
        draws: random numbers from `draw`, float32 ``[9, batch]``, on the images' device.

    Returns:
        float32 ``[batch, 3, height, width]`` in [0, 1], channels_last in memory.

    Raises:
        ValueError: the resized and padded image is smaller than the crop.
    """
    if settings == Augment():
        return images.permute(0, 3, 1, 2).float().div_(255)
    images = images.contiguous()
    flip, scale, down, right, *colour, row, column = draws
    mirrored = flip < 0.5 if settings.flip else torch.zeros_like(flip, dtype=torch.bool)
    if settings.scale is None:
        x = _crop(images, settings.pad, mirrored, down, right).permute(0, 3, 1, 2).float().div_(255)
    else:
        x = _rescale(images, settings.scale, settings.pad, mirrored, scale, down, right)
    amounts = (settings.brightness, settings.contrast, settings.saturation)
    if any(amounts):
        x = _recolour(x, *(1 + amount * (2 * draw - 1) for amount, draw in zip(amounts, colour, strict=True)))
    if settings.cutout:
        x = _cut_out(x, settings.cutout, row, column)
    return x.contiguous(memory_format=torch.channels_last)


def _crop(images: Tensor, pad: int, mirrored: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Pad images uint8 ``[batch, height, width, 3]``, crop them to their original size and mirror them, as bytes."""
    batch, height, width, _ = images.shape
    both = torch.cat([images, images.flip(2)])
    if pad:
        both = F.pad(both, (0, 0, pad, pad, pad, pad))
    top = (down * (2 * pad + 1)).long()
    left = (right * (2 * pad + 1)).long()
    left = torch.where(mirrored, 2 * pad - left, left)
    index = torch.arange(batch, device=images.device) + batch * mirrored
    row = (index * (height + 2 * pad) + top)[:, None] + torch.arange(height, device=images.device)
    start = (row * (width + 2 * pad) + left[:, None]) * 3
    return _runs(both, start.flatten(), width * 3).view(images.shape)


def _rescale(
    images: Tensor, sizes: list[int], pad: int, mirrored: Tensor, scale: Tensor, down: Tensor, right: Tensor
) -> Tensor:
    """Resize, pad, crop and mirror uint8 ``[batch, height, width, 3]`` into float32 ``[batch, 3, height, width]``."""
    _, height, width, _ = images.shape
    low, high = sizes
    choice = (scale * (high - low + 1)).long()
    weights = []
    for length, flip, where in ((height, torch.zeros_like(mirrored), down), (width, mirrored, right)):
        table, resized = _weights(length, min(height, width), low, high, pad, images.device)
        count, extent, _ = table.shape
        offset = (where * (resized[choice] + (2 * pad - length + 1))).long()
        plain, reverse = choice * extent + offset, (count // 2 + choice) * extent + (extent - length - offset)
        lines = _runs(table, torch.where(flip, reverse, plain) * length, length * length)
        weights.append(lines.view(-1, 1, length, length))
    x = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return resample(x, *weights).clamp_(0, 1)


@lru_cache(maxsize=8)
def _weights(length: int, shorter: int, low: int, high: int, pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Table of resampling weights for one axis and every resized length, and those lengths.

    The weights of a crop are consecutive lines of the table, one for each pixel of the axis.

    Returns:
        float32 ``[2 x lengths, lines, length]``, with the mirrored lines after the plain ones; float32 ``[lengths]``.
    """
    extent, least = (round(size * length / shorter) + 2 * pad for size in (high, low))
    if least < length:
        raise ValueError(
            f"augment.scale {[low, high]} with augment.pad {pad} leaves {least} pixels for a crop of {length}; "
            "set S_min to the canvas size or more, or increase augment.pad"
        )
    resized = (torch.arange(low, high + 1, device=device) * length / shorter).round()
    table = axis_weights(length, extent, resized, torch.full_like(resized, -pad))
    return torch.cat([table, table.flip(1)]), resized


def _runs(source: Tensor, start: Tensor, length: int) -> Tensor:
    """Contiguous runs ``[n, length]`` of a tensor's elements, copied as whole blocks.

    One ``index_select`` over overlapping windows is 16 times as fast as indexing them, on a CPU.
    """
    assert source.is_contiguous()
    windows = source.as_strided((source.numel() - length + 1, length), (1, 1))
    return windows.index_select(0, start)


def _recolour(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Adjust brightness, then contrast, then saturation, then clamp once to [0, 1]; factors ``[batch]``.

    All three are linear and grey is a weighted mean of the channels, so together they are one 3x3 matrix and one
    offset for each image. torchvision's ColorJitter does the same but clamps after each of the three.
    """
    grey = _grey(x.device)
    pixels = x.contiguous().flatten(2)
    gain = (brightness * contrast)[:, None, None]
    colour = saturation[:, None, None]
    mixing = gain * (colour * torch.eye(3, device=x.device) + (1 - colour) * grey)
    offset = brightness * (1 - contrast) * (pixels.mean(2) @ grey)
    return torch.baddbmm(offset[:, None, None], mixing, pixels).clamp_(0, 1).view_as(x)


def _cut_out(x: Tensor, side: int, row: Tensor, column: Tensor) -> Tensor:
    """Make a square grey in each image of float ``[batch, 3, height, width]``; its centre is given by two draws."""
    inside = []
    for length, where in zip(x.shape[2:], (row, column), strict=True):
        first = (where * length).long() - side // 2
        place = torch.arange(length, device=x.device)
        inside.append((place >= first[:, None]) & (place < first[:, None] + side))
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.5)


@lru_cache(maxsize=8)
def _grey(device: torch.device) -> Tensor:
    """Luma weights of ITU-R BT.601 for R, G and B, which Pillow and torchvision use for grey."""
    return torch.tensor([0.299, 0.587, 0.114], device=device)
