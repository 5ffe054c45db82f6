"""Metrics of a classifier from its logits: cross-entropy, top-1, top-5, balanced accuracy, ECE, confusion."""

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
    """Fraction of the rows of ``[n, classes]`` outputs whose largest value is at the label's index."""
    return (outputs.argmax(1) == labels.to(outputs.device)).double().mean().item()


def average(views: Sequence[Tensor]) -> Tensor:
    """Average the probabilities of several views of the same images.

    Args:
        views: logits ``[n, classes]`` of each view.

    Returns:
        float64 ``[n, classes]``: logarithms of the averaged probabilities, which are valid logits.
    """
    return torch.stack([logits.double().log_softmax(1) for logits in views]).logsumexp(0) - math.log(len(views))


@dataclass(frozen=True)
class Reliability:
    """Predictions grouped by confidence, the probability of the predicted class, in bins of equal width.

    Attributes:
        count: number of images in each bin.
        confidence: mean confidence of each bin; 0 in an empty bin.
        accuracy: fraction of correct predictions in each bin; 0 in an empty bin.
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
    """Group predictions by confidence; a bin includes its upper edge, not its lower.

    Args:
        confidence: float ``[n]`` in [0, 1].
        correct: bool ``[n]``, True where the prediction is correct.
        bins: number of bins.
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
    """Metrics of a classifier on n images.

    Attributes:
        n: number of images.
        cross_entropy: mean cross-entropy in nats.
        top1: fraction of images whose most likely class is the true one.
        top5: fraction of images whose true class is among the five most likely, or among all if there are fewer.
        balanced_accuracy: mean of `per_class` over the classes that have images, so that each class counts the same
            (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764).
        ece: expected calibration error over 15 bins, in [0, 1].
        per_class: class name -> accuracy on its images; NaN for a class without images.
        confusion: number of images by ``[true class][predicted class]``.
        reliability: the bins that `ece` is computed from.
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
    """Compute every metric of a classifier; no value is NaN unless a logit is, or a class has no images.

    Args:
        logits: float ``[n, classes]``; log-probabilities, as `average` returns them, are valid logits.
        labels: int64 ``[n]``, on any device.
        classes: names of the classes, in the order of the logits.
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
    """Return the indices of the wrong predictions with the highest confidence.

    Args:
        logits: float ``[n, classes]``.
        labels: int64 ``[n]``.
        count: largest number of indices.

    Returns:
        int64 ``[<= count]`` on the CPU: image indices, by descending confidence.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    wrong = (predicted != labels.to(logits.device)).nonzero().flatten()
    return wrong[confidence[wrong].argsort(descending=True, stable=True)][:count].cpu()
