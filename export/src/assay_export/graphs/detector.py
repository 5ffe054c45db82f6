"""Detectors as graphs of fixed sizes: torchvision's results, with operators that every exporter supports."""

import copy
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper, _setup_scales

from assay_deploy.images.canvas import Canvas, View
from assay_export.graphs.folding import fold_norms
from assay_export.graphs.selection import clip, gather_rows, greedy_nms, ranked, sides_at_least, sort_descending
from assay_research.models.base_detector import DIVISOR, Detector
from assay_research.models.boxes import Detections
from assay_research.models.normalized import Normalized
from assay_research.tasks.detection.views import BoxViews

CANDIDATES = 5000
"""Number of highest-scoring boxes of an image that the final NMS processes.

RetinaNet has no more, 1,000 at each of five levels. Faster R-CNN has one for each class at each of 1,000 proposals; the
result differs from torchvision's only where fewer boxes than the maximum remain of the first 5,000.
"""

MIN_PROPOSAL_SIDE, MIN_BOX_SIDE = 1e-3, 1e-2
"""Shortest side of a proposal and of a box in pixels; those with a shorter side are left out, as in torchvision."""

Size = tuple[int, int]


def exportable(model: Normalized, canvas: Canvas, views: Sequence[View]) -> nn.Module:
    """Build the graph that is exported: a copy of a detector with folded BatchNorm and selections of fixed size.

    Args:
        model: a trained detector. A network that is not a `Detector` is exported unchanged.
        canvas: size of the images.
        views: see `BoxViews`.

    Returns:
        A module in eval mode, from uint8 ``[batch, height, width, 3]``, RGB, to a tuple of the three tensors of
        `Detections`.

    Raises:
        ValueError: the views do not fit the canvas; see `BoxViews`.
    """
    model = copy.deepcopy(model).eval()
    whole = BoxViews(model, canvas, views)
    detector = model.network
    if isinstance(detector, Detector):
        kind = FasterRCNNGraph if isinstance(detector.model, FasterRCNN) else RetinaNetGraph
        model.network = kind(detector, tuple(whole.flips)).eval()
        fold_norms(model, torch.zeros(1, 3, *next(iter(whole.flips)), device=model.mean.device))
    return _Plain(whole).eval()


class _Plain(nn.Module):
    """`BoxViews` with a plain tuple as output: a program with a named tuple loads only where the type is importable."""

    def __init__(self, views: BoxViews) -> None:
        super().__init__()
        self.views = views

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = self.views(images)
        return boxes, scores, labels


class _Graph(nn.Module):
    """Base class of the graphs: parts of a trained detector, and the anchors for every image size.

    Args:
        detector: a trained detector in eval mode.
        sizes: possible sizes of the images, each height and width in pixels.

    Attributes:
        detections: largest number of boxes per image.
        levels: number of anchors at each level of the pyramid, for each size.

    Shape:
        - Input: float32 ``[batch, 3, height, width]``, normalised, of one of the sizes.
        - Output: `Detections`. Among equal scores, the box of the finer level comes first, then the upper one, then
          the left one; in torchvision their order is that of ``topk``, which is undefined.
    """

    def __init__(self, detector: Detector, sizes: Sequence[Size]) -> None:
        super().__init__()
        self.backbone = detector.model.backbone
        self.detections = detector.detections
        self.sizes = tuple(sizes)
        self.levels: list[list[int]] = []

    def _lay_anchors(self, number: int, generator: AnchorGenerator) -> dict[str, Tensor]:
        """Store the anchors of size `number`; return the feature maps of an empty image of that size."""
        some = next(self.backbone.parameters())
        padded = self._pad(some.new_zeros(1, 3, *self.sizes[number]), number)
        with torch.no_grad():
            maps: dict[str, Tensor] = self.backbone(padded)
        (anchors,) = generator(ImageList(padded, [self.sizes[number]]), list(maps.values()))
        self.register_buffer(f"anchors{number}", anchors, persistent=False)
        cells = zip(maps.values(), generator.num_anchors_per_location(), strict=True)
        self.levels.append([each.shape[2] * each.shape[3] * anchors_there for each, anchors_there in cells])
        return maps

    def _pad(self, images: Tensor, number: int) -> Tensor:
        height, width = self.sizes[number]
        return F.pad(images, (0, -width % DIVISOR, 0, -height % DIVISOR))

    def _number(self, images: Tensor) -> int:
        """Return the index in `sizes` of the size of the images."""
        with warnings.catch_warnings():
            # A trace warns that the size becomes a constant, which is intended.
            warnings.filterwarnings("ignore", "Converting a tensor to a Python integer")
            return self.sizes.index((int(images.shape[2]), int(images.shape[3])))

    def _decode(self, coder: BoxCoder, deltas: Tensor, boxes: Tensor, count: int, number: int) -> Tensor:
        """Move and resize boxes, ``[batch, count, 4]``, and clip them to the image."""
        moved: Tensor = coder.decode_single(deltas.reshape(-1, 4), boxes.reshape(-1, 4))
        return clip(moved.reshape(-1, count, 4), *self.sizes[number])

    def _select(self, boxes: Tensor, scores: Tensor, labels: Tensor, count: int, iou: float) -> Detections:
        """Apply NMS to boxes sorted by score; boxes with label -1 are ignored."""
        kept = greedy_nms(boxes, labels, count, iou, self.detections)
        return Detections(
            gather_rows(F.pad(boxes, (0, 0, 0, 1)), kept),
            F.pad(scores, (0, 1)).gather(1, kept),
            F.pad(labels, (0, 1), value=-1).gather(1, kept),
        )


class RetinaNetGraph(_Graph):
    """RetinaNet as a graph of fixed sizes; see `_Graph`."""

    def __init__(self, detector: Detector, sizes: Sequence[Size]) -> None:
        model = detector.model
        super().__init__(detector, sizes)
        self.head, self.coder = model.head, model.box_coder
        self.classes: int = model.head.classification_head.num_classes
        self.candidates: int = model.topk_candidates
        self.score_threshold, self.iou = model.score_thresh, model.nms_thresh
        for number in range(len(sizes)):
            self._lay_anchors(number, model.anchor_generator)

    def forward(self, images: Tensor) -> Detections:
        """Return the detections of normalised images; see `_Graph`."""
        number = self._number(images)
        output = self.head(list(self.backbone(self._pad(images, number)).values()))
        levels = self.levels[number]
        tops, before, count = [], 0, 0
        for anchors, logits in zip(levels, output["cls_logits"].split(levels, 1), strict=True):
            top = min(self.candidates, anchors * self.classes)
            scores, places = logits.sigmoid().flatten(1).topk(top, 1)
            tops.append((scores, places + before))
            before, count = before + anchors * self.classes, count + top
        scores, places = ranked(*(torch.cat(each, 1) for each in zip(*tops, strict=True)))
        labels = torch.where(scores > self.score_threshold, places % self.classes, -1)
        places = places // self.classes
        boxes = self._decode(
            self.coder,
            gather_rows(output["bbox_regression"], places),
            self.get_buffer(f"anchors{number}")[places],
            count,
            number,
        )
        return self._select(boxes, scores, labels, count, self.iou)


class FasterRCNNGraph(_Graph):
    """Faster R-CNN as a graph of fixed sizes; see `_Graph`. It always processes the largest number of proposals."""

    def __init__(self, detector: Detector, sizes: Sequence[Size]) -> None:
        rpn, heads = detector.model.rpn, detector.model.roi_heads
        super().__init__(detector, sizes)
        self.pool = heads.box_roi_pool
        self.mappers: list[LevelMapper] = []
        self.corners: list[list[tuple[int, int]]] = []
        self.rpn_head, self.rpn_coder = rpn.head, rpn.box_coder
        self.rpn_candidates, self.rpn_proposals = rpn._pre_nms_top_n["testing"], rpn._post_nms_top_n["testing"]
        self.rpn_score_threshold, self.rpn_iou = rpn.score_thresh, rpn.nms_thresh
        self.box_head, self.box_predictor, self.coder = heads.box_head, heads.box_predictor, heads.box_coder
        self.classes: int = heads.box_predictor.cls_score.out_features - 1
        self.score_threshold, self.iou = heads.score_thresh, heads.nms_thresh
        for number in range(len(sizes)):
            self._lay_levels(number, self._pooled(self._lay_anchors(number, rpn.anchor_generator)))

    def _lay_levels(self, number: int, pooled: list[Tensor]) -> None:
        """Store for each level the scale and the shift from pixels to positions in the stack of maps in `_align`."""
        scales, mapper = _setup_scales(
            pooled, [self.sizes[number]], self.pool.canonical_scale, self.pool.canonical_level
        )
        self.mappers.append(mapper)
        height, width = pooled[0].shape[2:]
        corners = [(width - each.shape[3], height - each.shape[2]) for each in pooled]
        self.corners.append(corners)
        shifts = [[scale, *corner, *corner] for scale, corner in zip(scales, corners, strict=True)]
        self.register_buffer(f"shifts{number}", pooled[0].new_tensor(shifts), persistent=False)

    def forward(self, images: Tensor) -> Detections:
        """Return the detections of normalised images; see `_Graph`."""
        number = self._number(images)
        maps = self.backbone(self._pad(images, number))
        proposals, there, rooms = self._propose(list(maps.values()), number)
        logits, deltas = self.box_predictor(self.box_head(self._align(self._pooled(maps), proposals, number)))
        scores = logits.softmax(1)[:, 1:].reshape(-1, rooms, self.classes)
        scores = torch.where(there[..., None] & (scores > self.score_threshold), scores, 0.0).flatten(1)
        count = min(CANDIDATES, rooms * self.classes)
        scores, places = ranked(*scores.topk(count, 1))
        deltas = deltas.unflatten(1, (-1, 4))[:, 1:].reshape(-1, rooms * self.classes, 4)
        proposals = gather_rows(proposals, places // self.classes)
        boxes = self._decode(self.coder, gather_rows(deltas, places), proposals, count, number)
        good = (scores > 0) & sides_at_least(boxes, MIN_BOX_SIDE)
        return self._select(boxes, scores, torch.where(good, places % self.classes, -1), count, self.iou)

    def _propose(self, maps: list[Tensor], number: int) -> tuple[Tensor, Tensor, int]:
        """Return proposals ``[batch, rooms, 4]``, the best first, a mask ``[batch, rooms]`` of real ones, and rooms."""
        levels = self.levels[number]
        tops = [min(self.rpn_candidates, anchors) for anchors in levels]
        most, rooms = max(tops), min(self.rpn_proposals, sum(tops))
        by_level = []
        for logits, deltas, anchors, top in zip(
            *self.rpn_head(maps), self.get_buffer(f"anchors{number}").split(levels), tops, strict=True
        ):
            scores, places = ranked(*logits.permute(0, 2, 3, 1).flatten(1).topk(top, 1))
            scores = scores.sigmoid()
            deltas = deltas.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            boxes = self._decode(self.rpn_coder, gather_rows(deltas, places), anchors[places], top, number)
            good = sides_at_least(boxes, MIN_PROPOSAL_SIDE) & (scores >= self.rpn_score_threshold)
            scores = torch.where(good, scores, -1.0)
            by_level.append((F.pad(boxes, (0, 0, 0, most - top)), F.pad(scores, (0, most - top), value=-1)))
        boxes, scores = (torch.stack(each, 1).flatten(0, 1) for each in zip(*by_level, strict=True))
        kept = greedy_nms(boxes, torch.where(scores >= 0, 0, -1), most, self.rpn_iou, most)
        scores = F.pad(scores, (0, 1), value=-1).gather(1, kept).reshape(-1, len(levels) * most)
        boxes = gather_rows(F.pad(boxes, (0, 0, 0, 1)), kept).reshape(-1, len(levels) * most, 4)
        scores, places = sort_descending(scores)
        return gather_rows(boxes, places[:, :rooms]), scores[:, :rooms] >= 0, rooms

    def _pooled(self, maps: dict[str, Tensor]) -> list[Tensor]:
        return [each for name, each in maps.items() if name in self.pool.featmap_names]

    def _align(self, maps: list[Tensor], proposals: Tensor, number: int) -> Tensor:
        """Apply RoIAlign to each proposal at its level, ``[batch * rooms, channels, 7, 7]``.

        Torchvision processes each level separately, with a varying number of proposals. Here the levels become further
        images of the batch, so that one RoIAlign of fixed size processes all. A smaller map is in the lower right
        corner of its image, because RoIAlign repeats a map's last row and column, and treats values beyond as 0.
        """
        stack = torch.stack(
            [F.pad(each, (left, 0, top, 0)) for each, (left, top) in zip(maps, self.corners[number], strict=True)], 1
        ).flatten(0, 1)
        boxes = proposals.flatten(0, 1)
        level = self.mappers[number]([boxes])
        shift = self.get_buffer(f"shifts{number}")[level]
        image = torch.ones_like(proposals[..., 0]).cumsum(0).flatten() - 1
        rois = torch.cat([(image * len(maps) + level)[:, None], boxes * shift[:, :1] + shift[:, 1:]], 1)
        aligned: Tensor = roi_align(stack, rois, self.pool.output_size, 1.0, self.pool.sampling_ratio)
        return aligned
