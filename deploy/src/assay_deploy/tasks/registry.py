"""Registry of the tasks; add a new task here."""

from typing import Any

from assay_deploy.tasks.classification import Classification
from assay_deploy.tasks.detection import Detection
from assay_deploy.tasks.task import Task

TASKS: dict[str, Task[Any]] = {task.name: task for task in (Classification(), Detection())}
"""Tasks by their names in manifests."""
