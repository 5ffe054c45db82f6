"""Protocols of an engine and of a loaded graph, which runs batches and reports the device of each node."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Artifact, Manifest

PROVIDERS = ("auto", "cuda", "cpu")
"""Devices that can be requested."""


@dataclass(frozen=True)
class Node:
    """Node of a graph: its ``name``, operator type ``op``, and assigned ``provider`` (device)."""

    name: str
    op: str
    provider: str


class LoadedGraph(Protocol):
    """Loaded artifact, ready to run; `run` may be called from several threads at once.

    Attributes:
        provider: device of the graph, ``cuda`` or ``cpu``.
        threads: number of CPU threads that one `run` may use.
        outputs: names of the outputs that `run` returns.
        placement: all nodes with their providers.
        stray: compute nodes that are not on `provider`.
        fallback: reason why ``auto`` did not choose CUDA; "" if it did, or if a device was requested.
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
            images: uint8 ``[batch, height, width, 3]``, RGB, with the canvas' height and width; larger for a dense
                graph, see `assay_deploy.bundle.manifest.Artifact`.

        Returns:
            The `outputs` by name, with the dtypes and shapes of the manifest.

        Raises:
            ValueError: the array has another dtype or shape.
            BundleError: an output has another shape than the manifest declares.
            RuntimeUnavailableError: the engine failed; on a GPU, most likely out of memory.
        """
        ...


class Engine(Protocol):
    """Inference engine that loads and runs artifacts; its package is imported at first use.

    Attributes:
        name: name for ``--engine``.
        title: official name, for messages.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - among the attributes
    @property
    def title(self) -> str: ...  # noqa: D102

    def installed(self) -> bool:
        """Return True if one of the engine's distributions is installed; `devices` checks that it works."""
        ...

    def versions(self) -> dict[str, str]:
        """Versions of the engine's installed distributions, by distribution name."""
        ...

    def devices(self) -> list[str]:
        """Devices available to the engine on this machine, as the engine names them.

        Raises:
            RuntimeUnavailableError: the engine is not installed or not usable; the message says what to install.
        """
        ...

    def runs(self, artifact: Artifact) -> bool:
        """Return True if the engine can run the artifact's format and precision."""
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
    ) -> LoadedGraph:
        """Check the hashes of an artifact's files and load it.

        Args:
            bundle: the bundle's folder.
            manifest: the bundle's manifest, from `read_manifest`.
            artifact: the artifact to load.
            provider: ``cpu``; ``cuda``, an error if not available; ``auto``, the best available device.
            threads: CPU threads for one run; None for `available_cores`.
            allow_fallback: with ``cuda``, accept compute nodes that are placed on the CPU.

        Raises:
            BundleError: a file is missing or altered, or the graph is not one that the engine runs or that the manifest
                describes.
            RuntimeUnavailableError: the engine is not usable, cannot run the graph as requested, or the graph was not
                proven on the requested device.
        """
        ...
