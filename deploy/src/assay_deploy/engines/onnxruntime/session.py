"""Run one proven ONNX artifact on the device that was asked for, or not at all."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.runtime import (
    CPU,
    CUDA,
    Node,
    import_runtime,
    placement,
    start,
    start_cuda,
    stray_nodes,
)
from assay_deploy.errors import BundleError, RuntimeUnavailableError

PROVIDERS = ("auto", "cuda", "cpu")
"""What can be asked for."""

ORT_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}
"""What ONNX Runtime calls the types of outputs."""

log = logging.getLogger(__name__)


class Session:
    """A graph that is ready to run; `load` makes it.

    Attributes:
        provider: where it runs, ``cuda`` or ``cpu``.
        threads: how many CPU threads an operator may use.
        outputs: names of what `run` returns.
        placement: the provider of each node.
        fallback: why ``auto`` did not take CUDA; "" if it did or was not asked to choose.
    """

    def __init__(
        self, graph: Any, manifest: Manifest, artifact: Artifact, provider: str, threads: int, fallback: str
    ) -> None:
        self.provider = provider
        self.threads = threads
        self.outputs = artifact.outputs
        self.fallback = fallback
        self.placement = placement(graph)
        self._graph = graph
        self._path = artifact.path
        self._input = manifest.inputs[0].name
        self._canvas = manifest.preprocess
        self._dense = artifact.dense
        self._shapes = {tensor.name: tensor.shape[1:] for tensor in manifest.outputs}

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
        """Check an artifact's hash and load it.

        Args:
            bundle: the bundle's folder.
            manifest: what `read_manifest` made of it.
            artifact: which of its graphs; its format must be ``onnx``.
            provider: ``cpu``; ``cuda``, which is an error where it cannot be had; ``auto``, CUDA if this ONNX
                Runtime has it and it starts, else the CPU.
            threads: CPU threads for an operator; by default as many as `available_cores`.
            allow_fallback: with ``cuda``, accept compute nodes that ONNX Runtime placed on the CPU.

        Raises:
            BundleError: the file is missing, altered, no ONNX graph, or not the one the manifest describes.
            RuntimeUnavailableError: ONNX Runtime is missing or doubled, cannot run the graph as asked, or would run it
                where it was not proven.
        """
        if provider not in PROVIDERS:
            raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}, got {provider!r}")
        if artifact.format != "onnx":
            raise BundleError(f"{artifact.path}: a {artifact.format} file, but ONNX Runtime runs only onnx")
        threads = threads or available_cores()
        content = read_verified(bundle, artifact)
        try:
            graph, got, fallback = _start(content, threads, _provider(artifact, provider))
        except RuntimeUnavailableError as error:
            raise RuntimeUnavailableError(f"{bundle / artifact.path}: {error}") from error
        try:
            _check_interface(graph, manifest, artifact)
            session = cls(graph, manifest, artifact, got, threads, fallback)
        except UnicodeDecodeError as error:
            raise BundleError(f"{bundle / artifact.path}: a name in the graph is no text ({error})") from error
        strays = stray_nodes(session.placement, CUDA) if got == "cuda" else []
        if strays:
            message = f"{artifact.path}: {len(strays)} compute nodes are not on CUDA: {_names(strays)}"
            if provider == "cuda" and not allow_fallback:
                raise RuntimeUnavailableError(f"{message}. Accept that with --allow-fallback, or use --provider cpu")
            log.warning(message)
        log.info("%s: on %s, %d CPU threads", artifact.path, got, threads)
        return session

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
            RuntimeUnavailableError: ONNX Runtime failed; on a GPU, most likely out of memory.
        """
        height, width = (side + (self._dense or 0) for side in (self._canvas.height, self._canvas.width))
        pictures = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
        large = pictures and images.shape[1] >= height and images.shape[2] >= width
        if not large or (images.shape[1:3] != (height, width) and self._dense is None):
            least = "at least " if self._dense else ""
            raise ValueError(
                f"expected uint8 [batch, {least}{height}, {least}{width}, 3], got {images.dtype} {list(images.shape)}"
            )
        try:
            results = self._graph.run(self.outputs, {self._input: images})
        except Exception as error:  # its exceptions share no public base class
            raise RuntimeUnavailableError(
                f"ONNX Runtime failed on a batch of {len(images)} ({error}). A smaller --batch needs less memory"
            ) from error
        outputs = dict(zip(self.outputs, results, strict=True))
        for name, output in outputs.items():
            shape = (len(images), *self._shapes[name])
            if output.shape != shape:
                raise BundleError(
                    f"{self._path}: gives {name} of the shape {list(output.shape)}, the manifest says {list(shape)}"
                )
        return outputs


def _provider(artifact: Artifact, wanted: str) -> str:
    """Where an artifact runs: as wanted, but only where its verdict was reached."""
    if artifact.device == "any" or artifact.device == wanted:
        return wanted
    if wanted == "auto":
        return artifact.device
    raise RuntimeUnavailableError(
        f"{artifact.path}: it is {artifact.precision} and was proven on {artifact.device} alone. "
        f"Use --provider {artifact.device}, or another --precision"
    )


def _start(content: bytes, threads: int, provider: str) -> tuple[Any, str, str]:
    """The started graph, whether it got ``cuda`` or ``cpu``, and why not CUDA if the choice was ours."""
    if provider == "cpu":
        return start(content, threads, [CPU]), "cpu", ""
    try:
        return start_cuda(content, threads), "cuda", ""
    except RuntimeUnavailableError as error:
        if provider == "cuda":
            raise
        # Whoever installed a runtime with CUDA will want to know why it is not used.
        level = logging.WARNING if CUDA in import_runtime().get_available_providers() else logging.INFO
        log.log(level, "running on the CPU: %s", error)
        return start(content, threads, [CPU]), "cpu", str(error)


def _check_interface(graph: Any, manifest: Manifest, artifact: Artifact) -> None:
    """Refuse a graph whose input or output is not the manifest's."""
    expected = manifest.inputs[0]
    inputs = {node.name: node.type for node in graph.get_inputs()}
    if inputs != {expected.name: f"tensor({expected.dtype})"}:
        raise BundleError(f"{artifact.path}: takes {inputs}, the manifest says {expected.name} ({expected.dtype})")
    outputs = {node.name: node.type for node in graph.get_outputs()}
    described = {tensor.name: ORT_TYPES.get(tensor.dtype) for tensor in manifest.outputs}
    if any(outputs.get(name) != described.get(name, "") for name in artifact.outputs):
        wanted = ", ".join(f"{name} {described.get(name)}" for name in artifact.outputs)
        raise BundleError(f"{artifact.path}: gives {outputs}, the manifest says {wanted}")


def _names(nodes: list[Node]) -> str:
    shown = ", ".join(f"{node.op} '{node.name}' on {node.provider}" for node in nodes[:10])
    return shown + (f" and {len(nodes) - 10} more" if len(nodes) > 10 else "")
