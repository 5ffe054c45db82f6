"""What a bundle's manifest says of an export."""

import math
import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch

import assay_deploy
import assay_export
import assay_research
from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import MANIFEST_VERSION, PLAIN, TTA, Artifact, Expected, File, Manifest, variant_name
from assay_deploy.bundle.manifest import Tensor as Described
from assay_deploy.engines.onnxruntime.runtime import import_runtime
from assay_export.formats import onnx_graph
from assay_export.gate.verdict import Reference
from assay_export.subject import Subject


def describe(
    name: str,
    subject: Subject,
    artifacts: tuple[Artifact, ...],
    references: Mapping[str, Reference],
    probe: File,
    sbom: File,
) -> Manifest:
    """The manifest, but for the verdict, which is not known before the gate has read the manifest.

    Args:
        name: of the bundle.
        subject: what is exported.
        artifacts: of the bundle.
        references: the eager model's answers, by how it looks at images.
        probe: the file.
        sbom: the file.
    """
    trained, data, task = subject.trained, subject.data, subject.task
    n, canvas = len(data.test), trained.canvas
    scores = {
        variant_name(task.metric, look): task.score(data, references[look].test)
        for look in (PLAIN, TTA)
        if look in references
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
        outputs=task.described(trained, TTA in references),
        preprocess=canvas,
        labels=trained.classes,
        views=trained.views,
        expected=tuple(
            Expected(f"{data.name}/test", metric, value, n, task.drop_allowed(n, "fp32"))
            for metric, value in scores.items()
            if math.isfinite(value)  # mAP of images without objects is not
        ),
    )


def toolchain() -> dict[str, str]:
    """What makes the artifacts and proves them: name -> version."""
    ours = {
        "assay-research": assay_research.__version__,
        "assay-export": assay_export.__version__,
        "assay-deploy": assay_deploy.__version__,
    }
    theirs = {name: version(name) for name in ("torchvision", "onnx", "onnxscript", "numpy", "pillow")}
    runtime = {"torch": torch.__version__, "onnxruntime": import_runtime().__version__}
    return {"python": platform.python_version(), **ours, **runtime, **theirs}
