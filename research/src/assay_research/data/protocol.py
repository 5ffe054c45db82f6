"""A data set, whatever its task: three splits of pictures on one canvas, and the task that it is for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay_deploy.pictures.canvas import Canvas
from assay_research.data.reading.annotations import Problem


@dataclass(frozen=True, eq=False)
class Objects:
    """What is labelled in the pictures of a data set, all splits one after the other, as flat arrays.

    Attributes:
        sizes: int64 ``[pictures, 2]``: height and width of each picture before it was put on the canvas, pixels.
        owners: int64 ``[objects]``, the picture each object is in, rising.
        labels: int64 ``[objects]``: class indices.
        ignored: bool ``[objects]``: neither learned nor held against a model.
        boxes: float32 ``[objects, 4]``: left, top, right, bottom in canvas pixels; None where an object is a whole
            picture.
    """

    sizes: NDArray[np.int64]
    owners: NDArray[np.int64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    boxes: NDArray[np.float32] | None


class PictureSplit(Protocol):
    """One split of a data set; a task's own has its labels too."""

    @property
    def images(self) -> Tensor:
        """Pictures uint8 ``[n, height, width, 3]``, RGB, on the canvas."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pictures, for reports."""

    def __len__(self) -> int:
        """Number of pictures."""


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
        """What every picture was put on."""

    @property
    def train(self) -> PictureSplit:
        """The pictures to learn from."""

    @property
    def val(self) -> PictureSplit:
        """The pictures that choose the checkpoint."""

    @property
    def test(self) -> PictureSplit:
        """The pictures that are scored once."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What reading it went on from."""

    def fingerprint(self) -> str:
        """Hex sha256 over class names, pictures and labels: the same data give the same one."""

    def objects(self) -> Objects:
        """What is labelled in its pictures, for the report on the data set."""
