"""How far an engine's answers are from the eager model's, output by output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import BOXES

Answers = Mapping[str, NDArray[Any]]
"""Outputs by name, as a graph gives them."""

SAME_BOX = 0.9
"""Two boxes of a label with at least this IoU are the same detection. What suppresses doubles leaves boxes of a label
with an IoU of 0.55 at most, so no box has two such partners."""


@dataclass(frozen=True)
class DetectionMatch:
    """Detections of two engines, paired.

    Attributes:
        ious: of the boxes grown by half a pixel on all sides, float64 ``[pairs]``.
        boxes: largest difference of a pair's coordinates, canvas pixels, float64 ``[pairs]``.
        scores: difference of a pair's scores, float64 ``[pairs]``.
        alone: float64 ``[alone]``: scores of the detections that only one engine made.
        total: sum of all scores of both.
    """

    ious: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    alone: NDArray[np.float64]
    total: float

    @property
    def alone_share(self) -> float:
        """Share of all scores that belongs to detections that only one engine made; 0 where there are none."""
        return float(self.alone.sum() / self.total) if self.total else 0.0


def largest_differences(found: Answers, expected: Answers) -> dict[str, float]:
    """Of each output, the largest absolute difference of two engines' answers to the same images.

    Args:
        found: by an engine.
        expected: of the eager model: the same names and shapes.

    Returns:
        By name; NaN where an answer is not a number.

    Raises:
        ValueError: other names or shapes.
    """
    _check_alike(found, expected)
    return {name: float(np.abs(found[name] - array).max(initial=0)) for name, array in expected.items()}


def detection_differences(found: Answers, expected: Answers) -> dict[str, float]:
    """Differences of paired detections; arguments and errors are those of `largest_differences`.

    They are paired first, for two whose scores agree to the last digit may come in either order: ``boxes`` is then
    the largest difference of a coordinate, canvas pixels, ``scores`` that of a score, and ``labels`` the share of all
    scores that belongs to detections without a partner.
    """
    _check_alike(found, expected)
    match = match_detections(found, expected)
    return {
        "boxes": float(match.boxes.max(initial=0)),
        "scores": float(match.scores.max(initial=0)),
        "labels": match.alone_share,
    }


def _check_alike(found: Answers, expected: Answers) -> None:
    shapes, wanted = ({name: array.shape for name, array in each.items()} for each in (found, expected))
    if shapes != wanted:
        raise ValueError(f"outputs of the shapes {shapes}, expected {wanted}")


def match_detections(found: Answers, expected: Answers) -> DetectionMatch:
    """Pair detections of a label with each other, the expected ones by falling score, each with its nearest box.

    Args:
        found: ``boxes`` ``[images, detections, 4]``, ``scores`` and ``labels`` ``[images, detections]``.
        expected: the same of the eager model.
    """
    pairs: list[tuple[float, float, float]] = []
    alone: list[float] = []
    for one, other in zip(_images(found), _images(expected), strict=True):
        overlap = _iou(other[0], one[0]) * (other[2][:, None] == one[2])
        for i, row in enumerate(overlap):
            best = int(row.argmax()) if row.size else 0
            if row.size and not row[best] < SAME_BOX:  # put so that NaN is a partner, whose difference is NaN
                difference = np.abs(one[0][best] - other[0][i]).max()
                pairs.append((float(row[best]), float(difference), float(abs(one[1][best] - other[1][i]))))
                overlap[:, best] = -1
            else:
                alone.append(float(other[1][i]))
        alone += one[1][~(overlap == -1).all(0)].tolist() if len(overlap) else one[1].tolist()
    ious, boxes, scores = np.array(pairs, np.float64).reshape(-1, 3).T
    total = sum(float(each["scores"].sum(dtype=np.float64)) for each in (found, expected))
    return DetectionMatch(ious, boxes, scores, np.array(alone, np.float64), total)


def _images(answers: Answers) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Boxes, scores and labels of each image, without the empty places."""
    boxes, scores, labels = (answers[name] for name in BOXES)
    return [(boxes[i][there], scores[i][there], labels[i][there]) for i, there in enumerate(labels >= 0)]


def _iou(ones: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Of every pair of boxes, each grown by half a pixel on all sides, float64 ``[ones, others]``.

    Grown, because a box without area, which detectors may give, would share nothing with one a rounding away.
    """
    grown = np.array([-0.5, -0.5, 0.5, 0.5])
    a, b = (ones + grown)[:, None], (others + grown)[None]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    inside = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    ious: NDArray[np.float64] = inside / union
    return ious
