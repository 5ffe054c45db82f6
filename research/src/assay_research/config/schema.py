"""The typed settings of a training and the options of an evaluation, with every default and its description."""

from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config.option import option
from assay_research.errors import ConfigError, nearest

NEWEST = "the run's folder; by default the newest one in `runs`"
RUNS = "the folder that holds runs"
MOVED = "the data set's folder, if it is not where it was when the run was trained"


@dataclass
class Stopping:
    """Stop when validation loss has not fallen by `min_delta` for `patience` epochs; patience 0 never stops early."""

    patience: int = 0
    min_delta: float = 0.001


BATCH_SIZE = 128
"""Images a step, where nothing else is said."""


@dataclass
class TrainConfig:
    """Everything a training is made of; `conf/train.yaml` and the groups beside it fill it in.

    `model`, `data`, `augment`, `optim`, `schedule` and each logger hold a `_target_`, the builder's dotted name, and
    its arguments.

    Attributes:
        name: of the experiment; a run goes to ``<runs>/<name>/<time>``.
        views: what the model looks at when tested, the plain view first.
        epochs: in all.
        batch_size: images a step.
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

    name: str = option(MISSING, "of the experiment; the run goes to <runs>/<name>/<time>")
    model: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    augment: dict[str, Any] = MISSING
    stopping: Stopping = option(
        Stopping,
        "stop when validation loss has not fallen by stopping.min_delta (0.001) for that many epochs; 0, the default, "
        "never does",
        key="stopping.patience",
        example="8",
    )
    views: list[dict[str, Any]] = option(
        MISSING, "what the model looks at when tested, the plain view first", example="[{}, {size: 36, flip: true}]"
    )
    epochs: int = option(MISSING, "how often all training images are seen")
    batch_size: int = option(BATCH_SIZE, "images a step, those of all processes together")
    accumulate: int = option(1, "parts that a batch is taken in, one after the other, where memory is short")
    sync_batchnorm: bool = option(
        False,
        "with torchrun on several GPUs: BatchNorm statistics of the whole batch, not of each GPU's part",
    )
    compile: str | None = option(
        None,
        "torch.compile: null (off, the default), default, reduce-overhead or max-autotune",
        common=("null", "default", "reduce-overhead", "max-autotune"),
    )
    label_smoothing: float = option(0.0, "share of the target that is spread over all classes")
    clip_grad_norm: float | None = option(None, "largest norm of the gradient; by default any")
    ema_decay: float | None = option(
        None, "per step: evaluate and keep averaged weights; by default those of the last step", example="0.999"
    )
    seed: int = option(0, "of weights, order, augmentation and dropout")
    device: str = option("auto", "auto is CUDA where there is one", choices=("auto", "cpu", "cuda"))
    precision: str = option("auto", "auto is bf16 where the device multiplies it", choices=("auto", "fp32", "bf16"))
    logger: dict[str, Any] = field(default_factory=dict)
    probe: str | None = option(
        None,
        "overfit_one_batch or rate_range: answer that question and make no run",
        common=("overfit_one_batch", "rate_range"),
    )
    save_every: int = option(0, "keep the checkpoint of every n-th epoch; best and last are always kept")
    figures: bool = option(True, "draw the run's figures")
    runs: str = option("runs", RUNS, folder=True)
    resume: str | None = option(
        None,
        "a run's folder: go on with it; auto: with the newest run of this very config, if there is one",
        common=("auto",),
        folder=True,
    )


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation may be asked for."""

    run: str | None = option(None, NEWEST, folder=True)
    runs: str = option("runs", RUNS, folder=True)
    data_root: str | None = option(None, MOVED, key="data.root", folder=True)
    checkpoint: str = option(
        "best",
        "best, last, the number of an epoch, or all: every epoch that the run kept (train with "
        "save_every=1), as a table and a figure over the epochs",
        common=("best", "last", "all"),
    )
    split: str = option(
        "val",
        "Training ends by scoring the test images once; what is chosen by looking at them again is no longer "
        "measured by them",
        choices=("val", "test"),
    )
    views: list[dict[str, Any]] | None = option(
        None,
        "what to look at, the plain view first; by default the run's own views",
        example="[{size: 36}, {size: 36, flip: true}]",
    )
    sizes: list[int] | None = option(
        None,
        "test sizes, instead of views. A classifier's are cropped to its canvas; a detector is shown the whole "
        "canvas, larger or smaller",
        example="[36,40,44]",
    )
    flip: bool = option(False, "each of the sizes, or the run's plain view, is looked at mirrored too", example="true")
    device: str = option("auto", "auto is CUDA where there is one", choices=("auto", "cpu", "cuda"))
    dense: int | None = option(
        None,
        "pixels between two answers of dense evaluation, a power of two up to 32: a VGG-style model slides over the "
        "whole image, uncropped, at the size of every view",
        example="8",
        section="classifiers only",
    )
    fuse: str | None = option(
        None,
        "how boxes of several views become one: wbf (weighted boxes fusion, the default) or nms",
        common=("wbf", "nms"),
        section="detectors only",
    )
    iou: float | None = option(
        None,
        "least IoU of a detection that is in an object's place, for all but COCO's figures; by default 0.5",
        example="0.75",
        section="detectors only",
    )
    score: float | None = option(
        None,
        "least score of a detection that is judged; by default the one with the best F1",
        example="0.3",
        section="detectors only",
    )


def settings_of(config: DictConfig) -> TrainConfig:
    """The settings of a training, typed.

    Raises:
        ConfigError: a value that is missing, of the wrong type or impossible, or a key that there is not.
    """
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), config))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(str(error).partition("\n")[0]) from error
    assert isinstance(settings, TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    for key in map(str, config):
        if key not in known:  # +key=value adds it, and no training could go on with such a run
            raise ConfigError(f"there is no '{key}'; {nearest(key, known)}")
    if settings.epochs < 1:
        raise ConfigError(f"epochs must be at least 1, got {settings.epochs}")
    if settings.save_every < 0:
        raise ConfigError(f"save_every must be 0, for best and last alone, or more, got {settings.save_every}")
    if not 0 <= settings.seed < 2**32:
        raise ConfigError(f"seed must be from 0 to {2**32 - 1}, got {settings.seed}")
    return settings
