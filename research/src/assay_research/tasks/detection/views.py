"""Look at mirrored and rescaled canvases and fuse what is found: test-time augmentation of a detector as a module."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from assay_deploy.images.canvas import Canvas, View
from assay_research.data.resample import axis_weights, resample
from assay_research.models.boxes import Detections

FUSIONS = ("wbf", "nms")

ROUNDS = 20
"""Of `suppress`; more than any chain of overlapping boxes that detectors leave is long."""


class BoxViews(nn.Module):
    """From the canvas, as an image decoder leaves it, to boxes on it.

    The whole canvas is resized for a view, to any size, and mirrored. Views of one size go through the model as one
    batch, sizes one after the other. What the views find is mapped back to the canvas and fused, each class by itself:

    - ``wbf``: weighted boxes fusion (Solovyev et al., arXiv:1910.13302): the boxes of a cluster are averaged, weighted
      by their scores; its score is the sum of theirs, divided by the number of views or of boxes, whichever is larger.
      The paper goes through the boxes by falling score and moves a cluster's box with each that joins it. Here a
      cluster lies where its best box lies: those are the boxes that NMS keeps, and each other box joins that of them
      with which its IoU is largest. All clusters are made at once, and two boxes that agree give the paper's numbers.
    - ``nms``: the box with the highest score stands for its cluster, as it is.

    Args:
        model: from float32 ``[batch, 3, height, width]`` in [0, 1], RGB, to `Detections`.
        canvas: size of the images.
        views: one or more; what is found in a single one is not fused.
        iou: two boxes of a class with a larger IoU are one object's.
        fuse: ``wbf`` or ``nms``.

    Raises:
        ValueError: no view, a view that is not the whole canvas, or another value out of its range.

    Shape:
        - Input: uint8 ``[batch, height, width, 3]``, RGB.
        - Output: `Detections`, in canvas pixels, with as many places as the model's.
    """

    def __init__(
        self, model: nn.Module, canvas: Canvas, views: Sequence[View], iou: float = 0.55, fuse: str = "wbf"
    ) -> None:
        super().__init__()
        if not views:
            raise ValueError("BoxViews needs at least one view")
        cropped = [view for view in views if view.crop != View().crop]
        if cropped:
            raise ValueError(f"a detector's view is the whole canvas, without a crop, got crop={cropped[0].crop}")
        if not 0 < iou < 1 or fuse not in FUSIONS:
            raise ValueError(f"expected 0 < iou < 1 and fuse one of {', '.join(FUSIONS)}, got {iou} and '{fuse}'")
        self.model = model
        self.canvas, self.iou, self.fuse, self.count = canvas, iou, fuse, len(views)
        self.flips: dict[tuple[int, int], list[bool]] = {}
        for view in views:
            self.flips.setdefault(_size(canvas, view), []).append(view.flip)
        for number, size in enumerate(self.flips):
            for axis, source, target in zip(("rows", "columns"), (canvas.height, canvas.width), size, strict=True):
                weights = axis_weights(source, target, torch.tensor([float(target)]), torch.zeros(1))[0]
                self.register_buffer(f"{axis}{number}", weights, persistent=False)

    def forward(self, images: Tensor) -> Detections:
        """What the only view finds, or all of them together."""
        x = images.permute(0, 3, 1, 2).float() / 255
        found = [each for number, size in enumerate(self.flips) for each in self._look(x, number, size)]
        if self.count == 1:
            return found[0]
        together = Detections(*(torch.cat(each, 1) for each in zip(*found, strict=True)))
        places = found[0].scores.shape[1]
        kind = images.device.type
        # Where there is none to switch off, exporters need not see that it was.
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return fuse(together, self.count if self.fuse == "wbf" else None, self.iou, places)

    def _look(self, x: Tensor, number: int, size: tuple[int, int]) -> list[Detections]:
        """What is found at one size, a view each, in canvas pixels."""
        if size != (self.canvas.height, self.canvas.width):
            x = resample(x, self.get_buffer(f"rows{number}"), self.get_buffer(f"columns{number}"))
        flips = self.flips[size]
        found = self.model(torch.cat([x.flip(3) if flip else x for flip in flips]))
        views = zip(*(each.unflatten(0, (len(flips), -1)).unbind(0) for each in found), strict=True)
        return [self._back(Detections(*view), size, flip) for view, flip in zip(views, flips, strict=True)]

    def _back(self, found: Detections, size: tuple[int, int], flip: bool) -> Detections:
        """Map boxes of one view to the canvas."""
        boxes, scores, labels = found
        if flip:
            left, top, right, bottom = boxes.unbind(-1)
            boxes = torch.stack([size[1] - right, top, size[1] - left, bottom], -1)
        scale = (self.canvas.width / size[1], self.canvas.height / size[0])
        if scale != (1, 1):
            boxes = boxes * boxes.new_tensor(scale * 2)
        return Detections(boxes * (labels >= 0)[..., None], scores, labels)


def _size(canvas: Canvas, view: View) -> tuple[int, int]:
    """Height and width of the resized canvas."""
    shorter = min(canvas.height, canvas.width)
    size = view.size or shorter
    return round(canvas.height * size / shorter), round(canvas.width * size / shorter)


def fuse(found: Detections, views: int | None, iou: float, places: int) -> Detections:
    """Make one box of all that several views found of an object; see `BoxViews`.

    All is of fixed size and batched, so that it can be exported.

    Args:
        found: of all views, in canvas pixels, in any order.
        views: how many there were, for weighted boxes fusion; None for NMS.
        iou: two boxes of a class with a larger IoU are one object's.
        places: boxes an image at most.
    """
    boxes, scores, labels = found
    overlap = box_iou(boxes, boxes)
    alike = (labels[:, :, None] == labels[:, None]) & (labels >= 0)[:, None]
    overlap = torch.where(alike & (overlap > iou), overlap, 0.0)
    kept = suppress(overlap, scores) & (labels >= 0)
    if views is not None:
        best, cluster = (overlap * kept[:, None]).max(2)
        index = torch.ones_like(labels).cumsum(1)[:, None] - 1  # arange would keep the device that a trace was made on
        joined = (cluster[:, None] == index.transpose(1, 2)) & (best > 0)[:, None]  # [batch, cluster, box]
        weighted = torch.cat([boxes * scores[..., None], scores[..., None], torch.ones_like(scores)[..., None]], 2)
        sums, total, members = (joined.float() @ weighted).split([4, 1, 1], 2)
        boxes = sums / total.clamp(min=1e-12)
        scores = (total / members.clamp(min=views)).squeeze(2)
    scores, order = (scores * kept).topk(places)
    there = scores > 0
    boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4)) * there[..., None]
    return Detections(boxes, scores, torch.where(there, labels.gather(1, order), -1))


def suppress(overlap: Tensor, scores: Tensor) -> Tensor:
    """Greedy non-maximum suppression of a batch, without a loop over boxes (Zheng et al., arXiv:2005.03572).

    A box falls if one that is kept overlaps it and has a higher score (or the same, and comes first). To know what is
    kept is to know what falls: beginning with all boxes, each round is right about boxes whose fate hangs on a chain
    of one box more.

    Args:
        overlap: float32 ``[batch, boxes, boxes]``, above 0 where two boxes are too close to be two objects.
        scores: float32 ``[batch, boxes]``.

    Returns:
        bool ``[batch, boxes]``: which are kept.
    """
    higher, same = (scores[:, None] > scores[:, :, None]), (scores[:, None] == scores[:, :, None])
    above = (overlap > 0) & (higher | same.tril(-1))
    kept = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(ROUNDS):
        kept = ~(above & kept[:, None]).any(2)
    return kept
