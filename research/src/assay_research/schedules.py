"""Learning-rate schedules: factors on the base rate as functions of the training progress."""

import math
from typing import Any


class Constant:
    """Constant learning rate, and the interface of all schedules."""

    def factor(self, progress: float) -> float:
        """Return the factor on the base rate at `progress`, the fraction of all steps done, in [0, 1]."""
        assert 0 <= progress <= 1
        return 1.0

    def observe(self, val_loss: float) -> None:
        """Update the schedule with the validation loss at the end of an epoch."""

    def state(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state saved in a checkpoint."""
        assert set(state) == set(self.state())


class OneCycle(Constant):
    """Linear warm-up from 1/25 of the base rate, then cosine decay to 0 (after Smith and Topin, arXiv:1708.07120).

    If a run is resumed with more epochs, the cycle is stretched over the new total.

    Args:
        warmup: fraction of all steps used for the warm-up, in (0, 1).
    """

    def __init__(self, warmup: float = 0.3) -> None:
        if not 0 < warmup < 1:
            raise ValueError(f"warmup is a fraction of training, between 0 and 1, got {warmup}")
        self.warmup = warmup

    def factor(self, progress: float) -> float:
        """See `Constant.factor`."""
        if progress < self.warmup:
            return 0.04 + 0.96 * progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


class Plateau(Constant):
    """Reduction of the learning rate each time the validation loss has not fallen for some epochs.

    Args:
        multiplier: factor on the rate at each plateau, in (0, 1).
        patience: number of epochs without improvement that count as a plateau.
        min_delta: smallest decrease of the loss that counts as an improvement.
    """

    def __init__(self, multiplier: float = 0.1, patience: int = 5, min_delta: float = 0.001) -> None:
        if not 0 < multiplier < 1 or patience < 1:
            raise ValueError(
                f"expected 0 < multiplier < 1 and patience >= 1, got multiplier={multiplier}, patience={patience}"
            )
        self.multiplier, self.patience, self.min_delta = multiplier, patience, min_delta
        self.best, self.waited, self.current = math.inf, 0, 1.0

    def factor(self, progress: float) -> float:
        """See `Constant.factor`."""
        assert 0 <= progress <= 1
        return self.current

    def observe(self, val_loss: float) -> None:
        """See `Constant.observe`."""
        if val_loss < self.best - self.min_delta:
            self.best, self.waited = val_loss, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.current, self.waited = self.current * self.multiplier, 0

    def state(self) -> dict[str, Any]:
        """See `Constant.state`."""
        return {"best": self.best, "waited": self.waited, "current": self.current}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Constant.restore`."""
        self.best, self.waited, self.current = state["best"], state["waited"], state["current"]
