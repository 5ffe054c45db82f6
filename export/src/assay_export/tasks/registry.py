"""Registry of the tasks whose models can be exported. To add a task, add its module and an entry here."""

from typing import Any

from assay_export.errors import ExportError
from assay_export.tasks.classification import ClassifierExport
from assay_export.tasks.detection import DetectorExport
from assay_export.tasks.task import Task
from assay_research.errors import nearest

TASKS: dict[str, Task[Any]] = {task.name: task for task in (ClassifierExport(), DetectorExport())}
"""Tasks by the name in data sets and manifests."""


def task_named(name: str) -> Task[Any]:
    """Return the task of that name.

    Raises:
        ExportError: models of that task cannot be exported.
    """
    if name not in TASKS:
        raise ExportError(f"models for '{name}' cannot be exported; {nearest(name, TASKS)}")
    return TASKS[name]
