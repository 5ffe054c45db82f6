"""The reason why a training stops: diverged, or no longer improving."""

import math
from collections.abc import Mapping, Sequence

from assay_research.config.schema import Stopping


def reason_to_stop(history: Sequence[Mapping[str, float]], stopping: Stopping) -> str | None:
    """Why a training goes on no longer, in words; None where it does.

    Args:
        history: a record an epoch, as `Loop.history` has them.
        stopping: when to stop early.
    """
    losses = [record["val_loss"] for record in history]
    if not all(math.isfinite(record[key]) for record in history for key in ("train_loss", "val_loss")):
        return f"diverged: the loss is not finite after epoch {len(history)}; try a lower optim.lr or clip_grad_norm"
    patience, min_delta = stopping.patience, stopping.min_delta
    if patience and len(losses) > patience and min(losses[-patience:]) > min(losses[:-patience]) - min_delta:
        return f"validation loss has not improved by {min_delta} for {patience} epochs"
    return None
