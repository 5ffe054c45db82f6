"""What a detector finds in a batch of images."""

from typing import NamedTuple

from torch import Tensor


class Detections(NamedTuple):
    """Boxes of a batch, as many places an image as the detector gives at most; the empty ones come last.

    Attributes:
        boxes: float32 ``[batch, detections, 4]``: left, top, right, bottom in canvas pixels.
        scores: float32 ``[batch, detections]`` in [0, 1], falling; 0 in an empty place.
        labels: int64 ``[batch, detections]``: class indices from 0; -1 in an empty place.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def image(self, index: int) -> "Found":
        """What was found in one image, the empty places left out."""
        there = self.labels[index] >= 0
        return Found(self.boxes[index][there], self.scores[index][there], self.labels[index][there])


class Found(NamedTuple):
    """Boxes found in one image.

    Attributes:
        boxes: float32 ``[found, 4]``: left, top, right, bottom, pixels.
        scores: float32 ``[found]``, falling.
        labels: int64 ``[found]``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
