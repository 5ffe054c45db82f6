"""The inputs and outputs that the manifest promises of a graph, checked on the loaded graph by every engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.engines.engine import PROVIDERS
from assay_deploy.errors import BundleError, RuntimeUnavailableError


class Contract:
    """Input and outputs of one artifact, as the manifest has them."""

    def __init__(self, manifest: Manifest, artifact: Artifact) -> None:
        self.input = manifest.inputs[0].name
        self.outputs = artifact.outputs
        self._path = artifact.path
        self._dense = artifact.dense
        self._taken = {tensor.name: tensor.dtype for tensor in manifest.inputs}
        self._canvas = manifest.preprocess
        self._given = {tensor.name: tensor for tensor in manifest.outputs}

    def check_graph(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Refuse a graph with another input, or without an output that it should compute.

        Args:
            inputs: dtype of each of the graph's inputs, by name, in the manifest's words as far as it has one.
            outputs: the same of its outputs.

        Raises:
            BundleError: it is not the graph that the manifest describes.
        """
        if inputs != self._taken:
            wanted = ", ".join(f"{name} ({dtype})" for name, dtype in self._taken.items())
            raise BundleError(f"{self._path}: takes {dict(inputs)}, the manifest says {wanted}")
        described = {name: self._given[name].dtype if name in self._given else None for name in self.outputs}
        if any(dtype is None or outputs.get(name) != dtype for name, dtype in described.items()):
            wanted = ", ".join(f"{name} ({dtype})" for name, dtype in described.items())
            raise BundleError(f"{self._path}: gives {dict(outputs)}, the manifest says {wanted}")

    def check_images(self, images: NDArray[np.uint8]) -> None:
        """Refuse what is no batch of canvases or, for a dense graph, of larger images.

        Raises:
            ValueError: the array has another type or shape.
        """
        height, width = (side + (self._dense or 0) for side in (self._canvas.height, self._canvas.width))
        valid = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
        large = valid and images.shape[1] >= height and images.shape[2] >= width
        if not large or (images.shape[1:3] != (height, width) and self._dense is None):
            least = "at least " if self._dense else ""
            raise ValueError(
                f"expected uint8 [batch, {least}{height}, {least}{width}, 3], got {images.dtype} {list(images.shape)}"
            )

    def check_outputs(self, outputs: Mapping[str, NDArray[Any]], batch: int) -> None:
        """Refuse outputs of another shape.

        Raises:
            BundleError: one has not the shape that the manifest says.
        """
        for name, output in outputs.items():
            shape = (batch, *self._given[name].shape[1:])
            if output.shape != shape:
                raise BundleError(
                    f"{self._path}: gives {name} of the shape {list(output.shape)}, the manifest says {list(shape)}"
                )


def proven_provider(artifact: Artifact, wanted: str) -> str:
    """The device for an artifact: the wanted one, but only where its verdict was reached.

    Raises:
        ValueError: no such provider.
        RuntimeUnavailableError: the verdict was reached elsewhere.
    """
    if wanted not in PROVIDERS:
        raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}, got {wanted!r}")
    if artifact.device == "any" or artifact.device == wanted:
        return wanted
    if wanted == "auto":
        return artifact.device
    raise RuntimeUnavailableError(
        f"{artifact.path}: it is {artifact.precision} and was proven on {artifact.device} alone. "
        f"Use --provider {artifact.device}, or another --precision"
    )
