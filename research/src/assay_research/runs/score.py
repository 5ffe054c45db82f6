"""Main metric of each task, used to rank runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """Metric in [0, 1], recorded as ``val_<key>``, ``test_<key>`` and ``test_<key>_tta``.

    Attributes:
        key: key in records, without prefix and suffix.
        name: name in tables.
    """

    key: str
    name: str

    @property
    def val(self) -> str:
        """Key of the validation score."""
        return f"val_{self.key}"

    @property
    def scores(self) -> tuple[str, str, str]:
        """Keys of the test score, of the test score with test-time augmentation, and of the validation score."""
        return f"test_{self.key}", f"test_{self.key}_tta", self.val


TOP1 = Metric("top1", "top-1")
MAP = Metric("map", "mAP")
"""COCO's mAP: the mean over classes and over IoU thresholds from 0.5 to 0.95."""


METRICS = [TOP1, MAP]
"""Main metrics of the tasks, one each; a new task adds its own."""


def metric_of(record: Mapping[str, Any]) -> Metric:
    """Return the main metric of a summary or an epoch's record: the one that it has a validation score of."""
    return next((metric for metric in METRICS if metric.val in record), METRICS[0])
