"""What a run left to be exported: the model, its data, and the graphs that look at them."""

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
    """What is exported and what it has to equal.

    Attributes:
        task: whose model it is.
        trained: the model.
        data: what it was trained on, read again.
        source: where both come from.
        dense: of the fully convolutional graph, the pixels between two answers; None if there is none.
        eager: the model as it was trained, by how it looks at images: plain, and where asked for tta and dense.
        graphs: what leaves, by the same.
    """

    task: Task[Any]
    trained: Trained
    data: Data
    source: Source
    dense: int | None
    eager: dict[str, nn.Module]
    graphs: dict[str, nn.Module]


def read(run: Run, checkpoint: str, dense: int | None = None, root: str | None = None) -> Subject:
    """Read what a run left.

    Args:
        run: where the model comes from.
        checkpoint: ``best``, ``last`` or ``epoch-0005``.
        dense: pixels between two answers of a fully convolutional graph, which there is to be too.
        root: the data set's folder, if it has moved since.

    Raises:
        AssayError: it cannot be read, changes while it is, has no fully convolutional form, or its data set is not the
            one it was trained on any more.
    """
    path = run.checkpoint(checkpoint)
    fingerprint = checkpoints.load(path).get("fingerprint")
    hashes = [sha256(file.read_bytes()) for file in (run.folder / CONFIG, path)]
    trained = load(run, checkpoint)
    if hashes != [sha256(file.read_bytes()) for file in (run.folder / CONFIG, path)]:
        raise ExportError(f"'{path}' changed while it was read: its training goes on. Export again")
    data = data_of(run, root)
    found = data.fingerprint()
    if (data.classes, data.canvas) != (trained.classes, trained.canvas) or fingerprint not in (None, found):
        raise ExportError(
            f"the data set '{data.name}' is not the one '{path}' was trained on: its images, labels or splits "
            "have changed, and the gate would compare on other images. Give the old data set back"
        )
    if len(data.test) == 0:
        raise ExportError(f"the data set '{data.name}' has no test images, and the gate needs some")
    commit = str(run.summary().get("commit", ""))
    task = task_named(data.task)
    looks = [PLAIN, *[TTA] * (len(trained.views) > 1), *[DENSE] * (dense is not None)]
    return Subject(
        task=task,
        trained=trained,
        data=data,
        source=Source(run.name, checkpoint, commit, hashes[0], hashes[1], found),
        dense=dense,
        eager={look: task.eager(trained, look, dense) for look in looks},
        graphs={look: task.exported(trained, look, dense) for look in looks},
    )
