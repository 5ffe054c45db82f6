"""Choose boxes by score and by overlap in tensors of fixed size, so that every exporter can follow the choice."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 512
"""Boxes of an image that `greedy_nms` looks at together."""

ROUNDS = 24
"""Of `greedy_nms` in a block: the longest chain in which the fate of each box hangs on the one before.

In random order a chain of n boxes is O(log n) long (Blelloch et al., arXiv:1202.3205), but neighbours have like scores.
Trained detectors were seen to need 7, untrained ones 20, on stripes. Where a chain is longer, a box at its end may be
there or not against torchvision's answer.
"""

SPLIT = (2, 2, 1, 1)
PLANES = sum(SPLIT)
"""Left and top, right and bottom, area, group."""


def falling(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``[batch, n]`` sorted by falling score and, where scores are equal, as before, and where each was."""
    if torch.onnx.is_in_onnx_export():
        # becomes a TopK, which is stable; a sort that is asked to be so has no translation in onnxscript 0.7
        values, order = scores.sort(1, descending=True)
    else:
        values, order = scores.sort(dim=1, descending=True, stable=True)
    return values, order


def ranked(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Sort by falling score and, where scores are equal, by place.

    ``torch.topk`` leaves equal scores in any order, and ONNX' TopK in this one.

    Args:
        scores: float32 ``[batch, n]``.
        places: int64 ``[batch, n]``, each once a row.
    """
    places, order = places.sort(1)
    scores, order = falling(scores.gather(1, order))
    return scores, places.gather(1, order)


def rows(tensor: Tensor, places: Tensor) -> Tensor:
    """Rows ``[batch, count, width]`` of a tensor ``[batch, n, width]`` at places ``[batch, count]``."""
    return tensor.gather(1, places[..., None].expand(-1, -1, tensor.shape[2]))


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Move corners ``[..., 4]`` that lie outside an image to its edge."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], -1).flatten(-2)


def long_sides(boxes: Tensor, shortest: float) -> Tensor:
    """Whether both sides of boxes ``[..., 4]`` have that many pixels."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(-1) >= shortest


def greedy_nms(boxes: Tensor, groups: Tensor, count: int, iou: float, places: int) -> Tensor:
    """Greedy non-maximum suppression, each group by itself, until `places` boxes are found.

    The answer is that of torchvision's ``nms``, which goes from box to box. Here blocks of `BLOCK` boxes follow each
    other. What the boxes kept so far overlap falls at once; inside the block see `_resolve`.

    Args:
        boxes: float32 ``[batch, count, 4]``, the highest score first.
        groups: int64 ``[batch, count]``; -1 where there is no box.
        count: how many; not read from the shape, which is no number in a trace.
        iou: of two boxes of a group with a larger IoU, the later one falls.
        places: boxes at most.

    Returns:
        int64 ``[batch, places]``: the places of the boxes kept, in order, then `count`.
    """
    threshold = _float32_below(iou)
    sides = boxes[..., 2:] - boxes[..., :2]
    # Rows of coordinates are what vector units like. A group is exact in float32 up to 2^24.
    planes = torch.cat([boxes, sides[..., :1] * sides[..., 1:], groups[..., None].float()], 2).transpose(1, 2)
    planes = F.pad(planes, (0, 1), value=-1)  # what an empty place of `kept` refers to
    position = torch.ones_like(groups).cumsum(1) - 1  # torch.arange would keep the device that a trace was made on
    kept = groups.new_full((groups.shape[0], places + 1), count)  # the last place is for boxes that find none
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
    """Which boxes of a block stay: those `alive` that no earlier one which stays overlaps.

    Beginning with all that are alive, a round lets those fall that one of the others overlaps, which is right about
    boxes whose fate hangs on a chain of one box more than the round before. A round is a product and a cut at 0 of
    zeros and ones: alive, less the number of those above. `alive` is put into the matrix, with a box before the first
    that always stays, for there are many rounds and few operators make a graph that exports in little time.

    Args:
        overlap: bool ``[batch, block, block]``.
        alive: bool ``[batch, block]``.

    Returns:
        bool ``[batch, block]``.
    """
    stays = F.pad(alive.float()[:, None], (1, 0), value=1)
    step = torch.cat([stays, -F.pad(overlap.float().triu(1), (1, 0))], 1)
    for _ in range(ROUNDS):
        stays = (stays @ step).relu()  # the vector on the left: a batch of such products is 10 times as fast on a CPU
    return stays[:, 0, 1:] > 0


def _overlap(one: Tensor, other: Tensor, threshold: float) -> Tensor:
    """Whether boxes are of one group and overlap, by the operations of torchvision's kernel in its order.

    Args:
        one: planes ``[batch, 6, n]``: left, top, right, bottom, area, group.
        other: planes ``[batch, 6, m]``.
        threshold: exact in float32.

    Returns:
        bool ``[batch, n, m]``.
    """
    low, high, area, group = one[..., None].split(SPLIT, 1)
    others_low, others_high, others_area, others_group = other[:, :, None].split(SPLIT, 1)
    sides = (torch.minimum(high, others_high) - torch.maximum(low, others_low)).clamp(min=0)
    width, height = sides.split(1, 1)
    shared = width * height
    # Of two boxes without area it would be 0 / 0, and OpenVINO says that NaN is above any threshold.
    union = (area + others_area - shared).clamp(min=1e-30)
    close: Tensor = (shared / union > threshold) & (group == others_group)
    return close.squeeze(1)


def _float32_below(threshold: float) -> float:
    """The largest float32 that is not above, to compare as torchvision does, which has the threshold in float64."""
    nearest = float(np.float32(threshold))
    return nearest if nearest <= threshold else float(np.nextafter(np.float32(threshold), np.float32(-1)))
