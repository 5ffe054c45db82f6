"""Images with a class each: a split, a data set, its channel statistics."""

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from assay_deploy.images.canvas import Canvas
from assay_research.data.protocol import Objects
from assay_research.data.reading.annotations import Problem


@dataclass(frozen=True)
class Split:
    """Images and their classes.

    Attributes:
        images: uint8 ``[n, height, width, 3]``, RGB, on the canvas.
        labels: int64 ``[n]``.
        names: of the images, for reports: a path relative to the data set, or an index.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device), self.names)


@dataclass(frozen=True)
class ClassificationData:
    """A data set for classification.

    Attributes:
        name: what tables call it, ``digits`` or ``cifar10-jpeg``.
        classes: names, in the order of the labels.
        canvas: what every image was put on.
        train, val, test: the splits; `val` chooses the checkpoint, `test` is scored once.
        problems: what reading it went on from.
    """

    task: ClassVar[str] = "classification"

    name: str
    classes: tuple[str, ...]
    canvas: Canvas
    train: Split
    val: Split
    test: Split
    problems: tuple[Problem, ...] = field(default=(), kw_only=True)

    def fingerprint(self) -> str:
        """Hex sha256 over class names, images and labels of the splits in order: the same data give the same one."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for split in (self.train, self.val, self.test):
            digest.update(f"{tuple(split.images.shape)}".encode())
            digest.update(split.images.cpu().numpy().tobytes())
            digest.update(split.labels.cpu().numpy().tobytes())
        return digest.hexdigest()

    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training images' channels in [0, 1], float32 ``[3]`` each."""
        return channel_statistics(self.train.images)

    def objects(self) -> Objects:
        """Every image as one object, as large as the canvas."""
        labels = np.concatenate([split.labels.numpy() for split in (self.train, self.val, self.test)])
        sizes = np.tile([self.canvas.height, self.canvas.width], (len(labels), 1))
        return Objects(sizes, np.arange(len(labels)), labels, np.zeros(len(labels), bool), None)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, float32 ``[3]`` in [0, 1], of the channels of uint8 ``[n, height, width, 3]``."""
    counts = torch.stack([images[..., c].flatten().bincount(minlength=256) for c in range(3)]).double()
    values = torch.arange(256, dtype=torch.float64, device=counts.device) / 255
    weights = counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(1)
    return mean.float(), variance.sqrt().clamp(min=1e-3).float()
