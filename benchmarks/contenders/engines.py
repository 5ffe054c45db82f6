"""One trained classifier in all engines that can run it, with inputs and outputs in host memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from assay_deploy.bundle.folder import read_manifest, sha256
from assay_deploy.bundle.manifest import CLASSIFICATION, Artifact, Manifest
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.errors import AssayError
from assay_export.formats import registry as formats
from assay_export.formats.registry import default_place
from assay_export.formats.runner import module_runner
from assay_research.data.classification import ClassificationData
from assay_research.runs.run import Run
from assay_research.runs.trained import Trained, data_of, load
from assay_research.tasks.classification.views import Views

Images = NDArray[np.uint8]
Predictions = NDArray[np.float32]
Engine = Callable[[Images], Predictions]
"""Synchronous function from uint8 ``[batch, height, width, 3]`` to float32 ``[batch, classes]``, in host memory."""

NAMES = {
    "eager": "eager torch",
    "torchscript": "TorchScript",
    "onnx": "ONNX Runtime",
    "exported_program": "torch.export",
    "aoti": "AOTInductor",
}


@dataclass(frozen=True)
class Graph:
    """Exported graph, or the eager model, to be measured.

    Attributes:
        format: ``eager``, or the format of an artifact of the bundle.
        tta: whether it evaluates all views.
        precision: numeric precision of the computation.
        place: device on which it may run: ``any``, ``cpu`` or ``cuda``.
    """

    format: str
    tta: bool
    precision: str = "fp32"
    place: str = "any"

    def __str__(self) -> str:
        precision = f" {self.precision}" if self.precision != "fp32" else ""
        return NAMES[self.format] + precision + (", all views" if self.tta else "")


@dataclass(frozen=True)
class BenchmarkSubject:
    """Bundle to be measured, and the run it was exported from."""

    bundle: Path
    manifest: Manifest
    run: Run

    @classmethod
    def find(cls, bundle: Path | None, run: Path | None) -> "BenchmarkSubject":
        """Find the bundle and its run.

        Args:
            bundle: folder of the bundle; None for the newest under ``bundles/``.
            run: folder of the run; None for the run under ``runs/`` that the manifest names.

        Raises:
            AssayError: one of them is missing, the bundle contains a detector, or it was exported from other weights.
        """
        if bundle is None:
            manifests = sorted(Path("bundles").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
            if not manifests:
                raise AssayError(
                    "no bundle under 'bundles': make one with `nox -s export`, or give its folder with --bundle"
                )
            bundle = manifests[-1].parent
        manifest = read_manifest(bundle)
        if manifest.task != CLASSIFICATION:
            raise AssayError(
                f"bundle '{bundle}' contains a detector; the suite measures classifiers. Give another one with --bundle"
            )
        source = manifest.source
        folder = run or Path("runs", source.run)
        weights = Run(folder).checkpoint(source.checkpoint)
        if not weights.is_file():
            raise AssayError(
                f"bundle '{bundle}' was exported from checkpoint '{source.checkpoint}' of run '{source.run}', "
                f"but there is no '{weights}': give that run's folder with --run"
            )
        if sha256(weights.read_bytes()) != source.weights_sha256:
            raise AssayError(
                f"bundle '{bundle}' was exported from other weights than those in '{weights}': "
                "export the run again, or give the right run with --run"
            )
        return cls(bundle, manifest, Run.open(folder))

    @cached_property
    def data(self) -> ClassificationData:
        """Data set of the run."""
        data = data_of(self.run)
        assert isinstance(data, ClassificationData), "bundles are of classifiers"
        return data

    @property
    def graphs(self) -> list[Graph]:
        """All graphs that can be measured, eager first."""
        eager = [Graph("eager", tta=False), Graph("eager", tta=True)][: len(self.manifest.views)]
        return eager + [
            Graph(artifact.format, artifact.views > 1, artifact.precision, artifact.device)
            for artifact in self.manifest.artifacts
            if artifact.dense is None
        ]

    def trained(self, device: str) -> Trained:
        """Load the trained model."""
        return load(self.run, self.manifest.source.checkpoint, device)

    def batch(self, size: int) -> Images:
        """Return a batch of test images, repeated if there are fewer."""
        images = self.data.test.images.numpy()
        return np.resize(images, (size, *images.shape[1:]))

    def start(self, graph: Graph, device: str) -> Engine:
        """Load a graph on a device and return a function that runs it.

        Raises:
            AssayError: the file is not the one that was proven, or its engine cannot run on the device.
        """
        if graph.format == "eager":
            trained = self.trained(device)
            views = trained.views if graph.tta else trained.views[:1]
            runner = module_runner(Views(trained.model, trained.canvas, views).eval().to(device), ("answers",), device)
        else:
            artifact = self._artifact(graph)
            place = default_place(artifact, device)
            runner = formats.start(self.bundle, self.manifest, artifact, place)
        return lambda images: next(iter(runner(images).values()))

    def _artifact(self, graph: Graph) -> Artifact:
        wanted = (graph.format, graph.tta, graph.precision, graph.place)
        (artifact,) = (
            each
            for each in self.manifest.artifacts
            if each.dense is None and (each.format, each.views > 1, each.precision, each.device) == wanted
        )
        return artifact

    def session(self, artifact: Artifact, device: str, threads: int) -> Session:
        """Load an artifact in ONNX Runtime on the given device, without fallback."""
        return Session.load(self.bundle, self.manifest, artifact, provider=device, threads=threads)


def configure_torch() -> None:
    """Set torch's threads to those of the other engines, and full float32 on CUDA, in which the bundle was proven."""
    torch.set_num_threads(available_cores())
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
