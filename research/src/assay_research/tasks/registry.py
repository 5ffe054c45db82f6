"""The tasks there are."""

from types import ModuleType

from assay_research.data.classification import ClassificationData
from assay_research.data.detection import DetectionData
from assay_research.tasks.classification import task as classify

Data = ClassificationData | DetectionData


def task_of(data: Data) -> ModuleType:
    """The task that such data are for: `classify` or `detect`."""
    if isinstance(data, ClassificationData):
        return classify
    from assay_research.tasks.detection import (
        task as detect,  # torchvision's detectors, which a classifier can do without
    )

    return detect
