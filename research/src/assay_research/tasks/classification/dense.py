"""Look at images through a view, cropped or dense."""

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
    """A classifier's fully convolutional form, for images of any size from the canvas' up.

    Args:
        model: a network of `assay_research.models.vgg.stages` and `head`; its weights are shared.
        stride: of the answers, pixels; see `assay_research.models.vgg.dense`.

    Returns:
        From float32 ``[batch, 3, height, width]`` in [0, 1] to logits ``[batch, classes]``, averaged over the map.

    Raises:
        ConfigError: another stride, or a network of another form.
    """
    if not isinstance(model, Normalized) or not isinstance(model.network, nn.Sequential):
        raise ConfigError("dense= needs a VGG-style model: stages of convolutions, then its head of linear layers")
    try:
        network = dense(model.network, stride)
    except ValueError as error:
        raise ConfigError(f"dense={stride}: {error}") from error
    return Normalized(network, model.mean.flatten(), model.std.flatten())


class DenseView(nn.Module):
    """The whole canvas at one test size, nothing cropped, seen by a fully convolutional classifier.

    The dense evaluation of Simonyan and Zisserman (arXiv:1409.1556, section 3.2): logits are averaged over the map.

    Args:
        model: see `sliding`.
        canvas: size of the images.
        view: its size and flip; the crop says nothing here.
        stride: see `sliding`.

    Shape:
        - Input: uint8 ``[batch, height, width, 3]``, RGB.
        - Output: float32 ``[batch, classes]``, logits.

    Raises:
        ConfigError: another stride, a network of another form, or a size less than the canvas'.
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
        """Logits averaged over the map."""
        x = resample(images.permute(0, 3, 1, 2).float() / 255, self.rows, self.columns)
        logits: Tensor = self.model(x)
        return logits


def look(
    model: nn.Module, canvas: Canvas, view: View, split: Split, device: torch.device, stride: int | None = None
) -> Tensor:
    """A classifier's answer to every image of a split, seen through one view, in float32.

    Args:
        model: on the device.
        canvas: size of the images.
        view: what is shown of them.
        split: n images; fastest where they are on the device.
        device: where to compute.
        stride: of dense evaluation, pixels; None crops the view to the canvas' size.

    Returns:
        float32 ``[n, classes]`` on the device: logits.

    Raises:
        ConfigError: a view smaller than the canvas, or a model that dense evaluation is not for.
    """
    if stride is not None:
        graph = DenseView(model, canvas, view, stride).to(device)
        # Below the network's own stride the late, wide layers see the map as large as the early ones do.
        pixels = graph.rows.shape[0] * graph.columns.shape[0]
        return predict(graph, split, device, batch=max(1, BATCH * canvas.height * canvas.width // (8 * pixels)))
    try:
        return predict(Views(model, canvas, [view]).to(device), split, device)
    except ValueError as error:
        raise ConfigError(str(error)) from error
