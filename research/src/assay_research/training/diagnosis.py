"""Diagnosis of a finished training: overfitting, underfitting, divergence or not yet converged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GAP = 0.05
"""Smallest difference between training and validation score that counts as a gap."""

RISE = 0.1
"""Smallest rise of the validation loss above its minimum, as a fraction, that counts as a rise."""

STILL = 0.005
"""Smallest gain of the validation score over the last fifth of the epochs that counts as still improving."""


@dataclass(frozen=True)
class FitMetric:
    """Metric that over- and underfitting are diagnosed with.

    Attributes:
        key: key of the validation score in a history's records; higher is better.
        name: name of the score within a sentence.
        template: format string that describes the training and the validation score.
    """

    key: str
    name: str
    template: str


def evenly_spaced(n: int, count: int) -> Tensor:
    """Return the indices of at most `count` of n training images, evenly spaced because images may be sorted by class.

    Returns:
        int64 ``[min(n, count)]``, ascending.
    """
    chosen = min(n, count)
    return torch.arange(chosen) * (n - 1) // max(chosen - 1, 1)


def fit(history: Sequence[dict[str, float]], train_score: float, metric: FitMetric) -> str:
    """Diagnose a training from its history and its model's score on training images.

    Args:
        history: one record per epoch, as in `Loop.history`; at least one.
        train_score: score of the saved model on training images, without augmentation and in eval mode, in [0, 1].
        metric: description of that score.

    Returns:
        One sentence: the diagnosis, and the figures it is based on.
    """
    if not all(math.isfinite(record["val_loss"]) for record in history):
        scores = metric.template.format(train_score, max(record[metric.key] for record in history))
        return f"training diverged ({scores}); try a lower optim.lr or clip_grad_norm"
    best = max(history, key=lambda record: (record[metric.key], -record["val_loss"]))
    lowest = min(history, key=lambda record: record["val_loss"])
    gap = train_score - best[metric.key]
    rise = history[-1]["val_loss"] / max(lowest["val_loss"], 1e-12) - 1
    fifth = max(1, len(history) // 5)
    before = [record[metric.key] for record in history[:-fifth]]
    gained = best[metric.key] - max(before) if before else 0.0
    scores = metric.template.format(train_score, best[metric.key])
    risen = f"validation loss rose from {lowest['val_loss']:.3f} (epoch {lowest['epoch']:.0f}) to "
    risen += f"{history[-1]['val_loss']:.3f}"
    late = f"validation {metric.name} gained {gained:.3f} in the last {fifth} of {len(history)} epochs"
    if gap > GAP and rise > RISE:
        return f"overfitting: {scores}, and {risen}; more augmentation, weight decay or dropout may help"
    if gap > GAP:
        return f"a gap between training and validation: {scores}; more augmentation or weight decay may help"
    if gained > STILL:
        return f"not yet converged: {late} ({scores}); more epochs may help"
    return f"no overfitting: {scores}; if that is too low, a larger model or another learning rate may help"
