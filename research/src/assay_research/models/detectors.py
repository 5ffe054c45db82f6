"""Builders of torchvision's Faster R-CNN and RetinaNet, and of a small RetinaNet that can be trained on a CPU."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, mobilenet_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNConvFCHead
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from assay_research.models.base_detector import Detector
from assay_research.models.pretrained import Published
from assay_research.models.resnet import Block

RATIOS = (0.5, 1.0, 2.0)
"""Aspect ratios (height / width) of the anchors, as in torchvision."""

RESNET50 = models.ResNet50_Weights.IMAGENET1K_V1.url
FASTER_RCNN = {
    "resnet50": Published(detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url, RESNET50),
    "resnet50_v2": Published(detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.url, RESNET50),
    "mobilenet_v3_large": Published(
        detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1.url,
        models.MobileNet_V3_Large_Weights.IMAGENET1K_V1.url,
    ),
}
RETINANET = {
    "resnet50": Published(detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1.url, RESNET50),
    "resnet50_v2": Published(detection.RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1.url, RESNET50),
}


def faster_rcnn(
    classes: int,
    backbone: str = "resnet50",
    weights: str = "none",
    trainable: str = "full",
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 100,
) -> Detector:
    """Build Faster R-CNN (Ren et al., arXiv:1506.01497) with a feature pyramid, as torchvision does.

    Args:
        classes: number of object classes, without the background.
        backbone: ``resnet50`` (``fasterrcnn_resnet50_fpn``), ``resnet50_v2`` (``fasterrcnn_resnet50_fpn_v2``) or
            ``mobilenet_v3_large`` (``fasterrcnn_mobilenet_v3_large_fpn``).
        weights: see `Detector`; BatchNorm is frozen with any but ``none`` (not in v2, which always trains it).
        trainable: see `Detector`.
        score_threshold: boxes with a score up to this value are removed.
        nms_threshold: of two boxes of a class with a larger IoU, the one with the lower score is removed.
        detections: largest number of boxes per image, those with the highest scores.

    Raises:
        ValueError: the backbone is unknown, or `Detector` rejects a value.
    """
    published = _published(FASTER_RCNN, backbone)
    norm = _norm(backbone, weights, published)
    parts: dict[str, Any] = {}
    if backbone == "mobilenet_v3_large":
        pyramid = mobilenet_backbone(
            backbone_name=backbone, weights=None, fpn=True, norm_layer=norm, trainable_layers=6
        )
        sizes = ((32, 64, 128, 256, 512),) * 3
        parts = {"rpn_anchor_generator": AnchorGenerator(sizes, (RATIOS,) * 3), "rpn_score_thresh": 0.05}
    elif backbone == "resnet50_v2":
        pyramid = _resnet50(norm, (1, 2, 3, 4), LastLevelMaxPool(), nn.BatchNorm2d)
        parts = {
            "rpn_head": RPNHead(256, len(RATIOS), conv_depth=2),
            "box_head": FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d),
        }
    else:
        pyramid = _resnet50(norm, (1, 2, 3, 4), LastLevelMaxPool())
    thresholds = {"box_score_thresh": score_threshold, "box_nms_thresh": nms_threshold}
    model = FasterRCNN(pyramid, classes + 1, **parts, **thresholds, box_detections_per_img=detections)
    return Detector(model, weights, trainable, published)


def retinanet(
    classes: int,
    backbone: str = "resnet50",
    weights: str = "none",
    trainable: str = "full",
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 300,
) -> Detector:
    """Build RetinaNet (Lin et al., arXiv:1708.02002), as torchvision does.

    Args:
        classes: number of object classes.
        backbone: ``resnet50`` (``retinanet_resnet50_fpn``) or ``resnet50_v2`` (``retinanet_resnet50_fpn_v2``).
        weights: see `faster_rcnn`.
        trainable: see `Detector`.
        score_threshold: see `faster_rcnn`.
        nms_threshold: see `faster_rcnn`.
        detections: see `faster_rcnn`.

    Raises:
        ValueError: the backbone is unknown, or `Detector` rejects a value.
    """
    published = _published(RETINANET, backbone)
    second = backbone == "resnet50_v2"
    top = LastLevelP6P7(2048 if second else 256, 256)
    pyramid = _resnet50(_norm(backbone, weights, published), (2, 3, 4), top)
    anchors = AnchorGenerator(
        tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (32, 64, 128, 256, 512)),
        (RATIOS,) * 5,
    )
    head = RetinaNetHead(256, 3 * len(RATIOS), classes, norm_layer=partial(nn.GroupNorm, 32) if second else None)
    if second:
        head.regression_head._loss_type = "giou"
    thresholds = {"score_thresh": score_threshold, "nms_thresh": nms_threshold}
    model = RetinaNet(
        pyramid, classes, anchor_generator=anchors, head=head, **thresholds, detections_per_img=detections
    )
    return Detector(model, weights, trainable, published)


def small_retinanet(
    classes: int,
    channels: list[int],
    blocks: list[int],
    width: int,
    depth: int,
    anchor_sizes: list[int],
    weights: str = "none",
    trainable: str = "full",
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 300,
) -> Detector:
    """Build a small RetinaNet for small images, which trains in minutes on a CPU from random weights.

    It has a residual network of four stages with BatchNorm, at strides of 4, 8, 16 and 32 pixels; a feature pyramid on
    the last three stages plus one level at a stride of 64; and GroupNorm in the head.

    Args:
        classes: number of object classes.
        channels: output channels of the four stages; they must not decrease.
        blocks: number of blocks of the four stages.
        width: channels of the pyramid and the head, a multiple of 8.
        depth: number of convolutions before the last in each half of the head, 1 to 4.
        anchor_sizes: anchor sizes of the four levels in pixels, the square root of an anchor's area. Each level also
            has anchors of twice that area.
        weights: ``none``, or a file.
        trainable: see `Detector`.
        score_threshold: see `faster_rcnn`.
        nms_threshold: see `faster_rcnn`.
        detections: see `faster_rcnn`.

    Raises:
        ValueError: a size is out of range, or `Detector` rejects a value.
    """
    if not len(channels) == len(blocks) == len(anchor_sizes) == 4 or min(*channels, *blocks, *anchor_sizes) < 1:
        raise ValueError(
            f"channels, blocks and anchor_sizes must be four positive numbers each, "
            f"got {channels}, {blocks} and {anchor_sizes}"
        )
    if channels != sorted(channels) or width < 8 or width % 8 or not 1 <= depth <= 4:
        raise ValueError(
            "expected channels that do not decrease, a width that is a multiple of 8 and a depth from 1 to 4, "
            f"got {channels}, {width} and {depth}"
        )
    pyramid = BackboneWithFPN(
        _residual(channels, blocks), {f"stage{i}": str(i) for i in (1, 2, 3)}, channels[1:], width, LastLevelMaxPool()
    )
    anchors = AnchorGenerator(tuple((size, size * 2**0.5) for size in anchor_sizes), (RATIOS,) * 4)
    head = RetinaNetHead(width, 2 * len(RATIOS), classes, norm_layer=partial(nn.GroupNorm, 8))
    for half in (head.classification_head, head.regression_head):
        half.conv = half.conv[:depth]
    thresholds = {"score_thresh": score_threshold, "nms_thresh": nms_threshold, "detections_per_img": detections}
    model = RetinaNet(pyramid, classes, anchor_generator=anchors, head=head, **thresholds)
    return Detector(model, weights, trainable, published=None)


def _residual(channels: list[int], blocks: list[int]) -> nn.Sequential:
    """Build a stem at stride 2 and stages that halve the resolution, with the names that the pyramid expects."""
    width = channels[0] // 2
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    layers = OrderedDict[str, nn.Module](stem=stem)
    for stage, (out, number) in enumerate(zip(channels, blocks, strict=True)):
        widths = [width, *[out] * number]
        layers[f"stage{stage}"] = nn.Sequential(
            *(Block(before, after, stride=2 if i == 0 else 1) for i, (before, after) in enumerate(pairwise(widths)))
        )
        width = out
    return nn.Sequential(layers)


def _resnet50(
    norm: Callable[..., nn.Module], stages: tuple[int, ...], top: ExtraFPNBlock, pyramid_norm: type | None = None
) -> BackboneWithFPN:
    """Build ResNet-50 with a feature pyramid of 256 channels on some of its stages 1 to 4."""
    body = models.resnet50(weights=None, norm_layer=norm)
    levels = {f"layer{stage}": str(level) for level, stage in enumerate(stages)}
    return BackboneWithFPN(body, levels, [128 * 2**stage for stage in stages], 256, top, pyramid_norm)


def _norm(backbone: str, weights: str, published: Published) -> Callable[..., nn.Module]:
    """Return the backbone's normalisation as in torchvision: frozen if it has pretrained statistics, except in v2."""
    if weights == "none" or backbone == "resnet50_v2":
        return nn.BatchNorm2d
    # torchvision trained its first ResNet-50 detectors before FrozenBatchNorm2d had an epsilon.
    without_epsilon = backbone == "resnet50" and (weights == "coco" or Path(weights).name == Path(published.coco).name)
    return partial(FrozenBatchNorm2d, eps=0.0) if without_epsilon else FrozenBatchNorm2d


def _published(known: dict[str, Published], backbone: str) -> Published:
    if backbone not in known:
        raise ValueError(f"backbone must be one of {', '.join(known)}, got '{backbone}'")
    return known[backbone]
