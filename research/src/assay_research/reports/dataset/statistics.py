"""What a data set holds, in numbers: classes, objects, the sizes and shapes of boxes, and where they lie."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_research.data.reading.annotations import Problem
from assay_research.reports.dataset.collection import SPLITS, Collection
from assay_research.reports.dataset.near_duplicates import Pairs, alike

FAR = 1.5
"""Interquartile ranges beyond the quartiles from which a value is an outlier (Tukey, Exploratory Data Analysis)."""

LEAST_REACH = np.log(1.5)
"""Of the fences, beyond the quartiles: where all boxes are nearly alike, one that is a little larger is no outlier."""

ENOUGH = 12
"""Objects of a class from which its quartiles mean something."""

GRID = 48
"""Cells a side of a heat map."""

LIMITS = (8, 16, 32)
"""Pixels on the canvas under which objects are counted; COCO calls those under 32 small."""


def class_counts(labels: NDArray[np.int64], splits: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Objects by ``[split][class]``.

    Args:
        labels: of n objects.
        splits: of the same objects, into `SPLITS`.
        classes: how many there are.
    """
    return np.bincount(splits * classes + labels, minlength=len(SPLITS) * classes).reshape(len(SPLITS), classes)


def imbalance(counts: Iterable[int]) -> float:
    """Objects of the most frequent class for each of the rarest that has any."""
    present = [count for count in counts if count]
    return max(present) / min(present) if present else 1.0


def objects_per_image(owners: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """How many objects each image holds, ``[images]``."""
    return np.bincount(owners, minlength=images)


@dataclass(frozen=True, eq=False)
class Shapes:
    """Sizes and shapes of n boxes, an entry each.

    Attributes:
        width, height: pixels of the image.
        share: of the image's area, in (0, 1].
        aspect: width by height.
        side: of a square of the box's area on the canvas, pixels.
    """

    width: NDArray[np.float64]
    height: NDArray[np.float64]
    share: NDArray[np.float64]
    aspect: NDArray[np.float64]
    side: NDArray[np.float64]

    @property
    def area(self) -> NDArray[np.float64]:
        """Pixels of the image."""
        return self.width * self.height


def shapes(boxes: NDArray[np.float64], canvas_boxes: NDArray[np.float32], sizes: NDArray[np.int64]) -> Shapes:
    """Measure boxes.

    Args:
        boxes: ``[n, 4]``: left, top, right, bottom in the image's own pixels.
        canvas_boxes: the same in canvas pixels.
        sizes: ``[n, 2]``: height and width of the image of each box, pixels.
    """
    # A box can be as thin as rounding makes it, and logarithms are taken.
    width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).T
    sides = np.maximum(canvas_boxes[:, 2:] - canvas_boxes[:, :2], 1e-3).astype(np.float64)
    return Shapes(width, height, width * height / sizes.prod(1), width / height, np.sqrt(sides.prod(1)))


def fences(values: NDArray[np.float64]) -> tuple[float, float]:
    """Tukey's fences of positive values, set on their logarithms: sizes spread by factors, not by differences."""
    low, high = np.quantile(np.log(values), [0.25, 0.75])
    reach = max(FAR * (high - low), LEAST_REACH)
    return float(np.exp(low - reach)), float(np.exp(high + reach))


@dataclass(frozen=True)
class Outlier:
    """An object that is unlike the others of its class.

    Attributes:
        index: of the object.
        value: what was measured.
        low, high: the fences of its class.
    """

    index: int
    value: float
    low: float
    high: float

    @property
    def excess(self) -> float:
        """By what factor it lies beyond the fence."""
        return max(self.value / self.high, self.low / self.value)


def outliers(values: NDArray[np.float64], labels: NDArray[np.int64]) -> list[Outlier]:
    """The objects beyond the fences of their own class, the farthest first.

    Args:
        values: positive, of n objects.
        labels: of the same; classes of fewer than `ENOUGH` objects have no outliers.
    """
    found = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) >= ENOUGH:
            low, high = fences(values[members])
            beyond = members[(values[members] < low) | (values[members] > high)]
            found += [Outlier(int(i), float(values[i]), low, high) for i in beyond]
    return sorted(found, key=lambda each: (-each.excess, each.index))


def coverage(boxes: NDArray[np.float64], sizes: NDArray[np.int64], cells: int = GRID) -> NDArray[np.float64]:
    """How many boxes cover each place of an image, on average over the boxes.

    Args:
        boxes: ``[n, 4]``: left, top, right, bottom in the image's own pixels.
        sizes: ``[n, 2]``: height and width of the image of each, pixels.
        cells: a side of the map.

    Returns:
        ``[cells, cells]``, rows from the top, in [0, 1]: the part of a cell that a box covers, averaged.
    """
    edges = np.arange(cells + 1) / cells
    scaled = boxes / sizes[:, [1, 0, 1, 0]]

    def covered(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part of each interval of the grid that lies between low and high, ``[n, cells]``."""
        overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return overlap.clip(min=0) * cells

    left, top, right, bottom = scaled.T
    return covered(top, bottom).T @ covered(left, right) / max(1, len(boxes))


def smaller_than(side: NDArray[np.float64], limits: Sequence[float] = LIMITS) -> list[int]:
    """How many objects are smaller on the canvas than each of the limits, pixels."""
    return [int((side < limit).sum()) for limit in limits]


def without_objects(owners: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """The images that hold no object at all."""
    return np.flatnonzero(objects_per_image(owners, images) == 0)


@dataclass(frozen=True, eq=False)
class Exploration:
    """Everything that was counted and measured of a data set.

    Attributes:
        collection: what it is of; its objects are those to be learned.
        problems: what reading it went on from.
        ignored: objects that are neither learned nor counted here.
        counts: objects by ``[split][class]``.
        per_image: objects of each image.
        empty: images without any object, ignored ones included.
        pairs: images that look alike.
        shapes: of the objects; None for a data set without boxes.
        odd_sizes: objects whose side, the root of their area on the canvas, is unlike that of others of their class.
        odd_aspects: the same for width by height.
    """

    collection: Collection
    problems: tuple[Problem, ...]
    ignored: int
    counts: NDArray[np.int64]
    per_image: NDArray[np.int64]
    empty: NDArray[np.int64]
    pairs: Pairs
    shapes: Shapes | None
    odd_sizes: list[Outlier]
    odd_aspects: list[Outlier]


def explore(whole: Collection, problems: Sequence[Problem] = ()) -> Exploration:
    """Count and measure everything."""
    collection, n = whole.learned(), len(whole.names)
    owners, labels = collection.owners, collection.labels
    measured = None
    if collection.canvas_boxes is not None:
        measured = shapes(collection.boxes(), collection.canvas_boxes, collection.sizes[owners])
    return Exploration(
        collection=collection,
        problems=tuple(problems),
        ignored=len(whole.labels) - len(labels),
        counts=class_counts(labels, collection.splits[owners], len(collection.classes)),
        per_image=objects_per_image(owners, n),
        empty=without_objects(whole.owners, n),
        pairs=alike(collection.unpadded()),
        shapes=measured,
        odd_sizes=outliers(measured.side, labels) if measured else [],
        odd_aspects=outliers(measured.aspect, labels) if measured else [],
    )
