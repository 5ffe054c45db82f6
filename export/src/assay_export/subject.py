"""Read a run for export: the trained model, its data set, and the graphs to export."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import DENSE, PLAIN, TTA, Source
from assay_export.errors import ExportError
from assay_export.tasks.registry import task_named
from assay_export.tasks.task import Task
from assay_research.data.protocol import Data
from assay_research.runs import checkpoint as checkpoints
from assay_research.runs.run import CONFIG, Run
from assay_research.runs.trained import Trained, data_of, load


@dataclass(frozen=True)
class Subject:
    """A trained model, the graphs exported from it, and the eager modules that these are compared with.

    Attributes:
        task: the task that the model was trained for.
        trained: the trained model.
        data: the data set that it was trained on, read again.
        source: origin of model and data, for the manifest.
        dense: stride of the dense graph in pixels; None if there is no dense graph.
        eager: the unchanged eager module of each variant: ``plain``, and if available ``tta`` and ``dense``.
        graphs: the module that is exported for each variant.
    """

    task: Task[Any]
    trained: Trained
    data: Data
    source: Source
    dense: int | None
    eager: dict[str, nn.Module]
    graphs: dict[str, nn.Module]


def read(run: Run, checkpoint: str, dense: int | None = None, root: str | None = None) -> Subject:
    """Load the model and the data set of a run.

    Args:
        run: the run to export.
        checkpoint: name of the checkpoint: ``best``, ``last`` or for example ``epoch-0005``.
        dense: stride in pixels of an additional fully convolutional graph; None for no such graph.
        root: the data set's folder, if it has moved since training.

    Raises:
        AssayError: the run cannot be read or changes during reading, the model has no fully convolutional form, or the
            data set has changed since training.
    """
    path = run.checkpoint(checkpoint)
    fingerprint = checkpoints.load(path).get("fingerprint")
    hashes = [sha256(file.read_bytes()) for file in (run.folder / CONFIG, path)]
    trained = load(run, checkpoint)
    if hashes != [sha256(file.read_bytes()) for file in (run.folder / CONFIG, path)]:
        raise ExportError(f"'{path}' changed while it was read: its training is still running. Export again")
    data = data_of(run, root)
    found = data.fingerprint()
    if (data.classes, data.canvas) != (trained.classes, trained.canvas) or fingerprint not in (None, found):
        raise ExportError(
            f"the data set '{data.name}' is not the one '{path}' was trained on: its images, labels or splits "
            "have changed, and the gate would compare on other images. Restore the original data set"
        )
    if len(data.test) == 0:
        raise ExportError(f"the data set '{data.name}' has no test images, and the gate needs at least one")
    commit = str(run.summary().get("commit", ""))
    task = task_named(data.task)
    variants = [PLAIN, *[TTA] * (len(trained.views) > 1), *[DENSE] * (dense is not None)]
    return Subject(
        task=task,
        trained=trained,
        data=data,
        source=Source(run.name, checkpoint, commit, hashes[0], hashes[1], found),
        dense=dense,
        eager={variant: task.eager(trained, variant, dense) for variant in variants},
        graphs={variant: task.exported(trained, variant, dense) for variant in variants},
    )
