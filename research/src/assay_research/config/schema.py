"""The typed settings of a training and the options of an evaluation, with every default and its description."""

from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config.option import option
from assay_research.errors import ConfigError, nearest

NEWEST = "the run's folder; by default the newest one in `runs`"
RUNS = "the folder that contains the runs"
MOVED = "the data set's folder, if it has moved since the run was trained"


@dataclass
class Stopping:
    """Early stopping: stop if validation loss has not fallen by `min_delta` for `patience` epochs; 0 is never."""

    patience: int = 0
    min_delta: float = 0.001


BATCH_SIZE = 128
"""Default number of images per step."""


@dataclass
class TrainConfig:
    """Settings of a training; their values come from `conf/train.yaml` and the config groups in the same folder.

    `model`, `data`, `augment`, `optim`, `schedule` and each logger contain a `_target_`, the builder's dotted name, and
    its arguments.

    Attributes:
        name: name of the experiment; the run's folder is ``<runs>/<name>/<time>``.
        views: views used at test time, the plain view first.
        epochs: total number of epochs.
        batch_size: images per step.
        accumulate: number of parts that a batch is split into, processed one after the other to save memory.
        sync_batchnorm: with torchrun on several GPUs: BatchNorm's statistics are those of the whole batch, not of each
            GPU's part.
        compile: mode of `torch.compile`: None, ``default``, ``reduce-overhead`` or ``max-autotune``.
        label_smoothing: label smoothing of a classifier's cross-entropy, in [0, 1).
        clip_grad_norm: largest norm of the gradient; None does not clip.
        ema_decay: decay per step of averaged weights, such as 0.999, which are evaluated and saved; None: no averaging.
        seed: random seed of weights, order and augmentation.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto`` (bf16 if the device supports it in hardware), ``fp32`` or ``bf16``.
        logger: loggers by name.
        probe: ``overfit_one_batch`` or ``rate_range``: run this probe instead of a training.
        save_every: save the checkpoint of every n-th epoch; best and last are always saved.
        figures: plot the figures at the end.
        runs: folder that contains the runs.
        resume: folder of a run to resume; ``auto``: the newest run with the same config, if there is one.
    """

    name: str = option(MISSING, "name of the experiment; the run's folder is <runs>/<name>/<time>")
    model: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    augment: dict[str, Any] = MISSING
    stopping: Stopping = option(
        Stopping,
        "stop if validation loss has not fallen by stopping.min_delta (0.001) for that many epochs; 0, the default, "
        "never stops early",
        key="stopping.patience",
        example="8",
    )
    views: list[dict[str, Any]] = option(
        MISSING, "views used at test time, the plain view first", example="[{}, {size: 36, flip: true}]"
    )
    epochs: int = option(MISSING, "number of epochs: passes over all training images")
    batch_size: int = option(BATCH_SIZE, "images per step, over all processes together")
    accumulate: int = option(1, "number of parts that a batch is split into, to save memory")
    sync_batchnorm: bool = option(
        False,
        "with torchrun on several GPUs: BatchNorm statistics of the whole batch, not of each GPU's part",
    )
    compile: str | None = option(
        None,
        "torch.compile: null (off, the default), default, reduce-overhead or max-autotune",
        common=("null", "default", "reduce-overhead", "max-autotune"),
    )
    label_smoothing: float = option(0.0, "fraction of the target that is distributed over all classes")
    clip_grad_norm: float | None = option(None, "largest norm of the gradient; by default no clipping")
    ema_decay: float | None = option(
        None, "decay per step of averaged weights, which are evaluated and saved; by default none", example="0.999"
    )
    seed: int = option(0, "random seed of weights, order, augmentation and dropout")
    device: str = option("auto", "auto is CUDA if available", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "auto", "auto is bf16 if the device supports it in hardware", choices=("auto", "fp32", "bf16")
    )
    logger: dict[str, Any] = field(default_factory=dict)
    probe: str | None = option(
        None,
        "overfit_one_batch or rate_range: run this probe instead of a training",
        common=("overfit_one_batch", "rate_range"),
    )
    save_every: int = option(0, "save the checkpoint of every n-th epoch; best and last are always saved")
    figures: bool = option(True, "plot the run's figures")
    runs: str = option("runs", RUNS, folder=True)
    resume: str | None = option(
        None,
        "folder of a run to resume; auto: the newest run with the same config, if there is one",
        common=("auto",),
        folder=True,
    )


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation."""

    run: str | None = option(None, NEWEST, folder=True)
    runs: str = option("runs", RUNS, folder=True)
    data_root: str | None = option(None, MOVED, key="data.root", folder=True)
    checkpoint: str = option(
        "best",
        "best, last, the number of an epoch, or all: every saved epoch of the run (train with "
        "save_every=1), as a table and a figure over the epochs",
        common=("best", "last", "all"),
    )
    split: str = option(
        "val",
        "Training scores the test images once at its end; if you use test scores to make choices, they are no longer "
        "an unbiased measure",
        choices=("val", "test"),
    )
    views: list[dict[str, Any]] | None = option(
        None,
        "views to evaluate, the plain view first; by default the run's own views",
        example="[{size: 36}, {size: 36, flip: true}]",
    )
    sizes: list[int] | None = option(
        None,
        "test sizes, instead of views. For a classifier the resized image is cropped to its canvas; for a detector the "
        "whole canvas is resized",
        example="[36,40,44]",
    )
    flip: bool = option(False, "also evaluate each of the sizes, or the run's plain view, mirrored", example="true")
    device: str = option("auto", "auto is CUDA if available", choices=("auto", "cpu", "cuda"))
    dense: int | None = option(
        None,
        "stride of dense evaluation in pixels, a power of two up to 32: a VGG-style model is applied as a fully "
        "convolutional network to the whole image, uncropped, at the size of every view",
        example="8",
        section="classifiers only",
    )
    fuse: str | None = option(
        None,
        "fusion of the boxes of several views: wbf (weighted boxes fusion, the default) or nms",
        common=("wbf", "nms"),
        section="detectors only",
    )
    iou: float | None = option(
        None,
        "smallest IoU of a detection with the object that it matches, except for COCO's metrics; by default 0.5",
        example="0.75",
        section="detectors only",
    )
    score: float | None = option(
        None,
        "score threshold of the detections, except for COCO's metrics; by default the one with the best F1",
        example="0.3",
        section="detectors only",
    )


def settings_of(config: DictConfig) -> TrainConfig:
    """Convert a config to the typed settings of a training.

    Raises:
        ConfigError: a value is missing, of the wrong type or out of range, or a key is unknown.
    """
    try:
        settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), config))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(str(error).partition("\n")[0]) from error
    assert isinstance(settings, TrainConfig)
    known = [field.name for field in fields(TrainConfig)]
    for key in map(str, config):
        if key not in known:  # +key=value adds it, and such a run could not be resumed
            raise ConfigError(f"there is no '{key}'; {nearest(key, known)}")
    if settings.epochs < 1:
        raise ConfigError(f"epochs must be at least 1, got {settings.epochs}")
    if settings.save_every < 0:
        raise ConfigError(f"save_every must be 0 (only best and last) or more, got {settings.save_every}")
    if not 0 <= settings.seed < 2**32:
        raise ConfigError(f"seed must be from 0 to {2**32 - 1}, got {settings.seed}")
    return settings
