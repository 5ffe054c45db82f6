"""Which NMS threshold removes the boxes that a detector leaves over, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from torchvision.ops import batched_nms

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.report.errors import IOU, Fate, Judgement, judge, match

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""IoU of two boxes of one class from which on the one with the lower score is removed."""


@dataclass(frozen=True)
class Suppressed:
    """What is left after NMS.

    Attributes:
        threshold: IoU; None for the detections as they came.
        detections: left, from the score on; those that ignored objects excuse are not counted.
        duplicates: among them.
        lost: objects that are found in the detections as they came, and are not any more.
        precision: the right ones among the detections; NaN where none is left.
        recall: the objects found among all; NaN where there are none.
        f1: of both; 0 where nothing is right, NaN where there is nothing to find.
        map: COCO's, over all scores.
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
    """Class by class, remove boxes that overlap one with a higher score by more than this IoU."""
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
) -> tuple[Suppressed, ...]:
    """Try NMS thresholds on detections; those above the detector's own can change nothing.

    Args:
        found: of each image of the split, in canvas pixels.
        split: the truth.
        canvas: what its images were put on.
        classes: names, in the order of the labels.
        score: detections below it count for `map` alone.
        iou: at which a detection finds an object.
        thresholds: to try.

    Returns:
        The detections as they came, then a row for each threshold.
    """
    rows: list[Suppressed] = []
    before: set[int] = set()
    for threshold in (None, *thresholds):
        left = found if threshold is None else [suppress(each, threshold) for each in found]
        matching = match(left, split, canvas, classes, iou)
        errors = judge(matching, score)
        there = set((errors.fate == Fate.FOUND).nonzero()[0].tolist())
        before = before if rows else there
        counted = int((errors.kind != Judgement.LEFT_OUT).sum())
        objects = int((errors.fate != Fate.IGNORED).sum())
        rows.append(
            Suppressed(
                threshold=threshold,
                detections=counted,
                duplicates=errors.count(Judgement.DUPLICATE),
                lost=len(before - there),
                precision=_ratio(len(there), counted),
                recall=_ratio(len(there), objects),
                f1=_ratio(2 * len(there), counted + objects),
                map=measure(left, split, canvas, classes).map,
            )
        )
    return tuple(rows)


def best(rows: Sequence[Suppressed]) -> Suppressed:
    """The row with the highest F1, for which a surplus box and a lost object weigh alike; of equals the highest mAP.

    Of those that are equal in both, the one that removes least: the detections as they came, or else the highest
    threshold.
    """
    loosest = sorted(rows, key=lambda row: 2.0 if row.threshold is None else row.threshold, reverse=True)
    return max(loosest, key=lambda row: (_low(row.f1), _low(row.map)))


def _low(value: float) -> float:
    """NaN as less than anything."""
    return value if value == value else -1.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
