"""Effect of additional NMS on a detector's boxes at several thresholds: removed duplicates and lost objects."""

from collections.abc import Sequence
from dataclasses import dataclass

from torchvision.ops import batched_nms

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.report.errors import IOU, DetectionKind, ObjectStatus, classify, match

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""NMS thresholds to try: of two boxes of one class with a larger IoU, the one with the lower score is removed."""


@dataclass(frozen=True)
class NmsResult:
    """Scores of a detector's boxes after NMS at one threshold.

    Attributes:
        threshold: IoU threshold of NMS; None without NMS.
        detections: number of remaining detections from the score threshold on, without those of ignored objects.
        duplicates: number of duplicates among them.
        lost: number of objects that are found without NMS but not with it.
        precision: fraction of correct detections; NaN without detections.
        recall: fraction of the objects that are found; NaN without objects.
        f1: harmonic mean of precision and recall; 0 if no detection is correct, NaN without detections and objects.
        map: COCO's mAP, over all scores.
    """

    threshold: float | None
    detections: int
    duplicates: int
    lost: int
    precision: float
    recall: float
    f1: float
    map: float


def suppress(found: Found, threshold: float) -> Found:
    """Apply NMS per class: remove boxes whose IoU with a higher-scoring box is above the threshold."""
    kept = batched_nms(found.boxes.float(), found.scores.float(), found.labels, threshold)
    return Found(found.boxes[kept], found.scores[kept], found.labels[kept])


def sweep(
    found: Sequence[Found],
    split: BoxSplit,
    canvas: Canvas,
    classes: Sequence[str],
    score: float,
    iou: float = IOU,
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[NmsResult, ...]:
    """Apply NMS at several thresholds; thresholds above the detector's own NMS threshold change nothing.

    Args:
        found: detections of each image of the split, in canvas pixels.
        split: the ground truth.
        canvas: canvas that the images were placed on.
        classes: names of the classes, in the order of the labels.
        score: score threshold; detections with a lower score count only for `map`.
        iou: IoU threshold: the smallest IoU of a detection with the object that it matches.
        thresholds: NMS thresholds to try.

    Returns:
        The result without NMS, then one for each threshold.
    """
    rows: list[NmsResult] = []
    before: set[int] = set()
    for threshold in (None, *thresholds):
        left = found if threshold is None else [suppress(each, threshold) for each in found]
        matching = match(left, split, canvas, classes, iou)
        errors = classify(matching, score)
        there = set((errors.status == ObjectStatus.FOUND).nonzero()[0].tolist())
        before = before if rows else there
        counted = int((errors.kind != DetectionKind.LEFT_OUT).sum())
        objects = int((errors.status != ObjectStatus.IGNORED).sum())
        rows.append(
            NmsResult(
                threshold=threshold,
                detections=counted,
                duplicates=errors.count(DetectionKind.DUPLICATE),
                lost=len(before - there),
                precision=_ratio(len(there), counted),
                recall=_ratio(len(there), objects),
                f1=_ratio(2 * len(there), counted + objects),
                map=measure(left, split, canvas, classes).map,
            )
        )
    return tuple(rows)


def best(rows: Sequence[NmsResult]) -> NmsResult:
    """Return the row with the highest F1, which counts a surplus box and a lost object the same.

    Of equal rows, the one with the highest mAP; then the one that removes least: without NMS, or else with the highest
    threshold.
    """
    loosest = sorted(rows, key=lambda row: 2.0 if row.threshold is None else row.threshold, reverse=True)
    return max(loosest, key=lambda row: (_low(row.f1), _low(row.map)))


def _low(value: float) -> float:
    """Return -1 for NaN, so that NaN sorts below every score."""
    return value if value == value else -1.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
