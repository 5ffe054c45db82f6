"""Precision against recall at every score, and the score at which their balance is best."""

from dataclasses import dataclass

import numpy as np

from assay_research.tasks.detection.report.errors import NONE, Booleans, Floats, Matching

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads a curve off."""


@dataclass(frozen=True)
class Curve:
    """What would be found if all detections from one score on were kept, for each of their scores.

    Attributes:
        score: falling, ``[detections]``; those that ignored objects excuse are left out.
        precision: the right ones among the detections up to this one, ``[detections]``.
        recall: the objects they find among all, ``[detections]``; NaN where there are none.
        objects: how many there are.
    """

    score: Floats
    precision: Floats
    recall: Floats
    objects: int

    def interpolated(self) -> Floats:
        """The highest precision at each of `RECALLS` or beyond it, 0 where it is not reached; COCO's curve."""
        highest = np.maximum.accumulate(self.precision[::-1])[::-1]
        reached = np.searchsorted(self.recall, RECALLS)
        values: Floats = np.append(highest, 0)[reached]
        return values if self.objects else np.full(len(RECALLS), np.nan)

    @property
    def average_precision(self) -> float:
        """COCO's at the IoU of the matching; NaN where there are no objects."""
        return float(self.interpolated().mean())


def curve(matching: Matching, label: int | None = None) -> Curve:
    """The curve of one class, or of all together.

    Args:
        matching: of all detections.
        label: of the class; None for all.
    """
    kept, objects = ~matching.excused, ~matching.ignored
    if label is not None:
        kept &= matching.detections.label == label
        objects &= matching.objects.label == label
    order = np.flatnonzero(kept)
    order = order[np.argsort(-matching.score[order], kind="stable")]
    right = (matching.matched[order] != NONE).cumsum()
    count = int(objects.sum())
    recall = right / count if count else np.full(len(right), np.nan)
    return Curve(matching.score[order], right / np.arange(1, len(order) + 1), recall, count)


def curves(matching: Matching) -> dict[str, Curve]:
    """The curve of every class, by name."""
    return {name: curve(matching, label) for label, name in enumerate(matching.classes)}


@dataclass(frozen=True)
class Threshold:
    """The score from which on detections are best kept.

    Attributes:
        score: the threshold; NaN where no detection is right.
        f1: harmonic mean of precision and recall with that threshold, the highest there is; NaN without objects.
        precision, recall: with that threshold; 0 where no detection is right, NaN without objects.
    """

    score: float
    f1: float
    precision: float
    recall: float


def best_threshold(found: Curve) -> Threshold:
    """The score threshold with the highest F1; of several the highest."""
    if not found.objects:
        return Threshold(*[float("nan")] * 4)
    if not found.recall.any():
        return Threshold(float("nan"), 0.0, 0.0, 0.0)
    # A threshold keeps all detections of its score or none.
    ends: Booleans = np.append(found.score[1:] < found.score[:-1], True)
    precision, recall = found.precision[ends], found.recall[ends]
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(f1.argmax())
    return Threshold(float(found.score[ends][best]), float(f1[best]), float(precision[best]), float(recall[best]))
