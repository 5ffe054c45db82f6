"""Load a run's model from one of its checkpoints, and the data set it was trained on."""

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
    """Trained model with its classes, canvas and views.

    Attributes:
        model: model from float32 ``[batch, 3, height, width]`` in [0, 1] to logits or `Detections`, in eval mode, with
            averaged weights if the checkpoint has them.
        classes: names of the classes, in the order of the logits or labels.
        canvas: canvas that images are placed on.
        views: views used at test time; the first is the plain view.
    """

    model: nn.Module
    classes: tuple[str, ...]
    canvas: Canvas
    views: tuple[View, ...]


def load(run: Run, name: str = "best", device: torch.device | str = "cpu") -> Trained:
    """Load the trained model of one checkpoint.

    Args:
        run: the run that the checkpoint belongs to.
        name: name of the checkpoint: ``best``, ``last`` or ``epoch-0005``.
        device: device of the model.

    Raises:
        ConfigError: the run's config names a builder that is not part of this package.
        CheckpointError: the checkpoint is missing, damaged, untrusted, or of another model.
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
        message = str(error)
        raise CheckpointError(
            f"'{path}' does not fit the model of its run's {CONFIG}: "
            + (message if len(message) <= 300 else message[:300] + "...")
        ) from error
    return Trained(model.eval(), classes, canvas, read_views(config.get("views")))


def data_of(run: Run, root: str | None = None) -> Data:
    """Load the data set that a run was trained on; from the folder `root` if it is not None."""
    described = run.config().get("data")
    if root is not None and isinstance(described, dict):
        described = {**described, "root": root}
    return load_data(described)


def views_of(run: Run) -> tuple[View, ...]:
    """Return the views that a run uses at test time, the plain view first.

    Raises:
        ConfigError: there is no view, or a view is invalid.
    """
    return read_views(run.config().get("views"))


def choose_checkpoints(run: Run, wanted: str) -> list[str]:
    """Return the names of the checkpoints to score; for ``all``, the epochs in order, then best and last.

    Args:
        run: the run.
        wanted: ``best``, ``last``, ``all``, the number of an epoch, or ``epoch-0005``.

    Raises:
        CheckpointError: the run has no such checkpoints.
    """
    kept = [path.stem for path in (run.folder / CHECKPOINTS).glob("*.pt")]
    epochs = sorted((name for name in kept if name.startswith("epoch-")), key=lambda name: (len(name), name))
    there = [*epochs, *(name for name in ("best", "last") if name in kept)]
    name = f"epoch-{int(wanted):04d}" if wanted.isdecimal() else wanted
    if name in there:
        return [name]
    if name != "all":
        raise CheckpointError(
            f"'{run.folder}' has no checkpoint '{wanted}'; its checkpoints: {', '.join(there) or 'none'}. "
            "To save every epoch, train with save_every=1"
        )
    if not epochs:
        raise CheckpointError(
            f"checkpoint=all needs checkpoints of epochs, and '{run.folder}' has none: train with save_every=1"
        )
    return there


def load_checked(run: Run, name: str, device: torch.device, data: Data, fingerprint: str) -> tuple[Trained, int]:
    """Load a checkpoint's model and its epoch; check that it was trained on the given data.

    Args:
        run: the run that the checkpoint belongs to.
        name: name of the checkpoint.
        device: device of the model.
        data: the data set.
        fingerprint: fingerprint of the data set.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or was trained on other data.
    """
    state = checkpoint.load(run.checkpoint(name), "meta")  # only its plain values, without tensors
    if state.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"'{run.checkpoint(name)}' was not trained on the data set '{data.name}' as it is now: its "
            "images, labels or splits have changed, so scores would not be valid. Restore the old data set"
        )
    return load(run, name, device), int(state.get("epoch", 0))
