"""Whether a finished training fits its data too little or too well, in words and with the evidence."""

from collections.abc import Sequence

GAP = 0.05
"""Training accuracy this much above validation accuracy counts as a gap."""

RISE = 0.1
"""A validation loss that ends this fraction above its lowest counts as risen."""

STILL = 0.005
"""A validation accuracy that gained this much over the last fifth of the epochs was still improving."""


def fit(history: Sequence[dict[str, float]], train_top1: float) -> str:
    """Judge a training by its curves and by one look at training pictures as they are.

    Args:
        history: a record an epoch, as `Trainer.history` has them; at least one.
        train_top1: the kept model's accuracy on training pictures, without augmentation and in eval mode, in [0, 1].

    Returns:
        One sentence: the verdict, and the figures it rests on.
    """
    best = max(history, key=lambda record: (record["val_top1"], -record["val_loss"]))
    lowest = min(history, key=lambda record: record["val_loss"])
    gap = train_top1 - best["val_top1"]
    rise = history[-1]["val_loss"] / max(lowest["val_loss"], 1e-12) - 1
    fifth = max(1, len(history) // 5)
    before = [record["val_top1"] for record in history[:-fifth]]
    gained = best["val_top1"] - max(before) if before else 0.0
    seen = f"{train_top1:.3f} of training pictures right, {best['val_top1']:.3f} of validation pictures"
    risen = f"validation loss rose from {lowest['val_loss']:.3f} (epoch {lowest['epoch']:.0f}) to "
    risen += f"{history[-1]['val_loss']:.3f}"
    late = f"validation accuracy gained {gained:.3f} in the last {fifth} of {len(history)} epochs"
    if gap > GAP and rise > RISE:
        return f"overfitting: {seen}, and {risen}; more augmentation, weight decay or dropout may help"
    if gap > GAP:
        return f"a gap between training and validation: {seen}; more augmentation or weight decay may help"
    if gained > STILL:
        return f"not yet converged: {late} ({seen}); more epochs may help"
    return f"no overfitting: {seen}; if that is too few, a larger model or another learning rate may help"
