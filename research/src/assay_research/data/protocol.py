"""Interface of data sets of any task: three splits of images on one canvas, and the task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay_deploy.images.canvas import Canvas
from assay_research.data.reading.annotations import Problem


@dataclass(frozen=True, eq=False)
class Objects:
    """Labelled objects of a data set as flat arrays: the splits train, val and test one after the other.

    Attributes:
        sizes: int64 ``[images, 2]``: height and width of each image in pixels, before it was placed on the canvas.
        owners: int64 ``[objects]``: index of the image that contains each object, in ascending order.
        labels: int64 ``[objects]``: class indices.
        ignored: bool ``[objects]``: True for objects that are excluded from training and from scores.
        boxes: float32 ``[objects, 4]``: left, top, right, bottom in canvas pixels; None for classification, where an
            object is a whole image.
    """

    sizes: NDArray[np.int64]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    boxes: NDArray[np.float32] | None


class ImageSplit(Protocol):
    """Images of one split of a data set; the split class of each task adds its labels."""

    @property
    def images(self) -> Tensor:
        """Images on the canvas, uint8 ``[n, height, width, 3]``, RGB."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, for reports."""

    def __len__(self) -> int:
        """Number of images."""


class Data(Protocol):
    """A loaded data set.

    Attributes:
        task: key of its task in `assay_research.tasks.registry.TASKS`.
    """

    task: ClassVar[str]

    @property
    def name(self) -> str:
        """Name of the data set in tables, such as ``digits`` or ``bccd``."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the label indices."""

    @property
    def canvas(self) -> Canvas:
        """Canvas that every image was placed on."""

    @property
    def train(self) -> ImageSplit:
        """Training images."""

    @property
    def val(self) -> ImageSplit:
        """Validation images, which select the checkpoint."""

    @property
    def test(self) -> ImageSplit:
        """Test images, which are evaluated once, after training."""

    @property
    def problems(self) -> Sequence[Problem]:
        """Problems found while reading the data set that did not stop it."""

    def fingerprint(self) -> str:
        """Hex sha256 of class names, images and labels; equal data have equal fingerprints."""

    def objects(self) -> Objects:
        """Labelled objects of all splits, for the report on the data set."""
