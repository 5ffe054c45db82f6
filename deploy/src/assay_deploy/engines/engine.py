"""The protocol of an engine: it loads a proven artifact, runs batches, and says where each node runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Artifact, Manifest

PROVIDERS = ("auto", "cuda", "cpu")
"""Devices that can be asked for."""


@dataclass(frozen=True)
class Node:
    """A node of a graph and the place an engine gave it: its ``name``, operator type ``op`` and ``provider``."""

    name: str
    op: str
    provider: str


class Loaded(Protocol):
    """An artifact that is ready to run, in several threads at once.

    Attributes:
        provider: where it runs, ``cuda`` or ``cpu``.
        threads: how many CPU threads one `run` may use.
        outputs: names of what `run` returns.
        placement: the provider of each node.
        stray: those of the compute nodes that are elsewhere than on `provider`.
        fallback: why ``auto`` did not take CUDA; "" if it did or was not asked to choose.
    """

    @property
    def provider(self) -> str: ...  # noqa: D102 - among the attributes
    @property
    def threads(self) -> int: ...  # noqa: D102
    @property
    def outputs(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def placement(self) -> Sequence[Node]: ...  # noqa: D102
    @property
    def stray(self) -> Sequence[Node]: ...  # noqa: D102
    @property
    def fallback(self) -> str: ...  # noqa: D102

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Compute the graph's outputs.

        Args:
            images: uint8 ``[batch, height, width, 3]``, RGB, of the canvas' size; for a dense graph larger, see
                `assay_deploy.bundle.manifest.Artifact`.

        Returns:
            `outputs` by name, of the types and shapes that the manifest says.

        Raises:
            ValueError: the array has another type or shape.
            BundleError: the graph gives an output of another shape.
            RuntimeUnavailableError: the engine failed; on a GPU, most likely out of memory.
        """
        ...


class Engine(Protocol):
    """Software that runs artifacts; imported when it is first used, not before.

    Attributes:
        name: as ``--engine`` takes it.
        title: as its makers write it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - among the attributes
    @property
    def title(self) -> str: ...  # noqa: D102

    def installed(self) -> bool:
        """True if a distribution of it is there; `devices` tells if it works."""
        ...

    def versions(self) -> dict[str, str]:
        """Of its distributions that are installed, by name."""
        ...

    def devices(self) -> list[str]:
        """Names of the devices it can run graphs on here, in its own words.

        Raises:
            RuntimeUnavailableError: it is not installed, or not usable; says what to install.
        """
        ...

    def runs(self, artifact: Artifact) -> bool:
        """True if it runs artifacts of that format and precision."""
        ...

    def load(
        self,
        bundle: Path,
        manifest: Manifest,
        artifact: Artifact,
        *,
        provider: str = "auto",
        threads: int | None = None,
        allow_fallback: bool = False,
    ) -> Loaded:
        """Check the hashes of an artifact's files and load it.

        Args:
            bundle: the bundle's folder.
            manifest: what `read_manifest` made of it.
            artifact: which of its graphs.
            provider: ``cpu``; ``cuda``, which is an error where it cannot be had; ``auto``, the best there is.
            threads: CPU threads for one run; by default as many as `available_cores`.
            allow_fallback: with ``cuda``, accept compute nodes that are placed on the CPU.

        Raises:
            BundleError: a file is missing, altered, nothing the engine runs, or not the one the manifest describes.
            RuntimeUnavailableError: the engine is not usable, cannot run the graph as asked, or would run it where it
                was not proven.
        """
        ...
