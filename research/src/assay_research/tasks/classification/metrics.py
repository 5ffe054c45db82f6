"""Every metric of a classifier from its logits: cross-entropy, top-1, top-5, balanced accuracy, ECE, confusion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy in nats of ``[n, classes]`` logits."""
    return F.cross_entropy(logits, labels.to(logits.device)).item()


def top1(outputs: Tensor, labels: Tensor) -> float:
    """Fraction of ``[n, classes]`` outputs whose highest is the label."""
    return (outputs.argmax(1) == labels.to(outputs.device)).double().mean().item()


def average(views: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of several views of the same images.

    Args:
        views: logits ``[n, classes]`` of each view.

    Returns:
        float64 ``[n, classes]``: logarithms of the averaged probabilities, which are logits too.
    """
    return torch.stack([logits.double().log_softmax(1) for logits in views]).logsumexp(0) - math.log(len(views))


@dataclass(frozen=True)
class Reliability:
    """Images by the confidence of their answer, the probability of the class it names, in bins of equal width.

    Attributes:
        count: images in each bin.
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
    """How well one set of logits names the classes of n images.

    Attributes:
        n: images.
        cross_entropy: mean, nats.
        top1: fraction whose most likely class is the true one.
        top5: fraction whose true class is among the five most likely; among all, where there are fewer.
        balanced_accuracy: mean of `per_class` over the classes that have images: each counts the same, however many
            images it has (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764).
        ece: expected calibration error over 15 bins, in [0, 1].
        per_class: class name -> fraction of its images that are named right; NaN where it has none.
        confusion: images by ``[true class][predicted class]``.
        reliability: what `ece` sums up.
    """

    n: int
    cross_entropy: float
    top1: float
    top5: float
    balanced_accuracy: float
    ece: float
    per_class: dict[str, float]
    confusion: list[list[int]]
    reliability: Reliability


def measure(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Scores:
    """Every metric of a classifier's answers; nothing is NaN unless the logits are, or a class has no images.

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
    right = confusion.diagonal() / confusion.sum(1)
    bins = reliability(confidence, correct)
    return Scores(
        n=len(labels),
        cross_entropy=cross_entropy(logits, labels),
        top1=correct.double().mean().item(),
        top5=(likeliest == labels[:, None]).any(1).double().mean().item(),
        balanced_accuracy=right.double().nanmean().item(),
        ece=bins.ece,
        per_class=dict(zip(classes, right.tolist(), strict=True)),
        confusion=confusion.tolist(),
        reliability=bins,
    )


def worst_mistakes(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The images that a classifier is surest to know and does not.

    Args:
        logits: float ``[n, classes]``.
        labels: int64 ``[n]``.
        count: how many at most.

    Returns:
        int64 ``[<= count]``, into the images, on the CPU, by falling confidence in the wrong class.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    wrong = (predicted != labels.to(logits.device)).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True, stable=True)][:count].cpu()
