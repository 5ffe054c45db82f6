"""Stopping criteria of a training: divergence, or no further improvement."""

import math
from collections.abc import Mapping, Sequence

from assay_research.config.schema import Stopping


def reason_to_stop(history: Sequence[Mapping[str, float]], stopping: Stopping) -> str | None:
    """Return the reason to stop a training, as text; None to continue.

    Args:
        history: one record per epoch, as in `Loop.history`.
        stopping: settings of early stopping.
    """
    losses = [record["val_loss"] for record in history]
    if not all(math.isfinite(record[key]) for record in history for key in ("train_loss", "val_loss")):
        return f"diverged: the loss is not finite after epoch {len(history)}; try a lower optim.lr or clip_grad_norm"
    patience, min_delta = stopping.patience, stopping.min_delta
    if patience and len(losses) > patience and min(losses[-patience:]) > min(losses[:-patience]) - min_delta:
        return f"validation loss has not improved by {min_delta} for {patience} epochs"
    return None
