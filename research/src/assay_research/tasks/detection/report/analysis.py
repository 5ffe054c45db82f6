"""Error analysis of one checkpoint's detections: matching, errors, thresholds, confusion and NMS."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import BoxScores
from assay_research.tasks.detection.report.confusion import Mistaken, by_genus, mistaken
from assay_research.tasks.detection.report.curves import Curve, Threshold, best_threshold, curve, curves
from assay_research.tasks.detection.report.errors import (
    IOU,
    DetectionKind,
    Errors,
    Matching,
    ObjectStatus,
    classify,
    match,
)
from assay_research.tasks.detection.report.nms import NmsResult, best, sweep

DEFAULT_SCORE = 0.5
"""Score threshold used if no detection is correct, so that no threshold has the best F1."""


@dataclass(frozen=True)
class DetectorSubject:
    """Subject of an evaluation: run, data set, split and variants.

    Attributes:
        run: name of the run.
        data: data set that the run was trained on.
        split: ``val`` or ``test``.
        fingerprint: fingerprint of the data set.
        variants: descriptions of the variants by name; ``plain``, and ``tta`` for test-time augmentation.
    """

    run: str
    data: DetectionData
    split: str
    fingerprint: str
    variants: dict[str, str]

    @property
    def images(self) -> BoxSplit:
        """Images and boxes of the split."""
        return {"val": self.data.val, "test": self.data.test}[self.split]

    def __str__(self) -> str:
        return f"{self.run}: {self.data.name} {self.split}, n {len(self.images)}"

    def name(self, variant: str) -> str:
        """Return a variant's label for tables and legends."""
        return f"{variant}, {self.variants[variant]}"

    def record(self) -> dict[str, Any]:
        """Return the common header of every JSON file."""
        return {
            "run": self.run,
            "dataset": self.data.name,
            "split": self.split,
            "n": len(self.images),
            "fingerprint": self.fingerprint,
            "variants": self.variants,
        }


@dataclass(frozen=True)
class DetectorResult:
    """Scores and speed of one checkpoint's detector, by variant.

    Attributes:
        checkpoint: name of the checkpoint.
        epoch: epoch after which it was saved.
        scores: COCO metrics by variant.
        seconds: seconds per image by variant.
    """

    checkpoint: str
    epoch: int
    scores: dict[str, BoxScores]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Analysis:
    """Error analysis of a detector.

    Attributes:
        matching: all detections, matched to the objects.
        errors: classified detections and objects, at one score threshold.
        curves: precision-recall curve of each class.
        overall: the score threshold with the best F1 over all classes together.
        thresholds: the score threshold with the best F1 of each class.
        mistaken: pairs of confused classes, the most frequent first.
        nms: results without NMS, then with NMS at each threshold.
    """

    matching: Matching
    errors: Errors
    curves: dict[str, Curve]
    overall: Threshold
    thresholds: dict[str, Threshold]
    mistaken: list[Mistaken]
    nms: tuple[NmsResult, ...]

    def counts(self, label: int) -> dict[str, dict[str, int]]:
        """Count the objects of a class by status, and its detections by kind without those left out."""
        status = self.errors.status[self.matching.objects.label == label]
        kind = self.errors.kind[self.matching.detections.label == label]
        return {
            "objects": {each.name.lower(): int((status == each).sum()) for each in ObjectStatus},
            "detections": {
                each.name.lower(): int((kind == each).sum()) for each in DetectionKind if each != DetectionKind.LEFT_OUT
            },
        }

    def record(self) -> dict[str, Any]:
        """Return everything but the boxes and curves, for JSON."""
        classes, errors = self.matching.classes, self.errors
        genera, grouped = by_genus(errors.confusion, classes)
        return {
            "iou": self.matching.iou,
            "score": errors.score,
            "detections": {kind.name.lower(): errors.count(kind) for kind in DetectionKind},
            "objects": {status.name.lower(): errors.count_objects(status) for status in ObjectStatus},
            "classes": {name: self.counts(label) for label, name in enumerate(classes)},
            "overall_threshold": asdict(self.overall),
            "thresholds": {name: asdict(each) for name, each in self.thresholds.items()},
            "confusion": errors.confusion.tolist(),
            "genera": list(genera),
            "confusion_by_genus": grouped.tolist(),
            "mistaken": [asdict(each) for each in self.mistaken],
            "nms": [asdict(row) for row in self.nms],
            "best_nms": best(self.nms).threshold,
        }


def analyse(
    found: Sequence[Found],
    split: BoxSplit,
    canvas: Canvas,
    classes: Sequence[str],
    iou: float = IOU,
    score: float | None = None,
) -> Analysis:
    """Analyse the errors of a detector.

    Args:
        found: detections of each image of the split, in canvas pixels.
        split: the ground truth.
        canvas: canvas that the images were placed on.
        classes: names of the classes, in the order of the labels.
        iou: smallest IoU of a detection with the object that it matches.
        score: score threshold of the detections; None uses the one with the best F1 over all classes together.
    """
    matching = match(found, split, canvas, classes, iou)
    by_class, overall = curves(matching), best_threshold(curve(matching))
    if score is None:
        score = DEFAULT_SCORE if np.isnan(overall.score) else overall.score
    errors = classify(matching, score)
    return Analysis(
        matching=matching,
        errors=errors,
        curves=by_class,
        overall=overall,
        thresholds={name: best_threshold(each) for name, each in by_class.items()},
        mistaken=mistaken(errors.confusion, classes),
        nms=sweep(found, split, canvas, classes, score, iou),
    )
