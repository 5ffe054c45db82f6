"""A run's model and data, loaded: one of the checkpoints that it kept, and the data set it was trained on."""

from dataclasses import dataclass

import torch
from torch import nn

from assay_deploy.errors import AssayError
from assay_deploy.images.canvas import Canvas, View
from assay_research.config.build import build_model, load_data, read_views
from assay_research.data.protocol import Data
from assay_research.errors import CheckpointError
from assay_research.runs import checkpoint
from assay_research.runs.run import CHECKPOINTS, CONFIG, Run


@dataclass(frozen=True)
class Trained:
    """A trained model and what it needs to be used.

    Attributes:
        model: from float32 ``[batch, 3, height, width]`` in [0, 1] to logits or `Detections`; in eval mode; the
            averaged weights where they were kept.
        classes: names, in the order of the logits or labels.
        canvas: what its images are put on.
        views: what it looks at when tested; the first is the plain view.
    """

    model: nn.Module
    classes: tuple[str, ...]
    canvas: Canvas
    views: tuple[View, ...]


def load(run: Run, name: str = "best", device: torch.device | str = "cpu") -> Trained:
    """The trained model of one checkpoint.

    Args:
        run: that it is of.
        name: ``best``, ``last`` or ``epoch-0005``.
        device: where it goes.

    Raises:
        ConfigError: the run's config names a builder that is not ours.
        CheckpointError: the checkpoint is missing, damaged, not trusted, or of another model.
    """
    config, path = run.config(), run.checkpoint(name)
    state = checkpoint.load(path, device)
    try:
        classes = tuple(str(c) for c in state["classes"])
        canvas = Canvas(**state["canvas"])
        weights = state["ema"] or state["model"]
        model = build_model(config.get("model"), len(classes)).to(device)
        model.load_state_dict(weights)
    except AssayError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        said = str(error)
        raise CheckpointError(
            f"'{path}' does not fit the model of its run's {CONFIG}: "
            + (said if len(said) <= 300 else said[:300] + "...")
        ) from error
    return Trained(model.eval(), classes, canvas, read_views(config.get("views")))


def data_of(run: Run, root: str | None = None) -> Data:
    """The data set a run was trained on, read again; from the folder `root`, if it has moved since."""
    described = run.config().get("data")
    if root is not None and isinstance(described, dict):
        described = {**described, "root": root}
    return load_data(described)


def views_of(run: Run) -> tuple[View, ...]:
    """What a run's model looks at when tested, the plain view first.

    Raises:
        ConfigError: none, or an impossible one.
    """
    return read_views(run.config().get("views"))


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


def load_checked(run: Run, name: str, device: torch.device, data: Data, fingerprint: str) -> tuple[Trained, int]:
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
            "images, labels or splits have changed, and scores would say nothing. Give the old data set back"
        )
    return load(run, name, device), int(state.get("epoch", 0))
