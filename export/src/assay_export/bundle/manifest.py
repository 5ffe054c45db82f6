"""Build the manifest of an exported bundle."""

import math
import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch

from assay_deploy._version import __version__ as deploy_version
from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import MANIFEST_VERSION, PLAIN, TTA, Artifact, Expected, File, Manifest, variant_name
from assay_deploy.bundle.manifest import Tensor as Described
from assay_deploy.engines.onnxruntime.runtime import import_runtime
from assay_export._version import __version__ as export_version
from assay_export.formats import onnx_graph
from assay_export.gate.verdict import Reference
from assay_export.subject import Subject
from assay_research._version import __version__ as research_version


def describe(
    name: str,
    subject: Subject,
    artifacts: tuple[Artifact, ...],
    references: Mapping[str, Reference],
    probe: File,
    sbom: File,
) -> Manifest:
    """Build the manifest without the hashes of the parity report, which exists only after the gate has run.

    Args:
        name: name of the bundle.
        subject: the exported model.
        artifacts: the bundle's artifacts.
        references: the eager model's outputs, by variant.
        probe: path and hash of the probe file.
        sbom: path and hash of the SBOM file.
    """
    trained, data, task = subject.trained, subject.data, subject.task
    n, canvas = len(data.test), trained.canvas
    scores = {
        variant_name(task.metric, variant): task.score(data, references[variant].test)
        for variant in (PLAIN, TTA)
        if variant in references
    }
    return Manifest(
        version=MANIFEST_VERSION,
        name=name,
        task=task.name,
        source=subject.source,
        toolchain=toolchain(),
        artifacts=artifacts,
        probe=probe,
        parity=File("parity.json", sha256(b"")),
        report=File("parity.html", sha256(b"")),
        sbom=sbom,
        inputs=(
            Described(
                onnx_graph.INPUT,
                "uint8",
                (onnx_graph.BATCH, canvas.height, canvas.width, 3),
                "RGB images on the canvas, 0 to 255, as an image decoder gives them",
            ),
        ),
        outputs=task.describe_outputs(trained, TTA in references),
        preprocess=canvas,
        labels=trained.classes,
        views=trained.views,
        expected=tuple(
            Expected(f"{data.name}/test", metric, value, n, task.drop_allowed(n, "fp32"))
            for metric, value in scores.items()
            if math.isfinite(value)  # mAP of images without objects is NaN
        ),
    )


def toolchain() -> dict[str, str]:
    """Return the versions of the packages that make and prove the artifacts, by name."""
    ours = {
        "assay-research": research_version,
        "assay-export": export_version,
        "assay-deploy": deploy_version,
    }
    theirs = {name: version(name) for name in ("torchvision", "onnx", "onnxscript", "numpy", "pillow")}
    runtime = {"torch": torch.__version__, "onnxruntime": import_runtime().__version__}
    return {"python": platform.python_version(), **ours, **runtime, **theirs}
