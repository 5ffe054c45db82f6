"""Statistics of a data set: classes, objects, and sizes, shapes and positions of boxes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_research.data.reading.annotations import Problem
from assay_research.reports.dataset.collection import SPLITS, Collection
from assay_research.reports.dataset.near_duplicates import Pairs, find_near_duplicates

FAR = 1.5
"""Interquartile ranges beyond the quartiles above which a value is an outlier (Tukey, Exploratory Data Analysis)."""

LEAST_REACH = np.log(1.5)
"""Smallest distance of the fences from the quartiles, in logarithms: if all boxes are nearly equal, a slightly larger
one is no outlier."""

ENOUGH = 12
"""Smallest number of objects of a class for meaningful quartiles."""

GRID = 48
"""Rows and columns of a heat map."""

LIMITS = (8, 16, 32)
"""Sizes in canvas pixels below which objects are counted; COCO calls objects below 32 pixels small."""


def class_counts(labels: NDArray[np.int64], splits: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count the objects of each class in each split, int64 ``[splits, classes]``.

    Args:
        labels: class index of each object.
        splits: index of each object's split in `SPLITS`.
        classes: number of classes.
    """
    return np.bincount(splits * classes + labels, minlength=len(SPLITS) * classes).reshape(len(SPLITS), classes)


def imbalance(counts: Iterable[int]) -> float:
    """Ratio of the most frequent to the rarest class that has objects; 1 without objects."""
    present = [count for count in counts if count]
    return max(present) / min(present) if present else 1.0


def objects_per_image(owners: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """Count the objects of each image, int64 ``[images]``."""
    return np.bincount(owners, minlength=images)


@dataclass(frozen=True, eq=False)
class Shapes:
    """Sizes and shapes of n boxes, float64 ``[n]`` each.

    Attributes:
        width, height: size in pixels of the original image.
        share: area as a fraction of the image's area, in (0, 1].
        aspect: width / height.
        side: square root of the area on the canvas, in pixels.
    """

    width: NDArray[np.float64]
    height: NDArray[np.float64]
    share: NDArray[np.float64]
    aspect: NDArray[np.float64]
    side: NDArray[np.float64]

    @property
    def area(self) -> NDArray[np.float64]:
        """Area in square pixels of the original image."""
        return self.width * self.height


def shapes(boxes: NDArray[np.float64], canvas_boxes: NDArray[np.float32], sizes: NDArray[np.int64]) -> Shapes:
    """Compute sizes and shapes of boxes.

    Args:
        boxes: ``[n, 4]``: left, top, right, bottom in pixels of the original image.
        canvas_boxes: ``[n, 4]``: left, top, right, bottom in canvas pixels.
        sizes: ``[n, 2]``: height and width of the image of each box, in pixels.
    """
    # Rounding can make a side 0, and logarithms are taken.
    width, height = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).T
    sides = np.maximum(canvas_boxes[:, 2:] - canvas_boxes[:, :2], 1e-3).astype(np.float64)
    return Shapes(width, height, width * height / sizes.prod(1), width / height, np.sqrt(sides.prod(1)))


def fences(values: NDArray[np.float64]) -> tuple[float, float]:
    """Tukey's fences of positive values, computed on logarithms because sizes vary by factors, not by differences."""
    low, high = np.quantile(np.log(values), [0.25, 0.75])
    reach = max(FAR * (high - low), LEAST_REACH)
    return float(np.exp(low - reach)), float(np.exp(high + reach))


@dataclass(frozen=True)
class Outlier:
    """Object with a value that is unusual for its class.

    Attributes:
        index: index of the object.
        value: the measured value.
        low, high: the fences of the class.
    """

    index: int
    value: float
    low: float
    high: float

    @property
    def excess(self) -> float:
        """Factor by which the value is beyond the nearer fence."""
        return max(self.value / self.high, self.low / self.value)


def outliers(values: NDArray[np.float64], labels: NDArray[np.int64]) -> list[Outlier]:
    """Find the objects with values beyond the fences of their class, the most extreme first.

    Args:
        values: positive value of each object.
        labels: class index of each object; classes with fewer than `ENOUGH` objects have no outliers.
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
    """Compute a heat map of the fraction of boxes that cover each place of an image.

    Args:
        boxes: ``[n, 4]``: left, top, right, bottom in pixels of the original image.
        sizes: ``[n, 2]``: height and width of the image of each box, in pixels.
        cells: rows and columns of the map.

    Returns:
        ``[cells, cells]``, rows from the top, in [0, 1]: the covered fraction of each cell, averaged over the boxes.
    """
    edges = np.arange(cells + 1) / cells
    scaled = boxes / sizes[:, [1, 0, 1, 0]]

    def covered(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fraction of each grid interval between low and high, ``[n, cells]``."""
        overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        return overlap.clip(min=0) * cells

    left, top, right, bottom = scaled.T
    return covered(top, bottom).T @ covered(left, right) / max(1, len(boxes))


def smaller_than(side: NDArray[np.float64], limits: Sequence[float] = LIMITS) -> list[int]:
    """Count the objects that are smaller on the canvas than each of the limits in pixels."""
    return [int((side < limit).sum()) for limit in limits]


def without_objects(owners: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """Return the indices of the images without any object."""
    return np.flatnonzero(objects_per_image(owners, images) == 0)


@dataclass(frozen=True, eq=False)
class DatasetStatistics:
    """Statistics of a data set, the input of the report.

    Attributes:
        collection: images and objects of the data set, without ignored objects.
        problems: problems found while reading the data set.
        ignored: number of ignored objects, which are not in the other statistics.
        counts: number of objects, int64 ``[splits, classes]``.
        per_image: number of objects of each image, int64 ``[images]``.
        empty: indices of the images without any object, not even an ignored one.
        pairs: near-duplicate pairs of images.
        shapes: sizes and shapes of the objects; None for a data set without boxes.
        size_outliers: objects whose size on the canvas is unusual for their class.
        aspect_outliers: objects whose width / height is unusual for their class.
    """

    collection: Collection
    problems: tuple[Problem, ...]
    ignored: int
    counts: NDArray[np.int64]
    per_image: NDArray[np.int64]
    empty: NDArray[np.int64]
    pairs: Pairs
    shapes: Shapes | None
    size_outliers: list[Outlier]
    aspect_outliers: list[Outlier]


def explore(whole: Collection, problems: Sequence[Problem] = ()) -> DatasetStatistics:
    """Compute all statistics of a data set.

    Args:
        whole: images and objects of the data set, including ignored objects.
        problems: problems found while reading the data set.
    """
    collection, n = whole.learned(), len(whole.names)
    owners, labels = collection.owners, collection.labels
    measured = None
    if collection.canvas_boxes is not None:
        measured = shapes(collection.boxes(), collection.canvas_boxes, collection.sizes[owners])
    return DatasetStatistics(
        collection=collection,
        problems=tuple(problems),
        ignored=len(whole.labels) - len(labels),
        counts=class_counts(labels, collection.splits[owners], len(collection.classes)),
        per_image=objects_per_image(owners, n),
        empty=without_objects(whole.owners, n),
        pairs=find_near_duplicates(collection.unpadded()),
        shapes=measured,
        size_outliers=outliers(measured.side, labels) if measured else [],
        aspect_outliers=outliers(measured.aspect, labels) if measured else [],
    )
