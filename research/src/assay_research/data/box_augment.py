"""Augmentation of images with boxes: flip, rescale, crop and colour jitter."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from assay_deploy.images.canvas import GREY

MIN_AREA_LEFT = 0.25
"""Smallest fraction of a box's area that must stay on the canvas. A box with less is dropped: too little of the object
is visible to identify it."""

DRAWS = 8
"""Number of random numbers per image."""


@dataclass
class BoxAugment:
    """Settings for augmenting a detector's training images; the defaults change nothing.

    Attributes:
        flip: mirror left to right with probability 1/2.
        flip_vertical: mirror top to bottom with probability 1/2.
        scale: ``[smallest, largest]``: the image is resized by a random factor from this range, uniform in its
            logarithm. A larger image is then randomly cropped to the canvas; a smaller one is placed at a random
            position on a grey canvas. None does not resize.
        brightness: pixels are multiplied by a factor drawn uniformly from [1 - brightness, 1 + brightness].
        contrast: the difference from the image's mean grey is multiplied by such a factor.
        saturation: the difference from each pixel's own grey is multiplied by such a factor.

    Raises:
        ValueError: a value is outside its range.
    """

    flip: bool = False
    flip_vertical: bool = False
    scale: list[float] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if self.scale is not None and (len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]):
            raise ValueError(
                f"augment.scale must be [smallest, largest] with 0 < smallest <= largest, got {list(self.scale)}"
            )
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be from 0 to 1, got {getattr(self, name)}")


def draw(count: int, generator: Generator) -> Tensor:
    """Draw all random numbers for augmenting a batch, one column per image.

    Args:
        count: number of images in the batch.
        generator: the only source of randomness.

    Returns:
        float32 ``[8, count]`` in [0, 1), on the generator's device.
    """
    return torch.rand(DRAWS, count, device=generator.device, generator=generator)


def augment_boxes(
    images: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], settings: BoxAugment, draws: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Augment each image of a batch independently, with its boxes: resize, crop or pad, mirror, then jitter colours.

    Boxes are clipped to the canvas; a box that keeps less than `MIN_AREA_LEFT` of its area is dropped.

    Args:
        images: uint8 ``[batch, height, width, 3]``, RGB, on the canvas.
        boxes: float32 ``[objects, 4]`` of each image: left, top, right, bottom in canvas pixels.
        labels: ``[objects, ...]`` of each image: labels of the boxes; the label of a dropped box is dropped too.
        settings: the augmentations to apply.
        draws: random numbers from `draw`, float32 ``[8, batch]``.

    Returns:
        The images, float32 ``[batch, 3, height, width]`` in [0, 1], channels_last in memory; their boxes; their
        labels.
    """
    x = images.permute(0, 3, 1, 2)
    if settings == BoxAugment():
        return x.float().div_(255), list(boxes), list(labels)
    varied = torch.empty(x.shape, device=x.device, memory_format=torch.channels_last)
    kept_boxes, kept_labels = [], []
    for i, numbers in enumerate(draws.T.tolist()):
        moved, found, there = _move(x[i], boxes[i], settings, numbers[:5])
        varied[i] = _recolour(moved, settings, numbers[5:])
        kept_boxes.append(found)
        kept_labels.append(labels[i][there])
    return varied, kept_boxes, kept_labels


def _move(image: Tensor, boxes: Tensor, settings: BoxAugment, numbers: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Resize, crop or pad, and mirror an image uint8 ``[3, height, width]``; also return its boxes and their mask."""
    height, width = image.shape[1:]
    pixels = tv_tensors.Image(image)
    found = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
    zoom, down, right, mirrored, turned = numbers
    area = 1.0
    if settings.scale is not None:
        smallest, largest = settings.scale
        factor = smallest * (largest / smallest) ** zoom
        size = [max(1, round(length * factor)) for length in (height, width)]
        # Padding between the resized image and the canvas; negative where the image is cropped.
        top, left = (
            round((length - resized) * where)
            for length, resized, where in zip((height, width), size, (down, right), strict=True)
        )
        edges = [left, top, width - size[1] - left, height - size[0] - top]
        pixels, found = (F.pad(F.resize(each, size), edges, fill=GREY) for each in (pixels, found))
        area = size[0] * size[1] / (height * width)
    if settings.flip and mirrored < 0.5:
        pixels, found = F.horizontal_flip(pixels), F.horizontal_flip(found)
    if settings.flip_vertical and turned < 0.5:
        pixels, found = F.vertical_flip(pixels), F.vertical_flip(found)
    moved = found.as_subclass(Tensor)
    there = _area(moved) >= MIN_AREA_LEFT * area * _area(boxes)
    return pixels.as_subclass(Tensor), moved[there], there


def _recolour(image: Tensor, settings: BoxAugment, numbers: list[float]) -> Tensor:
    """Adjust brightness, contrast and saturation of an image uint8 ``[3, height, width]``; return float32 in [0, 1]."""
    x = image.float().div_(255)
    steps = (
        (F.adjust_brightness, settings.brightness),
        (F.adjust_contrast, settings.contrast),
        (F.adjust_saturation, settings.saturation),
    )
    for (adjust, amount), number in zip(steps, numbers, strict=True):
        if amount:
            x = adjust(x, 1 + amount * (2 * number - 1))
    return x


def _area(boxes: Tensor) -> Tensor:
    """Areas of boxes ``[n, 4]`` in square pixels, ``[n]``."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
