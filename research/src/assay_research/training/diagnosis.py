"""Judge whether a finished training fits its data too little or too well, in words and with the evidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GAP = 0.05
"""A training score this much above the validation score counts as a gap."""

RISE = 0.1
"""A validation loss that ends this fraction above its lowest counts as risen."""

STILL = 0.005
"""A validation score that gained this much over the last fifth of the epochs was still improving."""


@dataclass(frozen=True)
class Yardstick:
    """What a fit is judged by.

    Attributes:
        key: of the validation score in a history's records; the higher the better.
        score: its name, within a sentence.
        seen: what the two scores say, with places for the training and the validation score.
    """

    key: str
    score: str
    seen: str


def spread(n: int, most: int) -> Tensor:
    """Which training images to look at: `most` of n at even distances, for those of a class may stand together.

    Returns:
        int64 ``[min(n, most)]``, rising.
    """
    chosen = min(n, most)
    return torch.arange(chosen) * (n - 1) // max(chosen - 1, 1)


def fit(history: Sequence[dict[str, float]], train_score: float, by: Yardstick) -> str:
    """Judge a training by its curves and by one look at training images as they are.

    Args:
        history: a record an epoch, as `Loop.history` has them; at least one.
        train_score: the kept model's on training images, without augmentation and in eval mode, in [0, 1].
        by: what that score is.

    Returns:
        One sentence: the verdict, and the figures it rests on.
    """
    if not all(math.isfinite(record["val_loss"]) for record in history):
        seen = by.seen.format(train_score, max(record[by.key] for record in history))
        return f"neither over- nor underfitting, for training diverged ({seen}); try a lower optim.lr or clip_grad_norm"
    best = max(history, key=lambda record: (record[by.key], -record["val_loss"]))
    lowest = min(history, key=lambda record: record["val_loss"])
    gap = train_score - best[by.key]
    rise = history[-1]["val_loss"] / max(lowest["val_loss"], 1e-12) - 1
    fifth = max(1, len(history) // 5)
    before = [record[by.key] for record in history[:-fifth]]
    gained = best[by.key] - max(before) if before else 0.0
    seen = by.seen.format(train_score, best[by.key])
    risen = f"validation loss rose from {lowest['val_loss']:.3f} (epoch {lowest['epoch']:.0f}) to "
    risen += f"{history[-1]['val_loss']:.3f}"
    late = f"validation {by.score} gained {gained:.3f} in the last {fifth} of {len(history)} epochs"
    if gap > GAP and rise > RISE:
        return f"overfitting: {seen}, and {risen}; more augmentation, weight decay or dropout may help"
    if gap > GAP:
        return f"a gap between training and validation: {seen}; more augmentation or weight decay may help"
    if gained > STILL:
        return f"not yet converged: {late} ({seen}); more epochs may help"
    return f"no overfitting: {seen}; if that is too few, a larger model or another learning rate may help"
