"""Data set for classification, its splits and its channel statistics."""

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
    """Images of one split and their classes.

    Attributes:
        images: uint8 ``[n, height, width, 3]``, RGB, on the canvas.
        labels: int64 ``[n]``: class indices.
        names: names of the images in reports: a path relative to the data set, or an index.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Split":
        """Copy of the split on another device."""
        return Split(self.images.to(device), self.labels.to(device), self.names)


@dataclass(frozen=True)
class ClassificationData:
    """A data set for classification.

    Attributes:
        name: name in tables, such as ``digits`` or ``cifar10-jpeg``.
        classes: class names, in the order of the label indices.
        canvas: the canvas that every image was placed on.
        train, val, test: the splits; `val` selects the checkpoint, `test` is evaluated once, after training.
        problems: problems found while reading that did not stop it.
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
        """Hex sha256 of class names, images and labels of the splits in order; equal data have equal fingerprints."""
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
        """Return every image as one object of the size of the canvas."""
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
