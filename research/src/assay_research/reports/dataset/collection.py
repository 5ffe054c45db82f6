"""A data set with all its splits in one: flat arrays of images and objects, for statistics and galleries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_deploy.images.canvas import Canvas, boxes_from_canvas
from assay_research.data.protocol import Data
from assay_research.data.reading.annotations import printable

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Collection:
    """The images and objects of a data set as flat arrays, all splits in one.

    Attributes:
        name: of the data set.
        classes: names, in the order of the labels.
        canvas: what every image was put on.
        images: uint8 ``[height, width, 3]`` each, on the canvas; views of the data set's, which may lie on disk.
        names: of the images.
        sizes: int64 ``[images, 2]``: their own height and width, pixels.
        splits: int64 ``[images]``, into `SPLITS`.
        owners: int64 ``[objects]``, the image each object is in, rising.
        labels: int64 ``[objects]``.
        ignored: bool ``[objects]``: neither learned nor held against a detector.
        canvas_boxes: float32 ``[objects, 4]``: left, top, right, bottom in canvas pixels; None where objects are
            whole images, each with one class.
    """

    name: str
    classes: tuple[str, ...]
    canvas: Canvas
    images: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    splits: NDArray[np.int64]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    canvas_boxes: NDArray[np.float32] | None

    def unpadded(self) -> list[NDArray[np.uint8]]:
        """Views of the images on their canvases, without the margins, uint8 ``[height, width, 3]`` each."""
        windows = [self.canvas.window(height, width) for height, width in self.sizes.tolist()]
        return [
            image[top : top + height, left : left + width]
            for image, (top, left, height, width) in zip(self.images, windows, strict=True)
        ]

    def learned(self) -> "Collection":
        """The same without the ignored objects."""
        keep = ~self.ignored
        boxes = None if self.canvas_boxes is None else self.canvas_boxes[keep]
        parts = (self.name, self.classes, self.canvas, self.images, self.names, self.sizes, self.splits)
        return Collection(*parts, self.owners[keep], self.labels[keep], self.ignored[keep], boxes)

    def boxes(self) -> NDArray[np.float64]:
        """The boxes in their images' own pixels, ``[objects, 4]``."""
        assert self.canvas_boxes is not None
        ends = np.searchsorted(self.owners, np.arange(len(self.names) + 1))
        per_image = [
            boxes_from_canvas(self.canvas_boxes[start:end], (height, width), self.canvas)
            for start, end, (height, width) in zip(ends[:-1], ends[1:], self.sizes.tolist(), strict=True)
        ]
        return np.concatenate(per_image).astype(np.float64)


def collect(data: Data) -> Collection:
    """Put the splits of a data set one after the other.

    Names are made printable: a file name may hold bytes that are no text.
    """
    parts = (data.train, data.val, data.test)
    splits = np.repeat(np.arange(3), [len(part) for part in parts])
    images = tuple(image for part in parts for image in part.images.numpy())
    names = tuple(printable(name) for part in parts for name in part.names)
    found = data.objects()
    return Collection(
        data.name,
        tuple(map(printable, data.classes)),
        data.canvas,
        images,
        names,
        found.sizes,
        splits,
        found.owners,
        found.labels,
        found.ignored,
        found.boxes,
    )
