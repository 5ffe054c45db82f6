"""Evaluate a classifier on one view of the images, cropped or dense."""

import torch
from torch import Tensor, nn

from assay_deploy.images.canvas import Canvas, View
from assay_research.data.classification import Split
from assay_research.data.resample import axis_weights, resample
from assay_research.errors import ConfigError
from assay_research.models.normalized import Normalized
from assay_research.models.vgg import dense
from assay_research.tasks.classification.predict import BATCH, predict
from assay_research.tasks.classification.views import Views


def sliding(model: nn.Module, stride: int) -> Normalized:
    """Convert a classifier to its fully convolutional form, for images at least as large as the canvas.

    Args:
        model: a network made of `assay_research.models.vgg.stages` and `head`; its weights are shared.
        stride: distance between two outputs in pixels; see `assay_research.models.vgg.dense`.

    Returns:
        A network from float32 ``[batch, 3, height, width]`` in [0, 1] to logits ``[batch, classes]``, averaged over
        the output map.

    Raises:
        ConfigError: the stride is not supported, or the network has another form.
    """
    if not isinstance(model, Normalized) or not isinstance(model.network, nn.Sequential):
        raise ConfigError("dense= needs a VGG-style model: stages of convolutions, then its head of linear layers")
    try:
        network = dense(model.network, stride)
    except ValueError as error:
        raise ConfigError(f"dense={stride}: {error}") from error
    return Normalized(network, model.mean.flatten(), model.std.flatten())


class DenseView(nn.Module):
    """Fully convolutional classifier applied to the whole canvas, resized to one test size and not cropped.

    This is the dense evaluation of Simonyan and Zisserman (arXiv:1409.1556, section 3.2): logits are averaged over
    the output map.

    Args:
        model: see `sliding`.
        canvas: size of the images.
        view: test size and flip; its crop is ignored.
        stride: see `sliding`.

    Shape:
        - Input: uint8 ``[batch, height, width, 3]``, RGB.
        - Output: float32 ``[batch, classes]``, logits.

    Raises:
        ConfigError: the stride is not supported, the network has another form, or the size is below the canvas'.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, model: nn.Module, canvas: Canvas, view: View, stride: int) -> None:
        super().__init__()
        self.model = sliding(model, stride)
        shorter = min(canvas.height, canvas.width)
        size = view.size or shorter
        if size < shorter:
            raise ConfigError(f"a view of size {size} is smaller than the {canvas.height}x{canvas.width} canvas")
        for name, length, flip in (("rows", canvas.height, False), ("columns", canvas.width, view.flip)):
            target = round(length * size / shorter)
            weights = axis_weights(length, target, torch.tensor([float(target)]), torch.zeros(1), torch.tensor([flip]))
            self.register_buffer(name, weights[0], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits averaged over the output map."""
        x = resample(images.permute(0, 3, 1, 2).float() / 255, self.rows, self.columns)
        logits: Tensor = self.model(x)
        return logits


def evaluate_view(
    model: nn.Module, canvas: Canvas, view: View, split: Split, device: torch.device, stride: int | None = None
) -> Tensor:
    """Compute a classifier's logits for every image of a split with one view, in float32.

    Args:
        model: the classifier, on the device.
        canvas: size of the images.
        view: size, crop and flip of the images.
        split: n images; fastest if they are on the device.
        device: device to compute on.
        stride: distance between two outputs of dense evaluation in pixels; None crops the view to the canvas' size.

    Returns:
        float32 ``[n, classes]`` on the device: logits.

    Raises:
        ConfigError: the view is smaller than the canvas, or the model does not support dense evaluation.
    """
    if stride is not None:
        graph = DenseView(model, canvas, view, stride).to(device)
        # Below the network's own stride the late, wide layers work on a map as large as that of the early layers.
        pixels = graph.rows.shape[0] * graph.columns.shape[0]
        return predict(graph, split, device, batch=max(1, BATCH * canvas.height * canvas.width // (8 * pixels)))
    try:
        return predict(Views(model, canvas, [view]).to(device), split, device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
