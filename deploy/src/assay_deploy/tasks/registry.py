"""The tasks a bundle may hold: a new one is its file and a line here."""

from typing import Any

from assay_deploy.tasks.classification import Classification
from assay_deploy.tasks.detection import Detection
from assay_deploy.tasks.task import Task

TASKS: dict[str, Task[Any]] = {task.name: task for task in (Classification(), Detection())}
"""By the name that a manifest gives."""
