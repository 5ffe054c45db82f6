"""Data set for detection: three splits of images with labelled boxes, on one canvas."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor

from assay_deploy.images.canvas import Canvas
from assay_research.data.classification import channel_statistics
from assay_research.data.protocol import Objects
from assay_research.data.reading.annotations import Problem


@dataclass(frozen=True)
class BoxSplit:
    """Images of one split and their boxes.

    Attributes:
        images: uint8 ``[n, height, width, 3]``, RGB, on the canvas.
        boxes: float32 ``[objects, 4]`` for each image: left, top, right, bottom in canvas pixels; areas are positive.
        labels: int64 ``[objects]`` for each image: class indices from 0.
        ignored: bool ``[objects]`` for each image: True for objects that are excluded from training and from scores:
            COCO's crowds and VOC's difficult objects.
        sizes: int64 ``[n, 2]``: height and width of each image in pixels, before it was placed on the canvas.
        names: names of the images in reports: a path relative to the data set, or an index.
    """

    images: Tensor
    boxes: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    ignored: tuple[Tensor, ...]
    sizes: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int]) -> "BoxSplit":
        """Select images by index, in the given order."""
        chosen = list(indices)
        boxes, labels, ignored = (tuple(each[i] for i in chosen) for each in (self.boxes, self.labels, self.ignored))
        names = tuple(self.names[i] for i in chosen)
        return BoxSplit(self.images[chosen], boxes, labels, ignored, self.sizes[chosen], names)


@dataclass(frozen=True)
class DetectionData:
    """A data set for detection.

    Attributes:
        name: name in tables, such as ``bccd`` or ``diatoms``.
        classes: class names, in the order of the label indices: the most frequent first.
        canvas: the canvas that every image was placed on.
        train, val, test: the splits; `val` selects the checkpoint, `test` is evaluated once, after training.
        problems: problems found while reading that did not stop it, sorted by kind, then by file.
    """

    task: ClassVar[str] = "detection"

    name: str
    classes: tuple[str, ...]
    canvas: Canvas
    train: BoxSplit
    val: BoxSplit
    test: BoxSplit
    problems: tuple[Problem, ...] = field(default=(), kw_only=True)

    def fingerprint(self) -> str:
        """Hex sha256 of class names, images and boxes of the splits in order; equal data have equal fingerprints."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for split in (self.train, self.val, self.test):
            digest.update(f"{tuple(split.images.shape)}".encode())
            digest.update(split.images.contiguous().numpy().data)
            digest.update(split.sizes.numpy().tobytes())
            for each in zip(split.boxes, split.labels, split.ignored, strict=True):
                for tensor in each:
                    digest.update(f"{len(tensor)}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the training canvases' channels in [0, 1], float32 ``[3]`` each."""
        return channel_statistics(self.train.images)

    def objects(self) -> Objects:
        """Return the labelled boxes of all splits."""
        splits = (self.train, self.val, self.test)
        labels, ignored, boxes = (
            np.concatenate([each.numpy() for split in splits for each in getattr(split, field)])
            for field in ("labels", "ignored", "boxes")
        )
        counts = [len(each) for split in splits for each in split.labels]
        sizes = np.concatenate([split.sizes.numpy() for split in splits])
        return Objects(sizes, np.repeat(np.arange(len(counts)), counts), labels, ignored, boxes)
