"""Selection of boxes by score and overlap in tensors of fixed size, which every exporter supports."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 512
"""Number of boxes of an image that `greedy_nms` processes together."""

ROUNDS = 24
"""Number of rounds of `greedy_nms` in a block: the longest chain of boxes in which each may suppress the next.

In random order the longest chain of n boxes has O(log n) (Blelloch et al., arXiv:1202.3205), but neighbouring boxes
have similar scores. Trained detectors needed 7 rounds, untrained ones 20, on stripes. In a longer chain, boxes near the
end may be kept or suppressed differently from torchvision.
"""

SPLIT = (2, 2, 1, 1)
PLANES = sum(SPLIT)
"""Planes of a box: left and top, right and bottom, area, group."""


def sort_descending(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sort scores ``[batch, n]`` in descending order, stable among equal scores; return scores and old indices."""
    if torch.onnx.is_in_onnx_export():
        # becomes a TopK, which is stable; onnxscript 0.7 cannot translate a sort with stable=True
        values, order = scores.sort(1, descending=True)
    else:
        values, order = scores.sort(dim=1, descending=True, stable=True)
    return values, order


def ranked(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by descending score and, among equal scores, by ascending index.

    ``torch.topk`` returns equal scores in any order, the TopK of ONNX in this order.

    Args:
        scores: float32 ``[batch, n]``.
        places: indices of the scores, int64 ``[batch, n]``, distinct in each row.

    Returns:
        The sorted scores and indices.
    """
    places, order = places.sort(1)
    scores, order = sort_descending(scores.gather(1, order))
    return scores, places.gather(1, order)


def gather_rows(tensor: Tensor, places: Tensor) -> Tensor:
    """Return the rows ``[batch, count, width]`` of a tensor ``[batch, n, width]`` at indices ``[batch, count]``."""
    return tensor.gather(1, places[..., None].expand(-1, -1, tensor.shape[2]))


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clip boxes ``[..., 4]`` to an image of that height and width in pixels."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], -1).flatten(-2)


def sides_at_least(boxes: Tensor, shortest: float) -> Tensor:
    """Return a mask of the boxes ``[..., 4]`` whose sides are both at least `shortest` pixels."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1) >= shortest


def greedy_nms(boxes: Tensor, groups: Tensor, count: int, iou: float, places: int) -> Tensor:
    """Apply greedy non-maximum suppression within each group, until `places` boxes are kept.

    The result is that of torchvision's ``nms``, which processes box by box. Here blocks of `BLOCK` boxes are processed
    one after the other. Boxes that overlap a box kept from an earlier block are removed first; for the boxes of one
    block see `_resolve`.

    Args:
        boxes: float32 ``[batch, count, 4]``, sorted by descending score.
        groups: group of each box, int64 ``[batch, count]``; -1 means no box.
        count: number of boxes; an argument, since in a trace the shape is not a number.
        iou: threshold; of two boxes of a group with a larger IoU the later one is removed.
        places: largest number of boxes to keep.

    Returns:
        int64 ``[batch, places]``: indices of the kept boxes in ascending order, filled up with `count`.
    """
    threshold = _float32_below(iou)
    sides = boxes[..., 2:] - boxes[..., :2]
    # Coordinates in rows suit vector units. A group is exact in float32 up to 2^24.
    planes = torch.cat([boxes, sides[..., :1] * sides[..., 1:], groups[..., None].float()], 2).transpose(1, 2)
    planes = F.pad(planes, (0, 1), value=-1)  # the box that an unused entry of `kept` refers to
    position = torch.ones_like(groups).cumsum(1) - 1  # torch.arange would keep the device that a trace was made on
    kept = groups.new_full((groups.shape[0], places + 1), count)  # the last entry receives the boxes that are not kept
    found = groups.new_full((groups.shape[0], 1), 0)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        block = planes[:, :, start:stop]
        alive = groups[:, start:stop] >= 0
        if start:
            earlier = planes.gather(2, kept[:, None, : min(places, start)].expand(-1, PLANES, -1))
            alive = alive & ~_overlap(block, earlier, threshold).any(2)
        stays = _resolve(_overlap(block, block, threshold), alive)
        place = torch.where(stays, (found + stays.cumsum(1) - 1).clamp(max=places), places)
        kept = kept.scatter(1, place, position[:, start:stop])
        found = found + stays.sum(1, keepdim=True)
    return kept[:, :places]


def _resolve(overlap: Tensor, alive: Tensor) -> Tensor:
    """Apply NMS within a block: keep each candidate that no earlier kept box overlaps.

    The first round starts with all candidates. Each round recomputes which boxes are kept: the candidates that no
    earlier box kept in the round before overlaps. Each round makes the result exact for chains one box longer. A round
    is one matrix product and a ReLU on zeros and ones: candidate minus the number of kept boxes that overlap it. To
    have few operators in many rounds, and so a short export, `alive` is a row of the matrix, for an extra first box
    that is always kept.

    Args:
        overlap: bool ``[batch, block, block]``; whether two boxes overlap.
        alive: bool ``[batch, block]``; whether a box is a candidate.

    Returns:
        bool ``[batch, block]``; whether a box is kept.
    """
    stays = F.pad(alive.float()[:, None], (1, 0), value=1)
    step = torch.cat([stays, -F.pad(overlap.float().triu(1), (1, 0))], 1)
    for _ in range(ROUNDS):
        stays = (
            stays @ step
        ).relu()  # vector times matrix: in a batch 10 times as fast on a CPU as matrix times vector
    return stays[:, 0, 1:] > 0


def _overlap(one: Tensor, other: Tensor, threshold: float) -> Tensor:
    """Return a mask of pairs of boxes in the same group with an IoU above the threshold.

    The operations and their order are those of torchvision's kernel.

    Args:
        one: planes ``[batch, 6, n]``: left, top, right, bottom, area, group.
        other: planes ``[batch, 6, m]``.
        threshold: least IoU, exact in float32.

    Returns:
        bool ``[batch, n, m]``.
    """
    low, high, area, group = one[..., None].split(SPLIT, 1)
    others_low, others_high, others_area, others_group = other[:, :, None].split(SPLIT, 1)
    sides = (torch.minimum(high, others_high) - torch.maximum(low, others_low)).clamp(min=0)
    width, height = sides.split(1, 1)
    shared = width * height
    # Two boxes without area would give 0 / 0, and in OpenVINO NaN is above any threshold.
    union = (area + others_area - shared).clamp(min=1e-30)
    close: Tensor = (shared / union > threshold) & (group == others_group)
    return close.squeeze(1)


def _float32_below(threshold: float) -> float:
    """Return the largest float32 not above a threshold, to compare as torchvision does with a float64 threshold."""
    nearest = float(np.float32(threshold))
    return nearest if nearest <= threshold else float(np.nextafter(np.float32(threshold), np.float32(-1)))
