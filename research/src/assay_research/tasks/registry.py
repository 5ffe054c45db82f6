"""The tasks there are, by the name that data say they are for."""

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
    """The task that data are for.

    Raises:
        ConfigError: there is none of the name.
    """
    if data.task not in TASKS:
        raise ConfigError(f"the data set '{data.name}' is for the task '{data.task}'; {nearest(data.task, TASKS)}")
    return TASKS[data.task]


def check_options(options: EvaluationOptions, task: Task[Any, Any]) -> None:
    """Refuse options of an evaluation that are another task's.

    Raises:
        ConfigError: one of them was given.
    """
    given = {field.name for field in fields(options) if getattr(options, field.name) not in (None, field.default)}
    for other in TASKS.values():
        for name in sorted((given & other.options) - task.options):
            raise ConfigError(f"{name}= is {other.model}'s; this run has trained something else")
