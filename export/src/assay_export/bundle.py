"""Make a bundle from a run: export the graphs, pass the gate, read everything back, publish."""

import io
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import assay_deploy
import assay_export
import assay_research
from assay_deploy.bundle import (
    MANIFEST_VERSION,
    Artifact,
    Expected,
    File,
    Manifest,
    Source,
    read_manifest,
    read_verified,
    sha256,
    write_manifest,
)
from assay_deploy.bundle import Tensor as Described
from assay_deploy.runtime import import_runtime
from assay_export import onnx_graph, torchscript
from assay_export.errors import ExportError, ParityError
from assay_export.gate import TOLERANCES, Reference, Verdict, ask_eager, flips_allowed, make_probe, prove
from assay_export.publish import publish, workplace
from assay_research import checkpoint as checkpoints
from assay_research.data import ClassificationData
from assay_research.run import CONFIG, Run, Trained
from assay_research.views import Views

LOGITS = "logits"
PROBABILITIES = "probabilities"
MEANINGS = {
    LOGITS: "unnormalised log-probabilities of the labels, from the first view",
    PROBABILITIES: "probabilities of the labels, averaged over all views",
}
METRICS = {LOGITS: "top1", PROBABILITIES: "top1_tta"}
"""What the manifest expects of each output."""

ARTIFACTS = (
    ("model.torchscript", "torchscript", LOGITS),
    ("model.onnx", "onnx", LOGITS),
    ("model_tta.onnx", "onnx", PROBABILITIES),
)
"""File, format and output of everything exported; probabilities only where there are several views."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A finished bundle: its `folder`, its `manifest` and the gate's `verdicts`, one an artifact."""

    folder: Path
    manifest: Manifest
    verdicts: tuple[Verdict, ...]


def export_bundle(run: Run, bundles: Path, name: str, *, checkpoint: str = "best", say: Say) -> Exported:
    """Turn one checkpoint of a run into the bundle ``<bundles>/<name>``, if every artifact passes the gate.

    Args:
        run: where the model comes from.
        bundles: folder that holds the bundles.
        name: of the bundle; an older one of that name is replaced, but only by one that passed.
        checkpoint: ``best``, ``last`` or ``epoch-0005``.
        say: is told what happens, as text with its own line ends.

    Raises:
        AssayError: the run cannot be read, the name or place cannot be used, or the model cannot be exported.
        ParityError: an artifact is not the model; ``<name>.unproven`` is left for inspection, without a manifest.
    """
    import_runtime()  # the gate needs it at the end; without it nothing else is worth its time
    with workplace(bundles, name) as folder:
        with _stage("read run and data", say):
            trained, data, source = _read(run, checkpoint)
        graphs = _graphs(trained)
        probe = make_probe(data.test)
        with _stage("ask eager model", say):
            references = {output: ask_eager(graph, probe, data.test) for output, graph in graphs.items()}
        _check_finite(references, run.checkpoint(checkpoint))
        artifacts = []
        for path, form, output in ARTIFACTS:
            if output in graphs:
                with _stage(f"export {path}", say):
                    artifacts.append(_export(folder, path, form, output, graphs[output], probe[:2]))
        arrays = {"images": probe.numpy()} | {output: found.probe for output, found in references.items()}
        manifest = _manifest(name, source, trained, data, tuple(artifacts), references, _write_probe(folder, arrays))
        verdicts = []
        for artifact in artifacts:
            with _stage(f"prove {artifact.path}", say):
                reference = references[artifact.output]
                verdicts.append(prove(folder, manifest, artifact, probe, data.test, reference))
        manifest = replace(manifest, parity=_write_parity(folder, data, verdicts))
        _refuse_failed(folder, verdicts)
        write_manifest(manifest, folder)
        _read_back(folder, manifest)
        return Exported(publish(folder), manifest, tuple(verdicts))


def _read(run: Run, checkpoint: str) -> tuple[Trained, ClassificationData, Source]:
    """The trained model, its data, and where both come from."""
    path = run.checkpoint(checkpoint)
    fingerprint = checkpoints.load(path).get("fingerprint")
    hashes = [sha256(file.read_bytes()) for file in (run.folder / CONFIG, path)]
    trained = run.load(checkpoint)
    if hashes != [sha256(file.read_bytes()) for file in (run.folder / CONFIG, path)]:
        raise ExportError(f"'{path}' changed while it was read: its training goes on. Export again")
    data = run.data()
    if not isinstance(data, ClassificationData):
        raise ExportError(f"'{run.folder}' trained a detector; only classifiers are exported")
    if (data.classes, data.canvas) != (trained.classes, trained.canvas) or (
        fingerprint is not None and fingerprint != data.fingerprint()
    ):
        raise ExportError(
            f"the data set '{data.name}' is not the one '{path}' was trained on: its pictures, labels or splits "
            "have changed, and the gate would compare on other pictures. Give the old data set back"
        )
    if len(data.test) == 0:
        raise ExportError(f"the data set '{data.name}' has no test pictures, and the gate needs some")
    commit = str(run.summary().get("commit", ""))
    return trained, data, Source(run.name, checkpoint, commit, *hashes)


def _graphs(trained: Trained) -> dict[str, Views]:
    """What is exported, by the name of its output: the first view, and all of them if they are several."""
    chosen = {LOGITS: trained.views[:1], PROBABILITIES: trained.views}
    try:
        return {
            output: Views(trained.model, trained.canvas, views).eval()
            for output, views in chosen.items()
            if output == LOGITS or len(views) > 1
        }
    except ValueError as error:
        raise ExportError(f"views: {error}; correct them in the run's {CONFIG}") from error


def _check_finite(references: dict[str, Reference], path: Path) -> None:
    if not all(np.isfinite(answers).all() for found in references.values() for answers in (found.probe, found.test)):
        raise ExportError(
            f"the model in '{path}' gives outputs that are not finite, so nothing can be compared with it. "
            "Its training diverged: export an earlier checkpoint, or train with a lower learning rate"
        )


def _export(folder: Path, path: str, form: str, output: str, graph: Views, images: Tensor) -> Artifact:
    content = onnx_graph.export(graph, images, output) if form == "onnx" else torchscript.export(graph, images)
    file = _write(folder, path, content)
    return Artifact(form, "fp32", graph.count, output, TOLERANCES[form, output], file.path, file.sha256)


def _write_probe(folder: Path, arrays: dict[str, np.ndarray]) -> File:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return _write(folder, "probe.npz", buffer.getvalue())


def _write_parity(folder: Path, data: ClassificationData, verdicts: list[Verdict]) -> File:
    document = {
        "passed": all(verdict.passed for verdict in verdicts),
        "dataset": f"{data.name}/test",
        "artifacts": [asdict(verdict) for verdict in verdicts],
    }
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    return _write(folder, "parity.json", text.encode())


def _write(folder: Path, path: str, content: bytes) -> File:
    checkpoints.write_atomically(content, folder / path)
    return File(path, sha256(content))


def _manifest(
    name: str,
    source: Source,
    trained: Trained,
    data: ClassificationData,
    artifacts: tuple[Artifact, ...],
    references: dict[str, Reference],
    probe: File,
) -> Manifest:
    """The manifest, but for the verdict, which is not known before the gate has read the manifest."""
    n = len(data.test)
    truth = data.test.labels.numpy()
    tolerance = flips_allowed(n) / n
    canvas = trained.canvas
    return Manifest(
        version=MANIFEST_VERSION,
        name=name,
        task="classification",
        source=source,
        toolchain=_toolchain(),
        artifacts=artifacts,
        probe=probe,
        parity=File("parity.json", sha256(b"")),
        inputs=(
            Described(
                onnx_graph.INPUT,
                "uint8",
                (onnx_graph.BATCH, canvas.height, canvas.width, 3),
                "RGB pictures on the canvas, 0 to 255, as an image decoder gives them",
            ),
        ),
        outputs=tuple(
            Described(output, "float32", (onnx_graph.BATCH, len(trained.classes)), MEANINGS[output])
            for output in references
        ),
        preprocess=canvas,
        labels=trained.classes,
        views=trained.views,
        expected=tuple(
            Expected(
                dataset=f"{data.name}/test",
                metric=METRICS[output],
                value=float((found.test.argmax(1) == truth).mean()),
                n=n,
                tolerance=tolerance,
            )
            for output, found in references.items()
        ),
    )


def _toolchain() -> dict[str, str]:
    """What made the artifacts, and proved them."""
    ours = {
        "assay-research": assay_research.__version__,
        "assay-export": assay_export.__version__,
        "assay-deploy": assay_deploy.__version__,
    }
    theirs = {name: version(name) for name in ("torchvision", "onnx", "onnxscript", "numpy", "pillow")}
    runtime = {"torch": torch.__version__, "onnxruntime": import_runtime().__version__}
    return {"python": platform.python_version(), **ours, **runtime, **theirs}


def _refuse_failed(folder: Path, verdicts: list[Verdict]) -> None:
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        reasons = "".join(f"\n  {verdict.path} ({verdict.format}): {'; '.join(verdict.reasons)}" for verdict in failed)
        raise ParityError(
            f"{len(failed)} of {len(verdicts)} artifacts are not the model they came from:{reasons}\n"
            f"There is no new bundle; what was made, and parity.json, are in '{folder}'"
        )


def _read_back(folder: Path, manifest: Manifest) -> None:
    """Read what was written as a client reads it: the manifest says the same, and every file is the one it names."""
    if read_manifest(folder) != manifest:
        raise ExportError(f"'{folder}': its manifest does not read back as it was written")
    entries: tuple[Artifact | File, ...] = (*manifest.artifacts, manifest.probe, manifest.parity)
    for entry in entries:
        read_verified(folder, entry)


@contextmanager
def _stage(what: str, say: Say) -> Iterator[None]:
    """Announce a stage, then say how long it took."""
    say(f"{what:<26}")
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        say("\n")
        raise
    say(f"{time.perf_counter() - start:6.1f} s\n")
