"""A small detector and pictures that it learns in seconds, for the tests of what trains and scores detectors."""

import torch

from assay_deploy.canvas import Canvas
from assay_research.data.boxes import BoxSplit, DetectionData

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

FEW = ("data.pictures=40", "data.species=2", "data.height=96", "data.width=128", "data.field=40")
"""And of those micrographs, so few that they are drawn in a moment."""


def squares(n: int, seed: int) -> BoxSplit:
    """Noise with one or two squares in each picture, bright (0) or dark (1)."""
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
