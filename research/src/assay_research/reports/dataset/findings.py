"""What is suspicious about a data set, in words, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_research.reports.dataset.collection import SPLITS
from assay_research.reports.dataset.statistics import Exploration, imbalance, smaller_than

FEW = 20
"""Training objects of a class from which little is learned, and below which an average precision is mostly chance."""

UNEVEN = 10
"""Times as many objects of the most frequent class as of the rarest, from which that is said."""

SMALL = 16
"""Pixels on the canvas: four cells of the finest feature map that torchvision's detectors look at, 4 pixels each."""

MANY_SMALL = 0.05
"""Part of the objects under `SMALL` from which that is said."""

UNIFORM = 2
"""Look-alike pairs an image from which likeness tells nothing: all images are of one kind, as written digits are."""


@dataclass(frozen=True)
class DatasetFinding:
    """Something to know before training.

    Attributes:
        anchor: of the section that shows it.
        level: ``bad``: scores would mislead; ``look``: look at it; ``note``: good to know.
        what: the fact.
        advice: what to do; "" where there is nothing.
    """

    anchor: str
    level: str
    what: str
    advice: str = ""


def findings(seen: Exploration) -> list[DatasetFinding]:
    """Everything that is worth a sentence, the worst first."""
    found = [*_alike(seen), *_classes(seen), *_reading(seen), *_objects(seen)]
    return sorted(found, key=lambda each: ("bad", "look", "note").index(each.level))


def leaks(seen: Exploration) -> NDArray[np.bool_]:
    """Which of the look-alike pairs lie in two splits."""
    splits = seen.collection.splits
    return np.asarray(splits[seen.pairs.first] != splits[seen.pairs.second])


def uniform(seen: Exploration) -> bool:
    """Whether so many images look alike that it means nothing."""
    return int((~seen.pairs.exact).sum()) > UNIFORM * len(seen.collection.names)


def _alike(seen: Exploration) -> Iterator[DatasetFinding]:
    across, exact = leaks(seen), seen.pairs.exact
    counted = exact if uniform(seen) else np.ones_like(exact)
    leaking, within = int((across & counted).sum()), int((~across & counted).sum())
    if leaking:
        copies = int((across & exact).sum())
        also = f", {copies:,} of them exact copies" if copies else ""
        yield DatasetFinding(
            "look-alikes",
            "bad",
            f"In {amount(leaking, 'pair')}, images of two splits show the same scene{also}: what is learned from one "
            "is tested on the other, and scores come out too good.",
            "Put both images of each into the same split, or remove one.",
        )
    if within:
        copies = int((~across & exact).sum())
        also = f", {copies:,} of them exact copies" if copies else ""
        yield DatasetFinding(
            "look-alikes",
            "look" if copies else "note",
            f"In {amount(within, 'pair')}, images of one split show the same scene{also}.",
            "They teach and test less than as many different images would; remove copies.",
        )
    if uniform(seen):
        yield DatasetFinding(
            "look-alikes",
            "note",
            f"{len(seen.pairs):,} pairs of images look alike: these images are too uniform for likeness to tell "
            "copies from others, and only exact copies are told of.",
        )


def _classes(seen: Exploration) -> Iterator[DatasetFinding]:
    classes, total = seen.collection.classes, seen.counts.sum(0)
    for split, counts in zip(SPLITS, seen.counts, strict=True):
        missing = [name for name, count in zip(classes, counts, strict=True) if not count]
        if missing and counts.any():
            advice = "Cut the splits anew, stratified by class, or add images."
            effect = "cannot be learned" if split == "train" else "cannot be scored there"
            what = f"{amount(len(missing), 'class', 'classes')} without objects in {split}, which {effect}: "
            yield DatasetFinding("classes", "bad" if split == "train" else "look", what + some(missing) + ".", advice)
    few = [name for name, count in zip(classes, seen.counts[0], strict=True) if 0 < count < FEW]
    if few:
        yield DatasetFinding(
            "classes",
            "look",
            f"{amount(len(few), 'class', 'classes')} with fewer than {FEW} training objects: {some(few)}.",
            "Expect little of them, and read their scores as chance; collect more, or merge them.",
        )
    ratio = imbalance(total.tolist())
    if ratio > UNEVEN:
        most, least = int(total.argmax()), int(np.where(total, total, total.max() + 1).argmin())
        yield DatasetFinding(
            "classes",
            "look",
            f"There are {ratio:,.0f} times as many objects of '{classes[most]}' ({total[most]:,}) as of "
            f"'{classes[least]}' ({total[least]:,}).",
            "Read the score of every class, and not only their mean or the share of right answers.",
        )


def _reading(seen: Exploration) -> Iterator[DatasetFinding]:
    if seen.problems:
        yield DatasetFinding(
            "problems",
            "look",
            f"{amount(len(seen.problems), 'problem')} met while reading the data set; training goes on without what "
            "cannot be used.",
            "Each is named, with what became of it.",
        )
    if seen.ignored:
        yield DatasetFinding(
            "problems",
            "note",
            f"{amount(seen.ignored, 'object')} marked as crowd or difficult: neither learned nor counted here.",
        )


def _objects(seen: Exploration) -> Iterator[DatasetFinding]:
    if seen.shapes is None:
        return
    canvas, n = seen.collection.canvas, max(1, len(seen.collection.labels))
    (small,) = smaller_than(seen.shapes.side, [SMALL])
    if small > MANY_SMALL * n:
        yield DatasetFinding(
            "shapes",
            "look",
            f"{small / n:.0%} of the objects are smaller than {SMALL}x{SMALL} pixels on the "
            f"{canvas.width}x{canvas.height} canvas.",
            "Train on a larger canvas, if the images have more pixels than that.",
        )
    odd = {each.index for each in (*seen.odd_sizes, *seen.odd_aspects)}
    if odd:
        yield DatasetFinding(
            "outliers",
            "look",
            f"{amount(len(odd), 'object')} ({len(odd) / n:.1%}) of a size or shape unusual for the class.",
            "Look at the first ones: a wrong class, a box around two objects, or one cut off at the image's edge?",
        )
    if len(seen.empty):
        yield DatasetFinding(
            "images",
            "look",
            f"{amount(len(seen.empty), 'image')} without any object.",
            "As background they teach a detector to stay silent; make sure that nothing in them was forgotten.",
        )


def amount(n: int, one: str, more: str = "") -> str:
    """``1 pair``, ``2,000 pairs``."""
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def some(names: Sequence[str], limit: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more
