"""Probes before a long training: overfit one batch, and find a learning rate."""

import math
from dataclasses import dataclass

from assay_research.errors import ConfigError
from assay_research.training.loop import Loop

LEARNED = 0.01
"""Loss in nats below which a batch counts as overfitted."""

WARMUP = 100
"""Warm-up steps; without them the first large step can kill the ReLUs of a network without BatchNorm."""


@dataclass(frozen=True)
class Memorised:
    """Result of training on a single batch.

    Attributes:
        steps: number of steps taken.
        loss: loss of the last step in nats.
        others: other values that the last step measured, by their names in `Loop.MEASURED`.
    """

    steps: int
    loss: float
    others: dict[str, float]

    @property
    def learned(self) -> bool:
        """True if the model overfits the batch."""
        return self.loss < LEARNED


@dataclass(frozen=True)
class RateRange:
    """Training loss at increasing learning rates.

    Attributes:
        rates: base learning rate of each step.
        losses: smoothed training loss of each step in nats.
    """

    rates: list[float]
    losses: list[float]

    @property
    def suggested(self) -> float:
        """A tenth of the rate with the lowest loss: above it the loss rises, and far below it training is slow."""
        return self.rates[self.losses.index(min(self.losses))] / 10


def overfit_one_batch(trainer: Loop, steps: int = 500) -> Memorised:
    """Train only on the first batch of the epoch, without augmentation, until the model overfits it.

    The learning rate rises to the base rate over the first `WARMUP` steps.

    A network that cannot do this has a fault that more data will not fix. The trainer cannot be used afterwards.

    Args:
        trainer: new trainer; its augmentation is switched off.
        steps: largest number of steps.

    Raises:
        ConfigError: the loss of the trainer's task does not fall to near 0.
    """
    trainer.disable_augmentation()
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
    """Increase the learning rate exponentially until the loss diverges (L. N. Smith, arXiv:1506.01186).

    Losses are exponentially smoothed by 0.95 with bias correction. The probe ends early once the smoothed loss is four
    times the lowest. The trainer cannot be used afterwards.

    Args:
        trainer: new trainer; the rates of all its parameter groups rise together, the first group's from `low`.
        low: first learning rate.
        high: last learning rate.
        steps: number of steps from `low` to `high`.

    Raises:
        ConfigError: the base rate is 0, or the loss is not finite from the start.
    """
    trainer.model.train()
    order = trainer.order()
    base = trainer.optimizer.param_groups[0]["initial_lr"]
    if not base > 0:
        raise ConfigError(f"probe=rate_range needs optim.lr > 0, got {base}")
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
        raise ConfigError(f"the loss of the first step, at a learning rate of {low}, is not finite: check the model")
    return RateRange(rates, losses)
