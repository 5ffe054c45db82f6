"""Make a bundle from a run: export the graphs, compare them with the model, read all files back, publish."""

import io
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import Tensor

from assay_deploy.bundle.folder import read_manifest, read_verified, sha256, write_manifest
from assay_deploy.bundle.manifest import DENSE, IMAGES, TTA, Artifact, File, Manifest, variant_name
from assay_deploy.engines.onnxruntime.runtime import import_runtime
from assay_deploy.engines.registry import DEFAULT
from assay_export._version import __version__
from assay_export.bundle import sbom
from assay_export.bundle.manifest import describe
from assay_export.bundle.publish import publish, working_folder
from assay_export.drift.find import explain
from assay_export.errors import ExportError
from assay_export.formats.format import ArtifactFiles, Format, Request
from assay_export.formats.names import DEFAULT_FORMATS
from assay_export.formats.places import TORCH, Place
from assay_export.formats.registry import FORMATS, places
from assay_export.gate import page
from assay_export.gate.gate import prove, run_eager
from assay_export.gate.probe import make_probe, probe_for
from assay_export.gate.tolerances import TOLERANCES, precisions_of
from assay_export.gate.verdict import DOES_NOT_RUN, ParityError, Reference, Verdict
from assay_export.precisions.registry import LOWERED
from assay_export.subject import Subject, read
from assay_research.runs import finite_json
from assay_research.runs.disk import write_atomically
from assay_research.runs.run import Run

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Ignore progress text."""


@dataclass(frozen=True)
class Exported:
    """A finished bundle.

    Attributes:
        folder: the bundle's folder.
        manifest: the bundle's manifest.
        verdicts: the gate's verdicts, one for each artifact and each engine and device it was proven on.
        left_out: verdicts on precisions that are too inaccurate and therefore not in the bundle.
        seconds: time to export the files.
        gate_seconds: time to prove them, including the eager model's predictions.
    """

    folder: Path
    manifest: Manifest
    verdicts: tuple[Verdict, ...]
    left_out: tuple[Verdict, ...]
    seconds: float
    gate_seconds: float


def export_bundle(
    run: Run,
    bundles: str | Path,
    name: str,
    *,
    checkpoint: str = "best",
    formats: Sequence[str] = DEFAULT_FORMATS,
    precisions: Sequence[str] = ("fp32",),
    dense: int | None = None,
    root: str | None = None,
    skip_unsupported: bool = False,
    engines: Collection[str] | None = None,
    say: Say = silent,
) -> Exported:
    """Export one checkpoint of a run as the bundle ``<bundles>/<name>``, if every artifact passes the gate.

    Args:
        run: the run to export.
        bundles: folder that contains the bundles.
        name: name of the bundle; an older bundle of that name is replaced only if the new one passes the gate.
        checkpoint: name of the checkpoint: ``best``, ``last`` or for example ``epoch-0005``.
        formats: names of `assay_export.formats.registry.FORMATS`.
        precisions: precisions of the ONNX graphs: ``fp32``, and optionally ``fp16`` or ``int8``.
        dense: stride in pixels of an additional fully convolutional graph; None for no such graph.
        root: the data set's folder, if it has moved since training.
        skip_unsupported: leave out precisions that the model's task does not support, instead of raising an error.
        engines: names of `assay_deploy.engines.registry.ENGINES` that test the ONNX graphs; None for all that are
            installed.
        say: function that receives progress messages, whose text includes line ends; by default they are ignored.

    Raises:
        AssayError: the run cannot be read, the name or folder cannot be used, or the model cannot be exported.
        ParityError: an artifact differs from the model; ``<name>.unproven`` remains for inspection, without a manifest.
    """
    import_runtime()  # the gate needs it at the end: fail now if it is missing
    for form in formats:
        FORMATS[form].check()
    with working_folder(Path(bundles), name) as folder:
        with _stage("read run and data", say):
            subject = read(run, checkpoint, dense, root)
        if skip_unsupported:
            precisions = [each for each in precisions if each in precisions_of(subject.task.name)]
        _check_precisions(precisions, formats, subject.task.name)
        probe = make_probe(subject.data.test.images)
        start = time.perf_counter()
        with _stage("run eager model", say):
            references = {
                variant: run_eager(
                    subject.task, graph, variant, probe, subject.data, dense if variant == DENSE else None
                )
                for variant, graph in subject.eager.items()
            }
        _check_finite(subject, references, run.checkpoint(checkpoint))
        eager_seconds = time.perf_counter() - start
        start = time.perf_counter()
        artifacts = _make(folder, subject, formats, precisions, probe[:2], say)
        made = time.perf_counter() - start
        bill = _write(folder, "sbom.spdx.json", sbom.document(name, datetime.now(UTC)))
        manifest = describe(name, subject, artifacts, references, _write_probe(folder, probe, references), bill)
        start = time.perf_counter()
        verdicts = _prove(folder, manifest, subject, probe, references, engines, say)
        failed = {verdict.path for verdict in verdicts if not verdict.passed and verdict.precision != "fp32"}
        failed -= {verdict.path for verdict in verdicts if DOES_NOT_RUN in verdict.failures}
        left_out = tuple(each for each in verdicts if each.path in failed)
        included = tuple(each for each in verdicts if each not in left_out)
        manifest = _without(folder, manifest, {each.path for each in left_out}, say)
        gate_seconds = eager_seconds + time.perf_counter() - start
        manifest = replace(
            manifest,
            parity=_write_parity(folder, subject, included, left_out),
            report=_write(folder, "parity.html", page.render(manifest, included, left_out, subject.data)),
        )
        _refuse_failed(folder, manifest, subject, included, probe, say)
        write_manifest(manifest, folder)
        _read_back(folder, manifest)
        return Exported(publish(folder), manifest, included, left_out, made, gate_seconds)


def _check_precisions(precisions: Sequence[str], formats: Sequence[str], task: str) -> None:
    """Raise ExportError unless all precisions can be made of models for this task and with these formats."""
    if "fp32" not in precisions:
        raise ExportError(f"precisions must include fp32, from which the others are made; got {','.join(precisions)}")
    if len(precisions) > 1 and "onnx" not in formats:
        raise ExportError(f"{','.join(precisions)}: fp16 and int8 are for ONNX graphs; got formats={','.join(formats)}")
    had = precisions_of(task)
    for precision in precisions:
        if precision not in had:
            raise ExportError(f"{precision}: got a model for {task}, which supports {' and '.join(had)}")
        if precision in LOWERED:
            LOWERED[precision].check()


def _check_finite(subject: Subject, references: dict[str, Reference], path: Path) -> None:
    weights = (
        subject.trained.model.state_dict().values()
    )  # a detector's outputs do not show NaNs in its weights: it finds no boxes
    answers = (array for each in references.values() for part in (each.probe, each.test) for array in part.values())
    if not all(np.isfinite(array).all() for array in (*answers, *(each.numpy() for each in weights))):
        raise ExportError(
            f"the model in '{path}' has weights or outputs that are not finite, so nothing can be compared with it. "
            "The training diverged: export an earlier checkpoint, or train with a lower learning rate"
        )


def _make(
    folder: Path, subject: Subject, formats: Sequence[str], precisions: Sequence[str], images: Tensor, say: Say
) -> tuple[Artifact, ...]:
    """Write every artifact: each graph in each format, then the ONNX graphs in the other precisions."""
    origin: dict[str, str] = asdict(subject.source) | {"assay_export": __version__}
    artifacts = []
    for name in formats:
        form = FORMATS[name]
        for variant, graph in subject.graphs.items():
            outputs = subject.task.outputs(variant)
            with _stage(f"export {form.path(variant)}", say):
                shown, path = probe_for(variant, images), form.path(variant)
                made = form.make(Request(graph, shown, outputs, origin, variant == DENSE, path))
                artifacts.append(_artifact(folder, subject, form, "fp32", variant, made))
    form = FORMATS["onnx"]
    for wanted in precisions:
        for variant in subject.graphs:
            if wanted == "fp32" or variant == DENSE:
                continue
            with _stage(f"export {form.path(variant, wanted)}", say):
                content = (folder / form.path(variant)).read_bytes()
                lowered = LOWERED[wanted].lower(content, subject.data.train.images, subject.task.distance)
                artifacts.append(_artifact(folder, subject, form, wanted, variant, ArtifactFiles(lowered)))
    return tuple(artifacts)


def _artifact(folder: Path, subject: Subject, form: Format, wanted: str, variant: str, made: ArtifactFiles) -> Artifact:
    """Write an artifact's files and describe it."""
    outputs, tolerances = subject.task.outputs(variant), TOLERANCES[subject.task.name, form.format, wanted]
    path = form.path(variant, wanted)
    file = _write(folder, path, made.content)
    return Artifact(
        format=form.format,
        precision=wanted,
        device=LOWERED[wanted].device if wanted in LOWERED else form.device,
        views=len(subject.trained.views) if variant == TTA else 1,
        dense=subject.dense if variant == DENSE else None,
        outputs=outputs,
        tolerances={output: tolerances[output] for output in outputs},
        reproducible=form.reproducible,
        requires=form.requires(made.content),
        path=file.path,
        sha256=file.sha256,
        beside=tuple(_write(folder, name, content) for name, content in made.external_data.items()),
    )


def _prove(
    folder: Path,
    manifest: Manifest,
    subject: Subject,
    probe: Tensor,
    references: dict[str, Reference],
    engines: Collection[str] | None,
    say: Say,
) -> list[Verdict]:
    verdicts = []
    for artifact in manifest.artifacts:
        for place in places(artifact, engines):
            with _stage(f"prove {artifact.path} on {place}", say):
                reference = references[artifact.variant]
                verdicts.append(prove(folder, manifest, artifact, place, subject.task, probe, subject.data, reference))
    return verdicts


def _without(folder: Path, manifest: Manifest, paths: set[str], say: Say) -> Manifest:
    """Delete the files of some artifacts, and return the manifest without them."""
    for path in sorted(paths):
        say(f"{path} is too inaccurate and is left out of the bundle\n")
        (folder / path).unlink()
    return replace(manifest, artifacts=tuple(each for each in manifest.artifacts if each.path not in paths))


def _write_probe(folder: Path, probe: Tensor, references: dict[str, Reference]) -> File:
    arrays = {}
    for variant, reference in references.items():
        arrays[variant_name(IMAGES, variant)] = probe_for(variant, probe).numpy()
        arrays |= {variant_name(name, variant): array for name, array in reference.probe.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return _write(folder, "probe.npz", buffer.getvalue())


def _write_parity(folder: Path, subject: Subject, verdicts: Sequence[Verdict], left_out: Sequence[Verdict]) -> File:
    document = {
        "passed": all(verdict.passed for verdict in verdicts),
        "dataset": f"{subject.data.name}/test",
        "artifacts": [asdict(verdict) for verdict in verdicts],
        "left_out": [asdict(verdict) for verdict in left_out],
    }
    path = folder / "parity.json"
    finite_json.write(document, path)
    return File(path.name, sha256(path.read_bytes()))


def _write(folder: Path, path: str, content: bytes) -> File:
    write_atomically(content, folder / path)
    return File(path, sha256(content))


def _refuse_failed(
    folder: Path, manifest: Manifest, subject: Subject, verdicts: Sequence[Verdict], probe: Tensor, say: Say
) -> None:
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if not failed:
        return
    variants = {artifact.path: artifact.variant for artifact in manifest.artifacts}
    for verdict in failed:
        variant = variants[verdict.path]
        with _stage(f"find drift in {verdict.path}", say):
            text = explain(folder, manifest, verdict, subject.eager[variant], probe_for(variant, probe))
        say(text)
    reasons = "".join(
        f"\n  {each.path} ({each.format} on {Place(each.engine, each.device)}): {'; '.join(each.reasons)}"
        for each in failed
    )
    others = {each.engine for each in failed} - {TORCH, DEFAULT}
    only = all(each.engine in others for each in failed)
    hint = f"\nUse engines={DEFAULT} to export it without proof in {' and '.join(sorted(others))}" * only
    raise ParityError(
        f"{len({each.path for each in failed})} of {len(manifest.artifacts)} artifacts differ from the model:"
        f"{reasons}{hint}\nNo bundle was written; the artifacts, parity.json and parity.html are in '{folder}'",
        verdicts,
    )


def _read_back(folder: Path, manifest: Manifest) -> None:
    """Raise an error unless the manifest reads back unchanged and every file has the hash in the manifest."""
    if read_manifest(folder) != manifest:
        raise ExportError(f"'{folder}': its manifest reads back different from what was written")
    for entry in manifest.files:
        read_verified(folder, entry)


@contextmanager
def _stage(what: str, say: Say) -> Iterator[None]:
    """Report the start of a stage, then the time it took."""
    say(f"{what:<36}")
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        say("\n")
        raise
    say(f"{time.perf_counter() - start:6.1f} s\n")
