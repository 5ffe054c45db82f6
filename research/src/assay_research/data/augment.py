"""Flip, crop, rescale and recolour a whole batch of pictures at once, on the device they live on."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from assay_research.resample import axis_weights, resample

GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601, which Pillow and torchvision call grey."""


@dataclass
class Augment:
    """How training pictures are varied; the defaults leave them as they are.

    Attributes:
        flip: mirror left to right with probability 1/2.
        pad: zero pixels put around the picture, then a random crop of the canvas' own size.
        scale: [S_min, S_max]: the picture's shorter side is resized to S pixels, an integer drawn uniformly for each picture,
            then a random crop of the canvas' size is taken (Simonyan and Zisserman, arXiv:1409.1556, section 3.1);
            [36, 36] is a fixed S. None does not resize.
        brightness: factor drawn uniformly from [1 - brightness, 1 + brightness].
        contrast: the same, on the distance from the picture's mean grey.
        saturation: the same, on the distance from each pixel's own grey.

    Raises:
        ValueError: a value outside its range.
    """

    flip: bool = False
    pad: int = 0
    scale: list[int] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"augment.pad must be 0 or more pixels, got {self.pad}")
        if self.scale is not None and (len(self.scale) != 2 or not 1 <= self.scale[0] <= self.scale[1]):
            raise ValueError(
                f"augment.scale must be [S_min, S_max] with 1 <= S_min <= S_max, got {list(self.scale)}"
            )
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must be from 0 to 1, got {getattr(self, name)}")


def augment(images: Tensor, settings: Augment, generator: Generator) -> Tensor:
    """Vary each picture of a batch on its own.

    Args:
        images: uint8 ``[batch, height, width, 3]``, RGB.
        settings: what to do.
        generator: the only source of randomness, on the pictures' device. How many numbers it gives depends on
            the batch's size alone.

    Returns:
        float32 ``[batch, 3, height, width]`` in [0, 1], channels_last in memory.
    """
    batch, height, width, _ = images.shape
    shorter = min(height, width)
    low, high = settings.scale or (shorter, shorter)
    flip, scale, down, right, *colour = torch.rand(7, batch, device=images.device, generator=generator)
    size = low + (scale * (high - low + 1)).floor()
    axes = []
    for length, draw, mirrored in (
        (height, down, None),
        (width, right, flip < 0.5 if settings.flip else None),
    ):
        resized = (size * (length / shorter)).round()
        offset = (draw * (resized - length + 2 * settings.pad + 1)).floor() - settings.pad
        axes.append(axis_weights(length, length, resized, offset, mirrored)[:, None])
    x = images.permute(0, 3, 1, 2).float() / 255
    x = resample(x, *axes)
    return x.contiguous(memory_format=torch.channels_last).clamp(0, 1)
