"""Detectors are torchvision's to the last weight, and keep to this project's inputs, outputs and modes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d, box_iou

from assay_research.errors import ConfigError
from assay_research.models.base_detector import Detector
from assay_research.optim import adamw, sgd
from tests.research.detectors import CLASSES, HEIGHT, SMALL, WIDTH, build, decided, some_images

ORIGINALS = {
    "faster_rcnn_resnet50": (detection.fasterrcnn_resnet50_fpn, detection.FasterRCNN_ResNet50_FPN_Weights),
    "faster_rcnn_resnet50_v2": (detection.fasterrcnn_resnet50_fpn_v2, detection.FasterRCNN_ResNet50_FPN_V2_Weights),
    "faster_rcnn_mobilenet": (
        detection.fasterrcnn_mobilenet_v3_large_fpn,
        detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    ),
    "retinanet_resnet50": (detection.retinanet_resnet50_fpn, detection.RetinaNet_ResNet50_FPN_Weights),
    "retinanet_resnet50_v2": (detection.retinanet_resnet50_fpn_v2, detection.RetinaNet_ResNet50_FPN_V2_Weights),
}
NAMES = [*ORIGINALS, "retinanet_small"]


def objects(batch: int) -> list[dict[str, Tensor]]:
    """A few boxes in every image but the first, which has none."""
    boxes = torch.tensor([[4.0, 4, 20, 24], [30, 10, 62, 30], [22, 2, 34, 12]])
    return [{"boxes": boxes[: i % 4], "labels": torch.tensor([2, 0, 1])[: i % 4]} for i in range(batch)]


# The interface


@pytest.mark.parametrize("name", NAMES)
def test_detections_are_sorted_padded_and_on_the_canvas(name: str) -> None:
    detector = decided(name).eval()
    with torch.no_grad():
        boxes, scores, labels = detector(some_images(1, 24, 56))
    assert (boxes.shape, scores.shape, labels.shape) == ((1, 20, 4), (1, 20), (1, 20))
    assert (boxes.dtype, scores.dtype, labels.dtype) == (torch.float32, torch.float32, torch.int64)
    there = labels >= 0
    assert there.any()
    assert (labels < CLASSES).all()
    assert ((scores > 0) == there).all()
    assert (scores.diff() <= 0).all()
    assert (boxes[~there] == 0).all()
    assert (boxes >= 0).all()
    assert (boxes[..., 2] <= 56).all()
    assert (boxes[..., 3] <= 24).all()


@pytest.mark.parametrize("name", SMALL)
def test_places_without_a_box_are_padded(name: str) -> None:
    detector = build(name, score_threshold=0.9999).eval()
    with torch.no_grad():
        boxes, scores, labels = detector(some_images(1))
    assert not boxes.any()
    assert not scores.any()
    assert (labels == -1).all()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_targets_choose_between_losses_and_boxes_and_the_mode_does_not(name: str, mode: bool) -> None:
    detector = decided(name).train(mode)
    before = {key: each.clone() for key, each in detector.named_buffers()}
    losses = detector(some_images(2), objects(2))
    assert losses.keys() >= {"classification", "bbox_regression"} or len(losses) == 4
    assert all(loss.ndim == 0 and loss.isfinite() and loss.requires_grad for loss in losses.values())
    assert all(module.training is mode for module in detector.modules() if isinstance(module, nn.BatchNorm2d))
    assert mode != all(torch.equal(before[key], each) for key, each in detector.named_buffers())
    with torch.no_grad():
        assert detector(some_images(2)).boxes.shape == (2, 20, 4)


@pytest.mark.parametrize("name", SMALL)
def test_in_bfloat16_boxes_and_losses_are_float32_and_near(name: str) -> None:
    detector = decided(name).eval()
    images = some_images(2).contiguous(memory_format=torch.channels_last)
    answers = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), torch.no_grad():
            torch.manual_seed(0)
            answers.append((detector(images, objects(2)), detector(images)))
    (losses, found), (near, rounded) = answers
    for key, loss in losses.items():
        assert near[key].dtype == torch.float32
        torch.testing.assert_close(near[key], loss, rtol=0.1, atol=0.01)
    assert (rounded.boxes.dtype, rounded.scores.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(rounded.boxes, rounded.boxes.bfloat16().float())
    torch.testing.assert_close(rounded.scores[:, 0], found.scores[:, 0], rtol=0.1, atol=0.02)


# Torchvision


@pytest.mark.parametrize("name", ORIGINALS)
def test_boxes_and_losses_are_torchvisions(name: str) -> None:
    detector = decided(name)
    original = ORIGINALS[name][0](
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + detector.background,
        min_size=HEIGHT,
        max_size=WIDTH,
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
        _skip_resize=True,  # in training, where it would draw a size from one
        **{f"{'box_' if detector.background else ''}detections_per_img": 20},
    )
    original.load_state_dict(detector.model.state_dict())
    images = some_images(1)
    detector.eval(), original.eval()
    with torch.no_grad():
        found, expected = detector(images), original(list(images))
    for i, each in enumerate(expected):
        ours = found.image(i)
        torch.testing.assert_close(ours.boxes, each["boxes"], atol=1e-4, rtol=0)
        torch.testing.assert_close(ours.scores, each["scores"], atol=1e-4, rtol=0)
        assert torch.equal(ours.labels, each["labels"] - detector.background)
    detector.train(), original.train()
    targets = objects(3)[2:]
    moved = [{**each, "labels": each["labels"] + detector.background} for each in targets]
    with torch.no_grad():
        torch.manual_seed(1)  # Faster R-CNN samples the boxes that it learns from
        losses = detector(images, targets)
        torch.manual_seed(1)
        expected_losses = original(list(images), moved)
    assert losses.keys() == expected_losses.keys()
    for key, loss in losses.items():
        torch.testing.assert_close(loss, expected_losses[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ORIGINALS)
def test_parameters_are_as_many_as_torchvision_publishes(name: str) -> None:
    """It counts 91 classes with the background, and not what is frozen."""
    with torch.device("meta"):
        detector = build(name, classes=90 if name.startswith("faster") else 91, weights="backbone")
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    assert parameters == ORIGINALS[name][1].COCO_V1.meta["num_params"]


@pytest.mark.parametrize("name", ORIGINALS)
def test_batchnorm_is_frozen_with_pretrained_weights_and_trained_without(name: str) -> None:
    with torch.device("meta"):
        kinds = [
            {type(module) for module in build(name, weights=weights).model.backbone.modules()}
            & {nn.BatchNorm2d, FrozenBatchNorm2d}
            for weights in ("none", "backbone", "coco")
        ]
    with_weights = nn.BatchNorm2d if name.endswith("v2") else FrozenBatchNorm2d
    assert kinds == [{nn.BatchNorm2d}, {with_weights}, {with_weights}]


# Learning


def test_the_small_detector_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    detector = build("retinanet_small").train()
    images, targets = some_images(4), objects(4)
    optimizer = adamw(detector, lr=0.003)
    history = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = torch.stack(list(detector(images, targets).values())).sum()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.15 * history[0]
    with torch.no_grad():
        found = detector(images)
    for i in (1, 2, 3):
        boxes, _, labels = found.image(i)  # the best first
        first = (box_iou(targets[i]["boxes"], boxes) > 0.6).int().argmax(1)
        assert (box_iou(targets[i]["boxes"], boxes[first]).diagonal() > 0.6).all()
        assert torch.equal(labels[first], targets[i]["labels"])


def step(detector: Detector, optimizer: torch.optim.Optimizer) -> None:
    torch.stack(list(detector(some_images(3), objects(3)).values())).sum().backward()
    optimizer.step()


def test_head_leaves_the_backbone_as_it_is_to_the_bit(tmp_path: Path) -> None:
    torch.save(build("retinanet_small").model.state_dict(), tmp_path / "weights.pth")
    detector = build("retinanet_small", weights=str(tmp_path / "weights.pth"), trainable="head")
    detector.load_pretrained()
    before = {key: each.clone() for key, each in detector.state_dict().items()}
    step(detector.train(), sgd(detector, lr=0.1, weight_decay=0.1))
    same = {key: torch.equal(each, before[key]) for key, each in detector.state_dict().items()}
    assert all(same[key] for key in same if key.startswith("model.backbone."))
    assert not any(same[key] for key in same if key.startswith("model.head.") and key.endswith("weight"))


def test_head_learns_the_pyramid_too_where_the_backbone_alone_has_weights() -> None:
    with torch.device("meta"):
        detector = build("faster_rcnn_resnet50", weights="backbone", trainable="head")
    trained = {name.split(".")[2] for name, each in detector.named_parameters() if each.requires_grad}
    assert "body" not in trained
    assert "fpn" in trained


def test_split_moves_the_backbone_at_a_rate_of_its_own() -> None:
    torch.manual_seed(0)
    detector = build("retinanet_small").train()
    before = {name: each.detach().clone() for name, each in detector.named_parameters()}
    step(detector, sgd(detector, lr=0.1, momentum=0.0, backbone_lr=0.001))
    for name, each in detector.named_parameters():
        rate = 0.001 if "backbone" in name else 0.1
        torch.testing.assert_close(each.detach(), before[name] - rate * each.grad)


# What is refused


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("faster_rcnn_resnet50", {"backbone": "resnet51"}, "one of resnet50, resnet50_v2, mobilenet_v3_large"),
        ("retinanet_resnet50", {"backbone": "mobilenet_v3_large"}, "one of resnet50, resnet50_v2, got"),
        ("retinanet_small", {"weights": "coco"}, "there are no published weights=coco"),
        ("retinanet_small", {"trainable": "head"}, "head with pretrained weights"),
        ("retinanet_small", {"trainable": "some"}, "trainable must be full"),
        ("retinanet_small", {"channels": [8, 8]}, "four positive numbers each"),
        ("retinanet_small", {"channels": [16, 32, 16, 32]}, "do not decrease"),
        ("retinanet_small", {"width": 60}, "multiple of 8"),
        ("retinanet_small", {"depth": 5}, "depth from 1 to 4"),
        ("retinanet_small", {"detections": 0}, "at least one detection"),
        ("faster_rcnn_mobilenet", {"score_threshold": 1.5}, "from 0 to 1"),
        ("faster_rcnn_mobilenet", {"nms_threshold": -0.1}, "from 0 to 1"),
    ],
)
def test_impossible_values_are_refused(name: str, changes: dict[str, Any], reason: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=reason):
        build(name, **changes)
