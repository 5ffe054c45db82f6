"""Protocol of a task in deploy: manifest rules, and conversion of a graph's outputs to results."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Manifest, Tensor
from assay_deploy.tasks.options import Option, OptionValues

R = TypeVar("R")

Outputs = dict[str, NDArray[Any]]
"""Outputs of a graph for a batch, by name; the first axis is the image."""

RequiredTensor = tuple[Tensor, str, tuple[int | str, ...]]
"""A tensor of the manifest, with the dtype and shape that it must have."""


@dataclass(frozen=True)
class ImageInfo:
    """File of an image, None for bytes and arrays, and its height and width in pixels."""

    path: Path | None
    size: tuple[int, int]


class Task(Protocol[R]):
    """Protocol of a task, whose results for an image have the type ``R``.

    Attributes:
        name: name of the task in a manifest, such as ``classification``.
        model_kind: noun for the task's models in messages, such as ``classifier``.
        dense: whether an artifact may slide over images larger than the canvas.
        options: options of `assay-deploy predict` that only this task has.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - among the attributes
    @property
    def model_kind(self) -> str: ...  # noqa: D102
    @property
    def dense(self) -> bool: ...  # noqa: D102
    @property
    def options(self) -> Sequence[Option]: ...  # noqa: D102

    def outputs(self, manifest: Manifest) -> Sequence[RequiredTensor]:
        """Return the manifest's outputs with the dtype and shape that the task requires of each.

        Raises:
            BundleError: the manifest has other outputs.
        """
        ...

    def artifact_outputs(self, manifest: Manifest) -> Collection[tuple[str, ...]]:
        """Return the valid values of `Artifact.outputs`: the tuples of output names that one artifact may compute."""
        ...

    def results(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[R]:
        """Yield the result for each image of a batch.

        Args:
            outputs: outputs of one artifact for the batch.
            read: the batch's images, in order.
            manifest: manifest of the bundle.

        Raises:
            BundleError: an output has values that are invalid for the bundle, such as an unknown class index.
        """
        ...

    def differences(self, found: Outputs, expected: Outputs) -> dict[str, float]:
        """Return the difference of each output from the eager model's, to compare with the artifact's tolerances."""
        ...

    def text(self, result: R, options: OptionValues) -> str:
        """Format the result as lines of tab-separated columns."""
        ...

    def json(self, result: R, options: OptionValues) -> dict[str, Any]:
        """Return the result as an object ready for JSON, ``path`` first."""
        ...
