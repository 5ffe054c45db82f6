"""The one score that a run is judged by, wherever runs of several tasks stand in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A score in [0, 1]; records hold it as ``val_<key>``, ``test_<key>`` and ``test_<key>_tta``.

    Attributes:
        key: of records.
        name: within a table.
    """

    key: str
    name: str

    @property
    def val(self) -> str:
        """Key of the validation score."""
        return f"val_{self.key}"

    @property
    def scores(self) -> tuple[str, str, str]:
        """Keys of the test score, of the test score with views, and of the validation score."""
        return f"test_{self.key}", f"test_{self.key}_tta", self.val


TOP1 = Metric("top1", "top-1")
MAP = Metric("map", "mAP")
"""COCO's: the mean over classes and over IoU thresholds from 0.5 to 0.95."""


METRICS = [TOP1, MAP]
"""What the tasks are judged by, one each; a new task adds its own."""


def metric_of(record: Mapping[str, Any]) -> Metric:
    """The metric that a summary, or an epoch's record, is judged by: the one it has a validation score of."""
    return next((metric for metric in METRICS if metric.val in record), METRICS[0])
