"""The tasks whose models can be exported."""

from types import ModuleType

from assay_research.data.classification import ClassificationData
from assay_research.data.protocol import Data


def task_of(data: Data) -> ModuleType:
    """The task that such data are for: `classification` or `detection`, two modules of the same functions."""
    from assay_export.tasks import classification, detection  # which import this module

    return classification if isinstance(data, ClassificationData) else detection
