"""Data types of a detector's output: boxes, scores and labels."""

from typing import NamedTuple

from torch import Tensor


class Detections(NamedTuple):
    """Detections of a batch, padded to the detector's largest number per image; padding comes last.

    Attributes:
        boxes: float32 ``[batch, detections, 4]``: left, top, right, bottom in canvas pixels.
        scores: float32 ``[batch, detections]`` in [0, 1], descending; 0 for padding.
        labels: int64 ``[batch, detections]``: class indices from 0; -1 for padding.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def image(self, index: int) -> "Found":
        """Return the detections of one image, without padding."""
        there = self.labels[index] >= 0
        return Found(self.boxes[index][there], self.scores[index][there], self.labels[index][there])


class Found(NamedTuple):
    """Detections of one image.

    Attributes:
        boxes: float32 ``[found, 4]``: left, top, right, bottom in pixels.
        scores: float32 ``[found]`` in [0, 1], descending.
        labels: int64 ``[found]``: class indices from 0.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
