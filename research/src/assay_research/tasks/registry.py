"""Registry of the tasks, by the task name that a data set states."""

from dataclasses import fields
from typing import Any

from assay_research.config.schema import EvaluationOptions
from assay_research.data.protocol import Data
from assay_research.errors import ConfigError, nearest
from assay_research.tasks.classification.task import ClassificationTask
from assay_research.tasks.detection.task import DetectionTask
from assay_research.tasks.task import Task

TASKS: dict[str, Task[Any, Any]] = {
    "classification": ClassificationTask(),
    "detection": DetectionTask(),
}


def task_of(data: Data) -> Task[Any, Any]:
    """Return the task of a data set.

    Raises:
        ConfigError: no task has the name that the data set states.
    """
    if data.task not in TASKS:
        raise ConfigError(f"the data set '{data.name}' is for the task '{data.task}'; {nearest(data.task, TASKS)}")
    return TASKS[data.task]


def check_options(options: EvaluationOptions, task: Task[Any, Any]) -> None:
    """Raise ConfigError if an evaluation option of another task was given."""
    given = {field.name for field in fields(options) if getattr(options, field.name) not in (None, field.default)}
    for other in TASKS.values():
        for name in sorted((given & other.options) - task.options):
            raise ConfigError(f"{name}= is an option for {other.model}, but the model of this run is {task.model}")
