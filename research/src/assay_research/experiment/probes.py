"""Two questions to ask before a long training: can it learn one batch by heart, and at which rate does it learn?"""

import math
from dataclasses import dataclass

from assay_research.errors import ConfigError
from assay_research.training.loop import Loop

LEARNED = 0.01
"""A batch whose loss is below this many nats is known by heart."""

WARMUP = 100
"""Steps; without them a network without BatchNorm can lose its ReLUs to the first large step."""


@dataclass(frozen=True)
class Memorised:
    """What became of training on one batch alone.

    Attributes:
        steps: how many it took, or all that were allowed.
        loss: of the last step, nats.
        others: what else the last step measured, by its name in `Loop.MEASURED`.
    """

    steps: int
    loss: float
    others: dict[str, float]

    @property
    def learned(self) -> bool:
        """Whether the batch is known by heart."""
        return self.loss < LEARNED


@dataclass(frozen=True)
class RateRange:
    """Training loss against a learning rate that rises from step to step.

    Attributes:
        rates: base rate of each step.
        losses: smoothed training loss at each, nats.
    """

    rates: list[float]
    losses: list[float]

    @property
    def suggested(self) -> float:
        """A tenth of the rate with the lowest loss: past that the loss rises, and well below it training is slow."""
        return self.rates[self.losses.index(min(self.losses))] / 10


def overfit_one_batch(trainer: Loop, steps: int = 500) -> Memorised:
    """Train on the first batch of the epoch alone, unvaried, until it is known by heart.

    The rate rises to the base rate over the first `WARMUP` steps.

    A network that cannot do this has a fault that no amount of data will mend. The trainer is spent afterwards.

    Args:
        trainer: fresh; its settings of augmentation are not used.
        steps: at most.

    Raises:
        ConfigError: the loss of its task does not end near 0.
    """
    trainer.leave_unvaried()
    trainer.model.train()
    batch = trainer.order()[: trainer.batch_size]
    taken, loss, rest = 0, math.inf, list[float]()
    while taken < steps and loss >= LEARNED and not math.isnan(loss):
        taken += 1
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min(1.0, taken / WARMUP)
        loss, *rest = trainer.train_batch(batch)
    return Memorised(taken, loss, dict(zip(trainer.MEASURED[1:], rest, strict=True)))


def rate_range(trainer: Loop, low: float = 1e-5, high: float = 10.0, steps: int = 200) -> RateRange:
    """Raise the learning rate exponentially until the loss runs away (L. N. Smith, arXiv:1506.01186).

    Losses are smoothed exponentially by 0.95 and corrected for their start. It ends early once the smoothed loss is
    four times the lowest. The trainer is spent afterwards.

    Args:
        trainer: fresh; all its groups rise together, the first from `low`.
        low: the first rate.
        high: the last.
        steps: from the one to the other.

    Raises:
        ConfigError: a base rate of 0, or a loss that is not finite from the start.
    """
    trainer.model.train()
    order = trainer.order()
    base = trainer.optimizer.param_groups[0]["initial_lr"]
    if not base > 0:
        raise ConfigError(f"expected optim.lr > 0, of which the range takes multiples, got {base}")
    average = 0.0
    rates: list[float] = []
    losses: list[float] = []
    for step in range(steps):
        rate = low * (high / low) ** (step / max(1, steps - 1))
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate / base
        first = step % trainer.steps_per_epoch * trainer.batch_size
        loss, *_ = trainer.train_batch(order[first : first + trainer.batch_size])
        average = 0.95 * average + 0.05 * loss
        smooth = average / (1 - 0.95 ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > 4 * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
    if not losses:
        raise ConfigError(f"the loss of the very first step, at a rate of {low}, is not finite: look at the model")
    return RateRange(rates, losses)
