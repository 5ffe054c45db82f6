"""Detectors as they are built, one small enough to train, and images it learns in seconds."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import assay_research
from assay_deploy.images.canvas import Canvas
from assay_research.config.build import instantiate
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.models.base_detector import Detector

MODELS = Path(assay_research.__file__).parent / "conf" / "model"
SMALL = ["faster_rcnn_mobilenet", "retinanet_small"]
HEIGHT, WIDTH, CLASSES = 32, 64, 3

CANVAS = Canvas(64, 64, "letterbox")
OVERRIDES = (
    "experiment=diatoms_smoke",
    "model.channels=[16,16,32,32]",
    "model.blocks=[1,1,1,1]",
    "model.width=16",
    "model.depth=1",
    "batch_size=4",
    "figures=false",
)
"""Of a training on the embedded micrographs that takes a moment an epoch."""

FEW = ("data.images=40", "data.species=2", "data.height=96", "data.width=128", "data.field=40")
"""And of those micrographs, so few that they are drawn in a moment."""


def squares(n: int, seed: int) -> BoxSplit:
    """Noise with one or two squares in each image, bright (0) or dark (1)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 140, (n, 64, 64, 3), generator=generator, dtype=torch.uint8)
    boxes, labels = [], []
    for i, image in enumerate(images):
        size, side = torch.randint(14, 25, (2,), generator=generator).tolist()
        places = [(2, 2 + side), (36, 34 - side)][: 1 + i % 2]
        boxes.append(torch.tensor([[x, y, x + size, y + size] for x, y in places], dtype=torch.float32))
        labels.append(torch.tensor([(i + k) % 2 for k in range(len(places))]))
        for (x, y), label in zip(places, labels[-1].tolist(), strict=True):
            image[y : y + size, x : x + size] = 20 if label else 230
    ignored = tuple(torch.zeros(len(each), dtype=torch.bool) for each in labels)
    sizes = torch.full((n, 2), 64)
    return BoxSplit(images, tuple(boxes), tuple(labels), ignored, sizes, tuple(f"{seed}/{i}" for i in range(n)))


def data() -> DetectionData:
    """The three splits."""
    return DetectionData("squares", ("bright", "dark"), CANVAS, squares(48, 1), squares(16, 2), squares(16, 3))


def build(name: str, classes: int = CLASSES, **changes: Any) -> Detector:
    detector = instantiate(
        {**yaml.safe_load((MODELS / f"{name}.yaml").read_text()), **changes}, "models", classes=classes
    )
    assert isinstance(detector, Detector)
    return detector


@cache
def decided(name: str) -> Detector:
    """With a class predictor that has opinions; an untrained one finds every class everywhere equally likely."""
    torch.manual_seed(0)
    detector = build(name, detections=20)
    for part, parameter in detector.named_parameters():
        if "box_predictor.cls_score.weight" in part or "classification_head.cls_logits.weight" in part:
            nn.init.normal_(parameter, std=0.5)
    return detector


def some_images(batch: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    coarse = torch.randn(batch, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
