"""Differences between the outputs of an engine and those of the eager model, for each output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import BOXES

Outputs = Mapping[str, NDArray[Any]]
"""Outputs of a graph by name."""

MATCH_IOU = 0.9
"""IoU from which two boxes with the same label count as the same detection. Non-maximum suppression leaves boxes of one
label with an IoU of at most 0.55, so no box can match two others."""


@dataclass(frozen=True)
class DetectionMatch:
    """Matched and unmatched detections of two engines.

    Attributes:
        ious: IoU of each pair, its boxes grown by half a pixel on all sides, float64 ``[pairs]``.
        boxes: largest coordinate difference of each pair in canvas pixels, float64 ``[pairs]``.
        scores: absolute score difference of each pair, float64 ``[pairs]``.
        unmatched: scores of the detections that only one engine made, float64 ``[unmatched]``.
        total: sum of all scores of both engines.
    """

    ious: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    unmatched: NDArray[np.float64]
    total: float

    @property
    def unmatched_share(self) -> float:
        """Share of the total score that belongs to unmatched detections; 0 if the total is 0."""
        return float(self.unmatched.sum() / self.total) if self.total else 0.0


def largest_differences(found: Outputs, expected: Outputs) -> dict[str, float]:
    """Return the largest absolute difference of each output between two engines on the same images.

    Args:
        found: outputs of an engine.
        expected: outputs of the eager model, with the same names and shapes.

    Returns:
        Differences by output name; NaN if an output contains NaN.

    Raises:
        ValueError: the names or shapes differ.
    """
    _check_alike(found, expected)
    return {name: float(np.abs(found[name] - array).max(initial=0)) for name, array in expected.items()}


def detection_differences(found: Outputs, expected: Outputs) -> dict[str, float]:
    """Return the differences between matched detections; arguments and errors are those of `largest_differences`.

    Detections are matched first, because two with equal scores may come in either order.

    Returns:
        ``boxes``: largest coordinate difference in canvas pixels; ``scores``: largest score difference; ``labels``:
        share of the total score that belongs to unmatched detections.
    """
    _check_alike(found, expected)
    match = match_detections(found, expected)
    return {
        "boxes": float(match.boxes.max(initial=0)),
        "scores": float(match.scores.max(initial=0)),
        "labels": match.unmatched_share,
    }


def _check_alike(found: Outputs, expected: Outputs) -> None:
    shapes, wanted = ({name: array.shape for name, array in each.items()} for each in (found, expected))
    if shapes != wanted:
        raise ValueError(f"got outputs with shapes {shapes}, expected {wanted}")


def match_detections(found: Outputs, expected: Outputs) -> DetectionMatch:
    """Match the detections of two engines by label and IoU.

    Each expected detection, in order of falling score, is matched with the found box of its label that has the
    highest IoU, if that is at least `MATCH_IOU`.

    Args:
        found: outputs of an engine: ``boxes`` ``[images, detections, 4]``, ``scores`` and ``labels`` ``[images,
            detections]``.
        expected: the same outputs of the eager model.
    """
    pairs: list[tuple[float, float, float]] = []
    unmatched: list[float] = []
    for one, other in zip(_images(found), _images(expected), strict=True):
        overlap = _iou(other[0], one[0]) * (other[2][:, None] == one[2])
        for i, row in enumerate(overlap):
            best = int(row.argmax()) if row.size else 0
            if row.size and not row[best] < MATCH_IOU:  # written so that NaN matches, with a difference of NaN
                difference = np.abs(one[0][best] - other[0][i]).max()
                pairs.append((float(row[best]), float(difference), float(abs(one[1][best] - other[1][i]))))
                overlap[:, best] = -1
            else:
                unmatched.append(float(other[1][i]))
        unmatched += one[1][~(overlap == -1).all(0)].tolist() if len(overlap) else one[1].tolist()
    ious, boxes, scores = np.array(pairs, np.float64).reshape(-1, 3).T
    total = sum(float(each["scores"].sum(dtype=np.float64)) for each in (found, expected))
    return DetectionMatch(ious, boxes, scores, np.array(unmatched, np.float64), total)


def _images(outputs: Outputs) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Boxes, scores and labels of each image, without the padding (label -1)."""
    boxes, scores, labels = (outputs[name] for name in BOXES)
    return [(boxes[i][there], scores[i][there], labels[i][there]) for i, there in enumerate(labels >= 0)]


def _iou(ones: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of every pair of boxes, each grown by half a pixel on all sides, float64 ``[ones, others]``.

    Detectors may return boxes without area. Unless they are grown, such a box has an IoU of 0 with one that differs by
    rounding.
    """
    grown = np.array([-0.5, -0.5, 0.5, 0.5])
    a, b = (ones + grown)[:, None], (others + grown)[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    inside = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    ious: NDArray[np.float64] = inside / union
    return ious
