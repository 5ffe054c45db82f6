"""ONNX Runtime session for one proven artifact on the requested device."""

import logging
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, File, Manifest
from assay_deploy.engines.contract import Contract, proven_provider
from assay_deploy.engines.engine import Node
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.runtime import (
    CPU,
    CUDA,
    import_runtime,
    placement,
    start,
    start_cuda,
    stray_nodes,
)
from assay_deploy.errors import BundleError, RuntimeUnavailableError

DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
"""Dtypes of the manifest by ONNX Runtime's type names."""

log = logging.getLogger(__name__)


class Session:
    """Loaded graph, ready to run; create it with `load`.

    Attributes:
        provider: device that the graph runs on, ``cuda`` or ``cpu``.
        threads: number of CPU threads that an operator may use.
        outputs: names of the outputs that `run` returns.
        placement: all nodes of the graph, each with the ONNX Runtime provider that runs it.
        stray: nodes that compute (not only shapes) and run on another device than `provider`, see `stray_nodes`.
        fallback: reason why CUDA was not used though ``auto`` was requested; "" otherwise.
    """

    def __init__(self, graph: Any, contract: Contract, provider: str, threads: int, fallback: str) -> None:
        self.provider = provider
        self.threads = threads
        self.outputs = contract.outputs
        self.fallback = fallback
        self.placement = placement(graph)
        self.stray: list[Node] = stray_nodes(self.placement, CUDA if provider == "cuda" else CPU)
        self._graph = graph
        self._contract = contract

    @classmethod
    def load(
        cls,
        bundle: Path,
        manifest: Manifest,
        artifact: Artifact,
        *,
        provider: str = "auto",
        threads: int | None = None,
        allow_fallback: bool = False,
    ) -> "Session":
        """Check the hashes of an artifact's files and load it.

        Args:
            bundle: the bundle's folder.
            manifest: the bundle's manifest, from `read_manifest`.
            artifact: the artifact to load; its format must be ``onnx``.
            provider: ``cpu``; ``cuda``, an error if not available; ``auto``, CUDA if ONNX Runtime has it and it
                starts, else the CPU.
            threads: CPU threads per operator; None for `available_cores`.
            allow_fallback: with ``cuda``, accept compute nodes that ONNX Runtime placed on the CPU.

        Raises:
            BundleError: a file is missing or altered, or the graph is not ONNX or not the one the manifest describes.
            RuntimeUnavailableError: ONNX Runtime is missing or installed twice, cannot run the graph as requested, or
                the graph was not proven on the requested device.
        """
        if artifact.format != "onnx":
            raise BundleError(f"{artifact.path}: a {artifact.format} file, but ONNX Runtime runs only onnx")
        wanted = proven_provider(artifact, provider)
        threads = threads or available_cores()
        content = read_verified(bundle, artifact)
        external_data = {_location(artifact, file): read_verified(bundle, file) for file in artifact.beside}
        try:
            graph, got, fallback = _start(content, external_data, threads, wanted)
        except RuntimeUnavailableError as error:
            raise RuntimeUnavailableError(f"{bundle / artifact.path}: {error}") from error
        contract = Contract(manifest, artifact)
        try:
            contract.check_graph(_dtypes(graph.get_inputs()), _dtypes(graph.get_outputs()))
            session = cls(graph, contract, got, threads, fallback)
        except UnicodeDecodeError as error:
            raise BundleError(f"{bundle / artifact.path}: a name in the graph is not valid UTF-8 ({error})") from error
        if got == "cuda" and session.stray:
            message = f"{artifact.path}: {len(session.stray)} compute nodes are not on CUDA: {_names(session.stray)}"
            if provider == "cuda" and not allow_fallback:
                raise RuntimeUnavailableError(f"{message}. Accept this with --allow-fallback, or use --provider cpu")
            log.warning(message)
        log.info("%s: on %s, %d CPU threads", artifact.path, got, threads)
        return session

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Compute the graph's outputs; see `assay_deploy.engines.engine.LoadedGraph.run`."""
        self._contract.check_images(images)
        try:
            results = self._graph.run(self.outputs, {self._contract.input: images})
        except Exception as error:  # its exceptions share no public base class
            raise RuntimeUnavailableError(
                f"ONNX Runtime failed on a batch of {len(images)} ({error}). A smaller --batch needs less memory"
            ) from error
        outputs = dict(zip(self.outputs, results, strict=True))
        self._contract.check_outputs(outputs, len(images))
        return outputs


def _start(content: bytes, external_data: dict[str, bytes], threads: int, provider: str) -> tuple[Any, str, str]:
    """Create a session; return it, its device (``cuda`` or ``cpu``), and why ``auto`` did not choose CUDA, or ""."""
    if provider == "cpu":
        return start(content, threads, [CPU], external_data), "cpu", ""
    try:
        return start_cuda(content, threads, external_data), "cuda", ""
    except RuntimeUnavailableError as error:
        if provider == "cuda":
            raise
        # Users who installed a runtime with CUDA need to know why it is not used.
        level = logging.WARNING if CUDA in import_runtime().get_available_providers() else logging.INFO
        log.log(level, "running on the CPU: %s", error)
        return start(content, threads, [CPU], external_data), "cpu", str(error)


def _location(artifact: Artifact, file: File) -> str:
    """Location of an external data file as the graph names it: its path relative to the graph's folder."""
    return posixpath.relpath(file.path, posixpath.dirname(artifact.path))


def _dtypes(tensors: Iterable[Any]) -> dict[str, str]:
    """Dtypes of a graph's inputs or outputs by name, as the manifest spells them where it has the type."""
    return {tensor.name: DTYPES.get(tensor.type, tensor.type) for tensor in tensors}


def _names(nodes: list[Node]) -> str:
    shown = ", ".join(f"{node.op} '{node.name}' on {node.provider}" for node in nodes[:10])
    return shown + (f" and {len(nodes) - 10} more" if len(nodes) > 10 else "")
