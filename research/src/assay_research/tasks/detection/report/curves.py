"""Precision-recall curves, and the score threshold with the best F1."""

from dataclasses import dataclass

import numpy as np

from assay_research.tasks.detection.report.errors import NONE, Booleans, Floats, Matching

RECALLS = np.linspace(0, 1, 101)
"""Recall values at which COCO samples a precision-recall curve."""


@dataclass(frozen=True)
class Curve:
    """Precision and recall as functions of the score threshold.

    Attributes:
        score: score of each detection, descending, ``[detections]``; without detections of ignored objects.
        precision: fraction of correct detections among those with at least this score, ``[detections]``.
        recall: fraction of the objects that those detections find, ``[detections]``; NaN without objects.
        objects: number of objects.
    """

    score: Floats
    precision: Floats
    recall: Floats
    objects: int

    def interpolated(self) -> Floats:
        """Return COCO's curve: the highest precision at or above each recall of `RECALLS`, 0 beyond the last recall."""
        highest = np.maximum.accumulate(self.precision[::-1])[::-1]
        reached = np.searchsorted(self.recall, RECALLS)
        values: Floats = np.append(highest, 0)[reached]
        return values if self.objects else np.full(len(RECALLS), np.nan)

    @property
    def average_precision(self) -> float:
        """Average precision as COCO defines it, at the IoU of the matching; NaN without objects."""
        return float(self.interpolated().mean())


def curve(matching: Matching, label: int | None = None) -> Curve:
    """Compute the curve of one class, or of all classes together.

    Args:
        matching: all detections, matched to the objects.
        label: index of the class; None for all classes.
    """
    kept, objects = ~matching.on_ignored, ~matching.ignored
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
    """Compute the curve of every class, by class name."""
    return {name: curve(matching, label) for label, name in enumerate(matching.classes)}


@dataclass(frozen=True)
class Threshold:
    """Score threshold with the best F1.

    Attributes:
        score: the threshold; NaN if no detection is correct.
        f1: harmonic mean of precision and recall at that threshold; NaN without objects.
        precision, recall: values at that threshold; 0 if no detection is correct, NaN without objects.
    """

    score: float
    f1: float
    precision: float
    recall: float


def best_threshold(found: Curve) -> Threshold:
    """Return the score threshold with the highest F1; of equal ones, the highest threshold."""
    if not found.objects:
        return Threshold(*[float("nan")] * 4)
    if not found.recall.any():
        return Threshold(float("nan"), 0.0, 0.0, 0.0)
    # A threshold retains all detections with one score, or none of them.
    ends: Booleans = np.append(found.score[1:] < found.score[:-1], True)
    precision, recall = found.precision[ends], found.recall[ends]
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(f1.argmax())
    return Threshold(float(found.score[ends][best]), float(f1[best]), float(precision[best]), float(recall[best]))
