"""What an evaluation may be asked for, and the checkpoints that a run kept."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from omegaconf import OmegaConf

from assay_deploy.canvas import View
from assay_research import checkpoint
from assay_research.data import ClassificationData
from assay_research.data.boxes import DetectionData
from assay_research.errors import CheckpointError, ConfigError
from assay_research.run import CHECKPOINTS, Run, Trained, read_views


@dataclass
class Options:
    """What the command line may say."""

    run: str | None = None
    checkpoint: str = "best"
    split: str = "val"
    views: list[dict[str, Any]] | None = None
    sizes: list[int] | None = None
    flip: bool = False
    dense: int | None = None
    fuse: str | None = None
    iou: float | None = None
    score: float | None = None
    device: str = "auto"
    runs: str = "runs"
    data_root: str | None = None


def check(options: Options, others: Iterable[str], whose: str) -> None:
    """Refuse options that are another task's.

    Raises:
        ConfigError: one of them was given.
    """
    given = [field.name for field in fields(options) if getattr(options, field.name) not in (None, field.default)]
    wrong = [name for name in given if name in others]
    if wrong:
        raise ConfigError(f"{wrong[0]}= is {whose}; this run has trained something else")


def chosen_views(options: Options, own: tuple[View, ...]) -> tuple[View, ...]:
    """The views that the options ask for, the plain one first; the run's own where they ask for none.

    Raises:
        ConfigError: an impossible view, or two lists of views.
    """
    if options.views is not None:
        if options.sizes is not None or options.flip:
            raise ConfigError("views= is the whole list of views; give either views= or sizes= and flip=")
        return read_views(OmegaConf.create({"views": options.views}))
    if options.sizes is None and not options.flip:
        return own
    sizes = [{"size": size} for size in options.sizes or []]
    unmirrored = own[:1] if options.sizes is None else read_views(OmegaConf.create({"views": sizes}))
    flips = (False, True) if options.flip else (False,)
    return tuple(replace(view, flip=flip) for view in unmirrored for flip in flips)


def choose_checkpoints(run: Run, wanted: str) -> list[str]:
    """Names of the checkpoints to score; of ``all``, the epochs in their order, then best and last.

    Raises:
        CheckpointError: the run did not keep them.
    """
    kept = [path.stem for path in (run.folder / CHECKPOINTS).glob("*.pt")]
    epochs = sorted((name for name in kept if name.startswith("epoch-")), key=lambda name: (len(name), name))
    there = [*epochs, *(name for name in ("best", "last") if name in kept)]
    name = f"epoch-{int(wanted):04d}" if wanted.isdecimal() else wanted
    if name in there:
        return [name]
    if name != "all":
        raise CheckpointError(
            f"'{run.folder}' has no checkpoint '{wanted}'; there: {', '.join(there) or 'none'}. "
            "Training keeps every epoch with save_every=1"
        )
    if not epochs:
        raise CheckpointError(
            f"'{run.folder}' kept no checkpoint of its epochs, which checkpoint=all scores: train with save_every=1"
        )
    return there


def load(
    run: Run, name: str, device: torch.device, data: ClassificationData | DetectionData, fingerprint: str
) -> tuple[Trained, int]:
    """A checkpoint's model and its epoch, if it was trained on these data.

    Args:
        run: that it is of.
        name: of the checkpoint.
        device: where it goes.
        data: as they are now.
        fingerprint: of them.

    Raises:
        CheckpointError: missing, damaged, or of other data.
    """
    state = checkpoint.load(run.checkpoint(name), "meta")  # what it says of itself, without its tensors
    if state.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"'{run.checkpoint(name)}' was not trained on the data set '{data.name}' as it is now: its "
            "pictures, labels or splits have changed, and scores would say nothing. Give the old data set back"
        )
    return run.load(name, device), int(state.get("epoch", 0))
