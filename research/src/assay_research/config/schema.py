"""A run's configuration is data: a typed schema, and builders that only ever come from this package."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Stopping:
    """Stop when validation loss has not fallen by `min_delta` for `patience` epochs; patience 0 never stops early."""

    patience: int = 0
    min_delta: float = 0.001


BATCH_SIZE = 128
"""Pictures a step, where nothing else is said."""


@dataclass
class TrainConfig:
    """Everything a training is made of; `conf/train.yaml` and the groups beside it fill it in.

    `model`, `data`, `augment`, `optim` and `schedule` hold a `_target_`, the builder's dotted name, and its arguments.
    """

    name: str = MISSING
    model: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    augment: dict[str, Any] = MISSING
    stopping: Stopping = field(default_factory=Stopping)
    views: list[dict[str, Any]] = MISSING
    epochs: int = MISSING
    batch_size: int = BATCH_SIZE
    accumulate: int = 1
    sync_batchnorm: bool = False
    compile: str | None = None
    label_smoothing: float = 0.0
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    logger: dict[str, Any] = field(default_factory=dict)
    probe: str | None = None
    save_every: int = 0
    figures: bool = True
    runs: str = "runs"
    resume: str | None = None
