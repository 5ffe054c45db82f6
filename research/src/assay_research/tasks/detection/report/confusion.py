"""A detector's confusion matrix read by genus, and pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay_research.tasks.detection.report.errors import Integers


def genus(name: str) -> str:
    """The first word of a class' name."""
    return name.partition(" ")[0]


def by_genus(confusion: Integers, classes: Sequence[str]) -> tuple[tuple[str, ...], Integers]:
    """Add up the rows and columns of each genus.

    Args:
        confusion: int ``[classes + 1, classes + 1]``, the background last.
        classes: names; the first word of each is its genus.

    Returns:
        The genera, in the order in which the classes first name them, and int ``[genera + 1, genera + 1]``.
    """
    genera = tuple(dict.fromkeys(map(genus, classes)))
    places = [*(genera.index(genus(name)) for name in classes), len(genera)]
    grouped = np.zeros((len(genera) + 1, len(genera) + 1), np.int64)
    np.add.at(grouped, np.ix_(places, places), confusion)
    return genera, grouped


@dataclass(frozen=True)
class Mistaken:
    """Objects of one class that were taken for another.

    Attributes:
        true, predicted: names of the classes.
        count: such objects.
        objects: of the true class in all, found, confused and missed.
    """

    true: str
    predicted: str
    count: int
    objects: int


def mistaken(confusion: Integers, classes: Sequence[str]) -> list[Mistaken]:
    """Which classes are taken for which, the most frequent mistake first.

    Args:
        confusion: int ``[classes + 1, classes + 1]``, the background last.
        classes: names.
    """
    between = confusion[:-1, :-1] * ~np.eye(len(classes), dtype=np.bool_)
    pairs = [
        Mistaken(classes[row], classes[column], int(between[row, column]), int(confusion[row].sum()))
        for row, column in zip(*between.nonzero(), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.objects))
