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

    `model`, `data`, `augment`, `optim`, `schedule` and each logger hold a `_target_`, the builder's dotted name, and
    its arguments.

    Attributes:
        name: of the experiment; a run goes to ``<runs>/<name>/<time>``.
        views: what the model looks at when tested, the plain view first.
        epochs: in all.
        batch_size: pictures a step.
        accumulate: parts that a batch is taken in, one after the other, where memory is short.
        sync_batchnorm: with torchrun on several GPUs: BatchNorm's statistics are those of the whole batch, not of each
            GPU's part.
        compile: of `torch.compile`: None, ``default``, ``reduce-overhead`` or ``max-autotune``.
        label_smoothing: of a classifier's cross-entropy, in [0, 1).
        clip_grad_norm: largest norm of the gradient; None does not clip.
        ema_decay: per step, 0.999 say: averaged weights are evaluated and kept.
        seed: of weights, order and augmentation.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto`` (bf16 where the device multiplies it), ``fp32`` or ``bf16``.
        logger: by name.
        probe: ``overfit_one_batch`` or ``rate_range``: answer that question and make no run.
        save_every: keep the checkpoint of every n-th epoch; best and last are always kept.
        figures: draw them at the end.
        runs: the folder of runs.
        resume: a run's folder: go on with it; ``auto``: with the newest run of this very config, if there is one.
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
