"""Score a classifier on a split, looking at it through any views: every metric from its logits alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay_deploy.canvas import Canvas, View
from assay_research.data import Split
from assay_research.errors import ConfigError
from assay_research.models import Normalized
from assay_research.models.vgg import dense
from assay_research.resample import axis_weights, resample
from assay_research.views import Views

BATCH = 500
BINS = 15


@torch.inference_mode()
def predict(
    graph: nn.Module, split: Split, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = BATCH
) -> Tensor:
    """The graph's answer to every picture of a split, in eval mode.

    Args:
        graph: `Views` or `DenseView`, on the device; it is left in eval mode.
        split: n pictures, on any device.
        device: where to compute.
        dtype: what to compute in; bfloat16 means autocast.
        batch: pictures at a time.

    Returns:
        float32 ``[n, classes]`` on the device: logits of one view, or probabilities averaged over several.
    """
    graph.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        return torch.cat([graph(images.to(device)).float() for images in split.images.split(batch)])


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy in nats of ``[n, classes]`` logits."""
    return F.cross_entropy(logits, labels.to(logits.device)).item()


def top1(outputs: Tensor, labels: Tensor) -> float:
    """Fraction of ``[n, classes]`` outputs whose highest is the label."""
    return (outputs.argmax(1) == labels.to(outputs.device)).double().mean().item()


def average(views: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of several views of the same pictures.

    Args:
        views: logits ``[n, classes]`` of each view.

    Returns:
        float64 ``[n, classes]``: logarithms of the averaged probabilities, which are logits too.
    """
    return torch.stack([logits.double().log_softmax(1) for logits in views]).logsumexp(0) - math.log(len(views))


@dataclass(frozen=True)
class Reliability:
    """Pictures by the confidence of their answer, the probability of the class it names, in bins of equal width.

    Attributes:
        count: pictures in each bin.
        confidence: their mean confidence; 0 in an empty bin.
        accuracy: the fraction of them that is right; 0 in an empty bin.
    """

    count: list[int]
    confidence: list[float]
    accuracy: list[float]

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al., arXiv:1706.04599, eq. 3), in [0, 1]."""
        bins = zip(self.count, self.confidence, self.accuracy, strict=True)
        return sum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins) / sum(self.count)


def reliability(confidence: Tensor, correct: Tensor, bins: int = BINS) -> Reliability:
    """Bin answers by confidence; a bin holds its upper edge, not its lower.

    Args:
        confidence: float ``[n]`` in [0, 1].
        correct: bool ``[n]``.
        bins: how many.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    bin_of = torch.bucketize(confidence.double().cpu(), edges)
    count = bin_of.bincount(minlength=bins)
    confidence_sum, correct_sum = (
        bin_of.bincount(values.double().cpu(), minlength=bins) for values in (confidence, correct)
    )
    at_least_one = count.clamp(min=1)
    return Reliability(count.tolist(), (confidence_sum / at_least_one).tolist(), (correct_sum / at_least_one).tolist())


@dataclass(frozen=True)
class Scores:
    """How well one set of logits names the classes of n pictures.

    Attributes:
        n: pictures.
        cross_entropy: mean, nats.
        top1: fraction whose most likely class is the true one.
        top5: fraction whose true class is among the five most likely; among all, where there are fewer.
        ece: expected calibration error over 15 bins, in [0, 1].
        per_class: class name -> fraction of its pictures that are named right; NaN where it has none.
        confusion: pictures by ``[true class][predicted class]``.
        reliability: what `ece` sums up.
    """

    n: int
    cross_entropy: float
    top1: float
    top5: float
    ece: float
    per_class: dict[str, float]
    confusion: list[list[int]]
    reliability: Reliability


def measure(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Scores:
    """Every metric of a classifier's answers; nothing is NaN unless the logits are, or a class has no pictures.

    Args:
        logits: float ``[n, classes]``. Probabilities go in as their logarithm, as `average` gives them.
        labels: int64 ``[n]``, on any device.
        classes: names, in the order of the logits.
    """
    logits, labels = logits.double(), labels.to(logits.device)
    confidence, predicted = logits.softmax(1).max(1)
    correct = predicted == labels
    pairs = (labels * len(classes) + predicted).bincount(minlength=len(classes) ** 2)
    confusion = pairs.view(len(classes), len(classes)).cpu()
    likeliest = logits.topk(min(5, len(classes))).indices
    right = (confusion.diagonal() / confusion.sum(1)).tolist()
    bins = reliability(confidence, correct)
    return Scores(
        n=len(labels),
        cross_entropy=cross_entropy(logits, labels),
        top1=correct.double().mean().item(),
        top5=(likeliest == labels[:, None]).any(1).double().mean().item(),
        ece=bins.ece,
        per_class=dict(zip(classes, right, strict=True)),
        confusion=confusion.tolist(),
        reliability=bins,
    )


def worst_mistakes(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The pictures that a classifier is surest to know and does not.

    Args:
        logits: float ``[n, classes]``.
        labels: int64 ``[n]``.
        count: how many at most.

    Returns:
        int64 ``[<= count]``, into the pictures, on the CPU, by falling confidence in the wrong class.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    wrong = (predicted != labels.to(logits.device)).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True, stable=True)][:count].cpu()


def sliding(model: nn.Module, stride: int) -> Normalized:
    """A classifier's fully convolutional form, for pictures of any size from the canvas' up.

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
        canvas: size of the pictures.
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
    """A classifier's answer to every picture of a split, seen through one view, in float32.

    Args:
        model: on the device.
        canvas: size of the pictures.
        view: what is shown of them.
        split: n pictures; fastest where they are on the device.
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
