"""The tasks whose models can be exported: a new one is its file and a line here."""

from typing import Any

from assay_export.errors import ExportError
from assay_export.tasks.classification import ClassifierExport
from assay_export.tasks.detection import DetectorExport
from assay_export.tasks.task import Task
from assay_research.errors import nearest

TASKS: dict[str, Task[Any]] = {task.name: task for task in (ClassifierExport(), DetectorExport())}
"""By the name that data sets and manifests give."""


def task_named(name: str) -> Task[Any]:
    """The task of that name.

    Raises:
        ExportError: there is none.
    """
    if name not in TASKS:
        raise ExportError(f"models for '{name}' cannot be exported; {nearest(name, TASKS)}")
    return TASKS[name]
