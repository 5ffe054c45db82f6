"""All that is known of where one checkpoint's detector errs, computed from what it found."""

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
from assay_research.tasks.detection.report.errors import IOU, Errors, Fate, Judgement, Matching, judge, match
from assay_research.tasks.detection.report.nms import Suppressed, best, sweep

UNDECIDED = 0.5
"""Score from which on detections are judged where no score is better than another: none of them is right."""


@dataclass(frozen=True)
class DetectorSubject:
    """What is evaluated, and how.

    Attributes:
        run: its name.
        data: what it was trained on.
        split: ``val`` or ``test``.
        fingerprint: of the data.
        looks: ways to look at an image, and what each is in words: ``plain``, and for example ``views``.
    """

    run: str
    data: DetectionData
    split: str
    fingerprint: str
    looks: dict[str, str]

    @property
    def images(self) -> BoxSplit:
        """Of the split."""
        return {"val": self.data.val, "test": self.data.test}[self.split]

    def __str__(self) -> str:
        return f"{self.run}: {self.data.name} {self.split}, n {len(self.images)}"

    def name(self, look: str) -> str:
        """A way to look, for tables and legends."""
        return f"{look}, {self.looks[look]}"

    def record(self) -> dict[str, Any]:
        """What every JSON file begins with."""
        return {
            "run": self.run,
            "dataset": self.data.name,
            "split": self.split,
            "n": len(self.images),
            "fingerprint": self.fingerprint,
            "looks": self.looks,
        }


@dataclass(frozen=True)
class DetectorResult:
    """What the detector of a checkpoint is worth, by way of looking.

    Attributes:
        checkpoint: its name.
        epoch: that it was saved after.
        scores: COCO's figures.
        seconds: that an image takes.
    """

    checkpoint: str
    epoch: int
    scores: dict[str, BoxScores]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Analysis:
    """Where a detector errs.

    Attributes:
        matching: of all its detections.
        errors: its verdicts, from one score on.
        curves: precision and recall by class.
        overall: the score threshold with the best F1 over all classes together.
        thresholds: the same for each class.
        mistaken: which classes are taken for which.
        nms: the detections as they came, then what NMS would leave of them at each threshold.
    """

    matching: Matching
    errors: Errors
    curves: dict[str, Curve]
    overall: Threshold
    thresholds: dict[str, Threshold]
    mistaken: list[Mistaken]
    nms: tuple[Suppressed, ...]

    def counts(self, label: int) -> dict[str, dict[str, int]]:
        """Objects of a class by fate, and detections of it by kind without those left out."""
        fate = self.errors.fate[self.matching.objects.label == label]
        kind = self.errors.kind[self.matching.detections.label == label]
        return {
            "objects": {each.name.lower(): int((fate == each).sum()) for each in Fate},
            "detections": {
                each.name.lower(): int((kind == each).sum()) for each in Judgement if each != Judgement.LEFT_OUT
            },
        }

    def record(self) -> dict[str, Any]:
        """For JSON: everything but the boxes and curves."""
        classes, errors = self.matching.classes, self.errors
        genera, grouped = by_genus(errors.confusion, classes)
        return {
            "iou": self.matching.iou,
            "score": errors.score,
            "detections": {kind.name.lower(): errors.count(kind) for kind in Judgement},
            "objects": {fate.name.lower(): errors.fates(fate) for fate in Fate},
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
    """Find out where a detector errs.

    Args:
        found: of each image of the split, in canvas pixels.
        split: the truth.
        canvas: what its images were put on.
        classes: names, in the order of the labels.
        iou: from which a detection is in an object's place.
        score: from which on detections are judged; None takes the one with the best F1 over all classes together.
    """
    matching = match(found, split, canvas, classes, iou)
    by_class, overall = curves(matching), best_threshold(curve(matching))
    if score is None:
        score = UNDECIDED if np.isnan(overall.score) else overall.score
    errors = judge(matching, score)
    return Analysis(
        matching=matching,
        errors=errors,
        curves=by_class,
        overall=overall,
        thresholds={name: best_threshold(each) for name, each in by_class.items()},
        mistaken=mistaken(errors.confusion, classes),
        nms=sweep(found, split, canvas, classes, score, iou),
    )
