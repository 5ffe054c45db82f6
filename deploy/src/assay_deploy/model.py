"""A bundle's model as a Python object: load it once, predict on files, encoded bytes or arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.engine import LoadedGraph
from assay_deploy.engines.registry import DEFAULT, ENGINES
from assay_deploy.errors import AssayError
from assay_deploy.images.source import Source
from assay_deploy.predict import BATCH, predict
from assay_deploy.tasks.result import ImageResult


@dataclass(frozen=True)
class Model:
    """A loaded bundle.

    Attributes:
        manifest: description of the bundle: task, labels, preprocessing, expected scores, hashes.
        session: the loaded graph; `LoadedGraph.run` takes uint8 ``[batch, height, width, 3]`` of the canvas' size.
    """

    manifest: Manifest
    session: LoadedGraph

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's scores."""
        return self.manifest.labels

    def predict(self, images: Sequence[Source], *, batch: int = BATCH) -> list[ImageResult]:
        """Predict the label, or the objects, of each image.

        Images are decoded and resized exactly as in training.

        Args:
            images: paths, the bytes of image files, or uint8 ``[height, width, 3]`` RGB arrays of any size; a uint8
                ``[n, height, width, 3]`` array is n images.
            batch: largest number of images that the graph computes at once.

        Returns:
            One result for each image, in order: `Prediction` of a classifier, `Detected` of a detector, or
            `Unreadable` for a file or bytes that are not an image.

        Raises:
            TypeError: `images` is one path or the bytes of one image, not a sequence of them.
            ValueError: an array has another dtype or shape.
            RuntimeUnavailableError: the engine failed, for example out of GPU memory.
        """
        if isinstance(images, str | bytes | Path):
            raise TypeError(f"expected a sequence of images, got one {type(images).__name__}: predict([image])")
        return list(predict(self.session, self.manifest, images, batch=batch))


def load(
    bundle: str | Path,
    *,
    tta: bool = False,
    precision: str = "fp32",
    engine: str = DEFAULT,
    provider: str = "auto",
    threads: int | None = None,
    allow_fallback: bool = False,
) -> Model:
    """Load a bundle's ONNX graph after checking its hashes.

    Args:
        bundle: folder that `assay-export` made.
        tta: use the graph with test-time augmentation: all views of the bundle, averaged or fused.
        precision: ``fp32``, ``fp16`` or ``int8``, if the bundle has it.
        engine: ``onnxruntime`` or ``openvino``.
        provider: ``cpu``; ``cuda``, an error where CUDA does not work; ``auto``, CUDA if it works, else the CPU.
        threads: CPU threads of one inference; None for all available cores.
        allow_fallback: with ``cuda``, accept compute nodes that the engine places on the CPU.

    Raises:
        BundleError: the bundle is missing or altered, or has no such graph.
        RuntimeUnavailableError: the engine is not installed, or cannot run the graph as requested.
        AssayError: there is no such engine.
    """
    if engine not in ENGINES:
        raise AssayError(f"there is no engine {engine!r}; expected {' or '.join(ENGINES)}")
    manifest = read_manifest(Path(bundle))
    artifact = manifest.artifact("onnx", tta=tta, precision=precision)
    session = ENGINES[engine].load(
        Path(bundle), manifest, artifact, provider=provider, threads=threads, allow_fallback=allow_fallback
    )
    return Model(manifest, session)
