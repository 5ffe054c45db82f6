"""Checks of a loaded graph's inputs and outputs against the manifest, shared by all engines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.engines.engine import PROVIDERS
from assay_deploy.errors import BundleError, RuntimeUnavailableError


class Contract:
    """Input and outputs of one artifact as declared by the manifest."""

    def __init__(self, manifest: Manifest, artifact: Artifact) -> None:
        self.input = manifest.inputs[0].name
        self.outputs = artifact.outputs
        self._path = artifact.path
        self._dense = artifact.dense
        self._input_dtypes = {tensor.name: tensor.dtype for tensor in manifest.inputs}
        self._canvas = manifest.preprocess
        self._output_tensors = {tensor.name: tensor for tensor in manifest.outputs}

    def check_graph(self, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        """Raise BundleError unless a graph has the declared inputs and outputs.

        Args:
            inputs: dtypes of the graph's inputs by name, as the manifest spells them; the engine's own name for a dtype
                that the manifest does not have.
            outputs: dtypes of the graph's outputs by name, likewise.

        Raises:
            BundleError: the inputs differ, or an output is missing or has another dtype.
        """
        if inputs != self._input_dtypes:
            wanted = ", ".join(f"{name} ({dtype})" for name, dtype in self._input_dtypes.items())
            raise BundleError(f"{self._path}: takes the inputs {dict(inputs)}, but the manifest declares {wanted}")
        described = {
            name: self._output_tensors[name].dtype if name in self._output_tensors else None for name in self.outputs
        }
        if any(dtype is None or outputs.get(name) != dtype for name, dtype in described.items()):
            wanted = ", ".join(f"{name} ({dtype})" for name, dtype in described.items())
            raise BundleError(f"{self._path}: gives the outputs {dict(outputs)}, but the manifest declares {wanted}")

    def check_images(self, images: NDArray[np.uint8]) -> None:
        """Raise ValueError unless an array is a batch of canvas-sized images or, for a dense graph, larger ones.

        Args:
            images: expected uint8 ``[batch, height, width, 3]``.

        Raises:
            ValueError: the array has another dtype or shape.
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
        """Raise BundleError unless each output has the declared shape.

        Args:
            outputs: outputs of the graph by name.
            batch: number of images.

        Raises:
            BundleError: an output has another shape.
        """
        for name, output in outputs.items():
            shape = (batch, *self._output_tensors[name].shape[1:])
            if output.shape != shape:
                raise BundleError(
                    f"{self._path}: output {name} has the shape {list(output.shape)}, but the manifest declares "
                    f"{list(shape)}"
                )


def proven_provider(artifact: Artifact, wanted: str) -> str:
    """Return the device for an artifact, which must be one on which it was proven.

    Args:
        artifact: the artifact to run.
        wanted: requested device, one of `PROVIDERS`.

    Returns:
        ``cpu``, ``cuda``, or ``auto`` if the engine may choose.

    Raises:
        ValueError: unknown provider.
        RuntimeUnavailableError: the artifact was not proven on the requested device.
    """
    if wanted not in PROVIDERS:
        raise ValueError(f"provider must be one of {', '.join(PROVIDERS)}, got {wanted!r}")
    if artifact.device == "any" or artifact.device == wanted:
        return wanted
    if wanted == "auto":
        return artifact.device
    raise RuntimeUnavailableError(
        f"{artifact.path}: this {artifact.precision} graph was proven only on {artifact.device}, not on {wanted}. "
        f"Use --provider {artifact.device}, or another --precision"
    )
