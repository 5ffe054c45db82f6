"""A data set, whatever its task: three splits of images on one canvas, and the task that it is for."""

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
    """What is labelled in the images of a data set, all splits one after the other, as flat arrays.

    Attributes:
        sizes: int64 ``[images, 2]``: height and width of each image before it was put on the canvas, pixels.
        owners: int64 ``[objects]``, the image each object is in, rising.
        labels: int64 ``[objects]``: class indices.
        ignored: bool ``[objects]``: neither learned nor held against a model.
        boxes: float32 ``[objects, 4]``: left, top, right, bottom in canvas pixels; None where an object is a whole
            image.
    """

    sizes: NDArray[np.int64]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    boxes: NDArray[np.float32] | None


class ImageSplit(Protocol):
    """One split of a data set; a task's own has its labels too."""

    @property
    def images(self) -> Tensor:
        """Images uint8 ``[n, height, width, 3]``, RGB, on the canvas."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, for reports."""

    def __len__(self) -> int:
        """Number of images."""


class Data(Protocol):
    """A data set that was read.

    Attributes:
        task: key of the task it is for in `assay_research.tasks.registry.TASKS`.
    """

    task: ClassVar[str]

    @property
    def name(self) -> str:
        """What tables call it, ``digits`` or ``bccd``."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels."""

    @property
    def canvas(self) -> Canvas:
        """What every image was put on."""

    @property
    def train(self) -> ImageSplit:
        """The images to learn from."""

    @property
    def val(self) -> ImageSplit:
        """The images that choose the checkpoint."""

    @property
    def test(self) -> ImageSplit:
        """The images that are scored once."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What reading it went on from."""

    def fingerprint(self) -> str:
        """Hex sha256 over class names, images and labels: the same data give the same one."""

    def objects(self) -> Objects:
        """What is labelled in its images, for the report on the data set."""
