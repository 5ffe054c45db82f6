"""What a task, classification or detection, has to tell an experiment."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes:
        scores: of the test split, ``test_`` and a metric's name, with ``_tta`` where it is seen through all views.
        fit: whether it fits its data too little or too well, in words and with the evidence.
        draw: writes the figures into a folder, under a title.
    """

    scores: dict[str, float]
    fit: str
    draw: Callable[[Path, str], None]
