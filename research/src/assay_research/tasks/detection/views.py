"""Test-time augmentation of a detector as a module: fuse the boxes found in mirrored and rescaled views."""

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
"""Rounds of `suppress`, more than the longest chain of overlapping boxes in detectors' output."""


class BoxViews(nn.Module):
    """Detector with test-time augmentation, from decoded uint8 images to boxes in canvas pixels.

    For each view the whole canvas is resized and, if requested, mirrored. Views of one size are processed by the
    model as one batch, one size after the other. The boxes are mapped back to the canvas and fused per class:

    - ``wbf``: weighted boxes fusion (Solovyev et al., arXiv:1910.13302). The boxes of a cluster are averaged, weighted
      by their scores. The cluster's score is the sum of theirs, divided by the number of views or of boxes, whichever
      is larger. The paper processes the boxes by descending score and updates a cluster's box with each box that
      joins it. Here the cluster's position is that of its highest-scoring box: the boxes that NMS retains are the
      clusters, and every other box joins the cluster with the largest IoU. All clusters are formed at once, and two
      matching boxes give the same numbers as in the paper.
    - ``nms``: non-maximum suppression; the box with the highest score is retained unchanged.

    Args:
        model: detector from float32 ``[batch, 3, height, width]`` in [0, 1], RGB, to `Detections`.
        canvas: size of the images.
        views: one or more views; the boxes of a single view are not fused.
        iou: boxes of one class with a larger IoU are treated as one object.
        fuse: ``wbf`` or ``nms``.

    Raises:
        ValueError: there is no view, a view does not show the whole canvas, or another value is out of range.

    Shape:
        - Input: uint8 ``[batch, height, width, 3]``, RGB.
        - Output: `Detections`, in canvas pixels, with the model's number of detections per image.
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
        """Return the detections of the only view, or the fused detections of all views."""
        x = images.permute(0, 3, 1, 2).float() / 255
        found = [each for number, size in enumerate(self.flips) for each in self._detect(x, number, size)]
        if self.count == 1:
            return found[0]
        together = Detections(*(torch.cat(each, 1) for each in zip(*found, strict=True)))
        places = found[0].scores.shape[1]
        kind = images.device.type
        # Without an active autocast, exporters must not see a context that switches it off.
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return fuse(together, self.count if self.fuse == "wbf" else None, self.iou, places)

    def _detect(self, x: Tensor, number: int, size: tuple[int, int]) -> list[Detections]:
        """Return the detections of each view of one size, in canvas pixels."""
        if size != (self.canvas.height, self.canvas.width):
            x = resample(x, self.get_buffer(f"rows{number}"), self.get_buffer(f"columns{number}"))
        flips = self.flips[size]
        found = self.model(torch.cat([x.flip(3) if flip else x for flip in flips]))
        views = zip(*(each.unflatten(0, (len(flips), -1)).unbind(0) for each in found), strict=True)
        return [self._back(Detections(*view), size, flip) for view, flip in zip(views, flips, strict=True)]

    def _back(self, found: Detections, size: tuple[int, int], flip: bool) -> Detections:
        """Map the boxes of one view back to the canvas."""
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
    """Fuse the boxes that several views found of each object; see `BoxViews`.

    All tensors have fixed sizes and are batched, so that the fusion can be exported.

    Args:
        found: detections of all views, in canvas pixels, in any order.
        views: number of views, for weighted boxes fusion; None for NMS.
        iou: boxes of one class with a larger IoU are treated as one object.
        places: largest number of boxes per image.
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

    A box is removed if a retained box overlaps it and has a higher score, or the same score and a lower index. This
    is solved by iteration: all boxes are retained at first, and after each round the result is correct for boxes that
    depend on chains of one more overlapping box.

    Args:
        overlap: float32 ``[batch, boxes, boxes]``, above 0 where two boxes are treated as one object.
        scores: float32 ``[batch, boxes]``.

    Returns:
        bool ``[batch, boxes]``: True for the retained boxes.
    """
    higher, same = (scores[:, None] > scores[:, :, None]), (scores[:, None] == scores[:, :, None])
    above = (overlap > 0) & (higher | same.tril(-1))
    kept = torch.ones_like(scores, dtype=torch.bool)
    for _ in range(ROUNDS):
        kept = ~(above & kept[:, None]).any(2)
    return kept
