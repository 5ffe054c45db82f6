"""Images and objects of all splits of a data set as flat arrays, for statistics and galleries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay_deploy.images.canvas import Canvas, boxes_from_canvas
from assay_research.data.protocol import Data
from assay_research.data.reading.annotations import printable

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Collection:
    """Images and objects of all splits of a data set as flat arrays.

    Attributes:
        name: name of the data set.
        classes: class names, in the order of the label indices.
        canvas: the canvas that every image was placed on.
        images: uint8 ``[height, width, 3]`` each, on the canvas; views of the data set's arrays, which may be
            memory-mapped.
        names: names of the images.
        sizes: int64 ``[images, 2]``: height and width of each image in pixels, before it was placed on the canvas.
        splits: int64 ``[images]``: index of each image's split in `SPLITS`.
        owners: int64 ``[objects]``: index of the image that contains each object, in ascending order.
        labels: int64 ``[objects]``: class indices.
        ignored: bool ``[objects]``: True for objects that are excluded from training and from scores.
        canvas_boxes: float32 ``[objects, 4]``: left, top, right, bottom in canvas pixels; None for classification,
            where an object is a whole image.
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
        """Return views of the images without the margins of the canvas, uint8 ``[height, width, 3]`` each."""
        windows = [self.canvas.window(height, width) for height, width in self.sizes.tolist()]
        return [
            image[top : top + height, left : left + width]
            for image, (top, left, height, width) in zip(self.images, windows, strict=True)
        ]

    def learned(self) -> "Collection":
        """Return the collection without the ignored objects."""
        keep = ~self.ignored
        boxes = None if self.canvas_boxes is None else self.canvas_boxes[keep]
        parts = (self.name, self.classes, self.canvas, self.images, self.names, self.sizes, self.splits)
        return Collection(*parts, self.owners[keep], self.labels[keep], self.ignored[keep], boxes)

    def boxes(self) -> NDArray[np.float64]:
        """Return the boxes in pixels of their original images, float64 ``[objects, 4]``."""
        assert self.canvas_boxes is not None
        ends = np.searchsorted(self.owners, np.arange(len(self.names) + 1))
        per_image = [
            boxes_from_canvas(self.canvas_boxes[start:end], (height, width), self.canvas)
            for start, end, (height, width) in zip(ends[:-1], ends[1:], self.sizes.tolist(), strict=True)
        ]
        return np.concatenate(per_image).astype(np.float64)


def collect(data: Data) -> Collection:
    """Collect the images and objects of all splits of a data set.

    Unprintable characters in names are escaped: a file name may contain bytes that are not text.
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
