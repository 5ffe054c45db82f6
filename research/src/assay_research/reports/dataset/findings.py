"""Findings about a data set: possible problems in words, each with advice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_research.reports.dataset.collection import SPLITS
from assay_research.reports.dataset.statistics import DatasetStatistics, imbalance, smaller_than

FEW = 20
"""Smallest number of training objects of a class without a finding; with fewer, its score is mostly chance."""

IMBALANCED = 10
"""Ratio of the most frequent to the rarest class above which a finding reports class imbalance."""

SMALL = 16
"""Size in canvas pixels below which an object is small: four cells, 4 pixels each, of the finest feature map that
torchvision's detectors use."""

MANY_SMALL = 0.05
"""Fraction of objects smaller than `SMALL` above which a finding reports them."""

UNIFORM = 2
"""Near-duplicate pairs per image above which similarity is no evidence: all images are of one kind, like digits."""


@dataclass(frozen=True)
class DatasetFinding:
    """Finding about a data set, to read before training.

    Attributes:
        anchor: anchor of the page section with the details.
        level: ``problem`` if scores would be misleading, ``warning`` if it should be checked, or ``note``.
        message: description of the finding.
        advice: recommended action; "" if none.
    """

    anchor: str
    level: str
    message: str
    advice: str = ""


def findings(statistics: DatasetStatistics) -> list[DatasetFinding]:
    """Return all findings, the most severe first."""
    found = [*_near_duplicates(statistics), *_classes(statistics), *_reading(statistics), *_objects(statistics)]
    return sorted(found, key=lambda each: ("problem", "warning", "note").index(each.level))


def leaks(statistics: DatasetStatistics) -> NDArray[np.bool_]:
    """Return True for each near-duplicate pair with images in different splits, bool ``[pairs]``."""
    splits = statistics.collection.splits
    return np.asarray(splits[statistics.pairs.first] != splits[statistics.pairs.second])


def uniform(statistics: DatasetStatistics) -> bool:
    """Return True if so many images are similar that similarity is no evidence for near-duplicates."""
    return int((~statistics.pairs.exact).sum()) > UNIFORM * len(statistics.collection.names)


def _near_duplicates(statistics: DatasetStatistics) -> Iterator[DatasetFinding]:
    across, exact = leaks(statistics), statistics.pairs.exact
    counted = exact if uniform(statistics) else np.ones_like(exact)
    leaking, within = int((across & counted).sum()), int((~across & counted).sum())
    if leaking:
        copies = int((across & exact).sum())
        also = f", {copies:,} of them exact copies" if copies else ""
        yield DatasetFinding(
            "near-duplicates",
            "problem",
            f"Near-duplicate images in different splits: {amount(leaking, 'pair')}{also}. A model that was trained on "
            "one image of a pair and is evaluated on the other gets too high a score.",
            "Put both images of a pair into the same split, or remove one.",
        )
    if within:
        copies = int((~across & exact).sum())
        also = f", {copies:,} of them exact copies" if copies else ""
        yield DatasetFinding(
            "near-duplicates",
            "warning" if copies else "note",
            f"Near-duplicate images within a split: {amount(within, 'pair')}{also}.",
            "They contribute less than different images. Remove exact copies.",
        )
    if uniform(statistics):
        yield DatasetFinding(
            "near-duplicates",
            "note",
            f"{len(statistics.pairs):,} pairs of images are similar. These images are too uniform to tell "
            "near-duplicates from other images, so only exact copies are reported.",
        )


def _classes(statistics: DatasetStatistics) -> Iterator[DatasetFinding]:
    classes, total = statistics.collection.classes, statistics.counts.sum(0)
    for split, counts in zip(SPLITS, statistics.counts, strict=True):
        missing = [name for name, count in zip(classes, counts, strict=True) if not count]
        if missing and counts.any():
            advice = "Split the data again, stratified by class, or add images."
            effect = "cannot be learned" if split == "train" else "cannot be evaluated on this split"
            message = f"Classes without objects in {split}: {len(missing):,} ({some(missing)}). Such a class {effect}."
            yield DatasetFinding("classes", "problem" if split == "train" else "warning", message, advice)
    few = [name for name, count in zip(classes, statistics.counts[0], strict=True) if 0 < count < FEW]
    if few:
        yield DatasetFinding(
            "classes",
            "warning",
            f"Classes with fewer than {FEW} training objects: {len(few):,} ({some(few)}).",
            "Their scores are unreliable. Collect more objects, or merge classes.",
        )
    ratio = imbalance(total.tolist())
    if ratio > IMBALANCED:
        most, least = int(total.argmax()), int(np.where(total, total, total.max() + 1).argmin())
        yield DatasetFinding(
            "classes",
            "warning",
            f"Class imbalance: '{classes[most]}' has {ratio:,.0f} times as many objects ({total[most]:,}) as "
            f"'{classes[least]}' ({total[least]:,}).",
            "Check the score of every class, not only the mean or the accuracy.",
        )


def _reading(statistics: DatasetStatistics) -> Iterator[DatasetFinding]:
    if statistics.problems:
        yield DatasetFinding(
            "problems",
            "warning",
            f"{amount(len(statistics.problems), 'problem')} found while reading the data set. Unusable parts are left "
            "out of training.",
            "The section lists all of them, with the consequence of each.",
        )
    if statistics.ignored:
        yield DatasetFinding(
            "problems",
            "note",
            f"{amount(statistics.ignored, 'object')} marked as crowd or difficult. They are excluded from training and "
            "from these statistics.",
        )


def _objects(statistics: DatasetStatistics) -> Iterator[DatasetFinding]:
    if statistics.shapes is None:
        return
    canvas, n = statistics.collection.canvas, max(1, len(statistics.collection.labels))
    (small,) = smaller_than(statistics.shapes.side, [SMALL])
    if small > MANY_SMALL * n:
        yield DatasetFinding(
            "shapes",
            "warning",
            f"{small / n:.0%} of the objects are smaller than {SMALL}x{SMALL} pixels on the "
            f"{canvas.width}x{canvas.height} canvas.",
            "Use a larger canvas if the images have more pixels.",
        )
    odd = {each.index for each in (*statistics.size_outliers, *statistics.aspect_outliers)}
    if odd:
        yield DatasetFinding(
            "outliers",
            "warning",
            f"{amount(len(odd), 'object')} ({len(odd) / n:.1%}) with a size or shape that is unusual for the class.",
            "Check the first ones for a wrong class, a box around two objects, or an object cut off at an edge.",
        )
    if len(statistics.empty):
        yield DatasetFinding(
            "images",
            "warning",
            f"{amount(len(statistics.empty), 'image')} without any object.",
            "A detector learns background from such images. Check that no object in them was left unannotated.",
        )


def amount(n: int, one: str, more: str = "") -> str:
    """Format a number with its noun, such as ``1 pair`` or ``2,000 pairs``."""
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def some(names: Sequence[str], limit: int = 8) -> str:
    """Join the first `limit` names, and add the number of the others."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more
