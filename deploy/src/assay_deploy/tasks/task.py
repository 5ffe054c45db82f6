"""The protocol of a task in deploy: its rules for a manifest, and the way from a graph's outputs to an answer."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Manifest, Tensor
from assay_deploy.tasks.options import Option, Shown

R = TypeVar("R")

Outputs = dict[str, NDArray[Any]]
"""Of a batch, by name: arrays whose first axis is the image's."""

Demanded = tuple[Tensor, str, tuple[int | str, ...]]
"""A tensor of a manifest, and the dtype and shape it must have."""


@dataclass(frozen=True)
class ImageInfo:
    """An image that was read: its file (None for bytes and arrays), and its height and width in pixels."""

    path: Path | None
    size: tuple[int, int]


class Task(Protocol[R]):
    """Everything deploy knows of a task, whose results for an image are of the type ``R``.

    Attributes:
        name: as a manifest says it, ``classification``.
        holds: what a bundle of the task holds, ``classifier``.
        dense: whether an artifact may slide over images larger than the canvas.
        options: of `assay-deploy predict`, beyond those that all tasks have.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - among the attributes
    @property
    def holds(self) -> str: ...  # noqa: D102
    @property
    def dense(self) -> bool: ...  # noqa: D102
    @property
    def options(self) -> Sequence[Option]: ...  # noqa: D102

    def outputs(self, manifest: Manifest) -> Sequence[Demanded]:
        """The manifest's outputs, with the dtype and shape that the task demands of each.

        Raises:
            BundleError: the manifest names other outputs.
        """
        ...

    def computed(self, manifest: Manifest) -> Collection[tuple[str, ...]]:
        """Names of outputs, in order, that one artifact may compute."""
        ...

    def answers(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[R]:
        """A result for each image of a batch.

        Args:
            outputs: of one artifact.
            read: the batch's images, in order.
            manifest: of the bundle.

        Raises:
            BundleError: the outputs say what the bundle cannot mean.
        """
        ...

    def differences(self, found: Outputs, expected: Outputs) -> dict[str, float]:
        """Of each output, how far an engine's is from the eager model's, as the artifacts' tolerances count it."""
        ...

    def text(self, result: R, options: Shown) -> str:
        """The result as lines of columns separated by tabs."""
        ...

    def json(self, result: R, options: Shown) -> dict[str, Any]:
        """The result as an object ready for JSON, ``path`` first."""
        ...
