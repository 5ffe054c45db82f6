"""Test-time augmentation of a classifier as a module: average the probabilities of mirrored and rescaled views."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from assay_deploy.images.canvas import CROPS, Canvas, View
from assay_research.data.resample import axis_weights, resample


class Views(nn.Module):
    """Classifier with test-time augmentation, from decoded uint8 images to logits or probabilities.

    All views of all images are processed by the model as one batch. A view is a pair of constant matrices (see
    `assay_research.data.resample`), so the result does not depend on how a runtime resizes images. Softmax outputs
    are averaged as in Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition"
    (arXiv:1409.1556, section 3.2).

    Args:
        model: classifier from float32 ``[batch, 3, height, width]`` in [0, 1], RGB, to logits ``[batch, classes]``.
        canvas: size of the images.
        views: one or more views.

    Shape:
        - Input: uint8 ``[batch, height, width, 3]``, RGB.
        - Output: float32 ``[batch, classes]``: logits of the only view, or probabilities averaged over several.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, model: nn.Module, canvas: Canvas, views: Sequence[View]) -> None:
        super().__init__()
        if not views:
            raise ValueError("Views needs at least one view")
        self.model = model
        self.count = len(views)
        self.identity = all(view == View() for view in views)
        rows, columns = zip(*(_matrices(canvas, view) for view in views), strict=True)
        # [views, 1, 1, target, source], to broadcast against [batch, channel, height, width]
        self.register_buffer("rows", torch.stack(rows)[:, None, None], persistent=False)
        self.register_buffer("columns", torch.stack(columns)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the only view, or probabilities averaged over several."""
        x = images.permute(0, 3, 1, 2).float() / 255
        if not self.identity:
            x = resample(x, self.rows, self.columns).flatten(0, 1)
        logits: Tensor = self.model(x)
        if self.count == 1:
            return logits
        probabilities: Tensor = logits.softmax(-1).unflatten(0, (self.count, -1)).mean(0)
        return probabilities


def _matrices(canvas: Canvas, view: View) -> tuple[Tensor, Tensor]:
    """Row weights ``[height, height]`` and column weights ``[width, width]`` of one view."""
    shorter = min(canvas.height, canvas.width)
    size = view.size or shorter
    if size < shorter:
        raise ValueError(f"a view of size {size} is smaller than the {canvas.height}x{canvas.width} canvas")
    matrices = []
    for length, fraction, flip in zip((canvas.height, canvas.width), CROPS[view.crop], (False, view.flip), strict=True):
        resized = round(length * size / shorter)
        offset = round((resized - length) * fraction)
        matrices.append(
            axis_weights(
                length,
                length,
                torch.tensor([float(resized)]),
                torch.tensor([float(offset)]),
                torch.tensor([flip]),
            )[0]
        )
    return matrices[0], matrices[1]
