"""A detector's confusion matrix grouped by genus, and its confused pairs of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay_research.tasks.detection.report.errors import Integers


def genus(name: str) -> str:
    """Return the first word of a class name."""
    return name.partition(" ")[0]


def by_genus(confusion: Integers, classes: Sequence[str]) -> tuple[tuple[str, ...], Integers]:
    """Sum the rows and columns of each genus.

    Args:
        confusion: int ``[classes + 1, classes + 1]``, true classes in rows; the last row and column, the background,
            give no pairs.
        classes: names of the classes; the first word of each is its genus.

    Returns:
        The genera in the order of their first class, and int ``[genera + 1, genera + 1]``.
    """
    genera = tuple(dict.fromkeys(map(genus, classes)))
    places = [*(genera.index(genus(name)) for name in classes), len(genera)]
    grouped = np.zeros((len(genera) + 1, len(genera) + 1), np.int64)
    np.add.at(grouped, np.ix_(places, places), confusion)
    return genera, grouped


@dataclass(frozen=True)
class Mistaken:
    """Number of objects of one class that were detected as another class.

    Attributes:
        true, predicted: names of the classes.
        count: number of such objects.
        objects: number of all objects of the true class: found, confused and missed.
    """

    true: str
    predicted: str
    count: int
    objects: int


def mistaken(confusion: Integers, classes: Sequence[str]) -> list[Mistaken]:
    """Return the confused pairs (true class, predicted class) with their counts, the most frequent first.

    Args:
        confusion: int ``[classes + 1, classes + 1]``, the background last.
        classes: names of the classes.
    """
    between = confusion[:-1, :-1] * ~np.eye(len(classes), dtype=np.bool_)
    pairs = [
        Mistaken(classes[row], classes[column], int(between[row, column]), int(confusion[row].sum()))
        for row, column in zip(*between.nonzero(), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.objects))
