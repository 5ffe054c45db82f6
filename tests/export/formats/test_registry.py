"""A format says itself how it is made and started; it may leave several files, and each of them is hashed."""

from pathlib import Path

import pytest

from assay_deploy.bundle.folder import read_manifest
from assay_deploy.errors import BundleError
from assay_export.export import export_bundle
from assay_export.formats import torchscript
from assay_export.formats.format import ArtifactFiles, Format, Request, VerifiedArtifact, torch_only
from assay_export.formats.names import DEFAULT_FORMATS, NAMES
from assay_export.formats.places import Place
from assay_export.formats.registry import FORMATS, default_place, start
from assay_export.formats.runner import Runner, module_runner
from assay_export.gate.tolerances import TOLERANCES
from assay_research.runs.run import Run


def make(request: Request) -> ArtifactFiles:
    whole = torchscript.export(request.graph, request.images, request.origin)
    half = len(whole) // 2
    return ArtifactFiles(whole[:half], {f"{request.path}.other": whole[half:], f"{request.path}.note": b"two files"})


def begin(verified: VerifiedArtifact, place: Place) -> Runner:
    other, _ = verified.files.external_data.values()
    module = torchscript.load(verified.files.content + other, place.device)
    return module_runner(module, verified.artifact.outputs, place.device)


HALVES = Format(
    name="halves",
    format="halves",
    device="any",
    stem="model",
    suffix=".half",
    reproducible=True,
    make=make,
    start=begin,
    engines=torch_only,
    has_cuda=lambda: False,
)
"""A module in two files, and a third that nothing reads."""


@pytest.fixture
def halves(plain_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A bundle of the format, registered here alone."""
    monkeypatch.setitem(FORMATS, "halves", HALVES)
    monkeypatch.setitem(TOLERANCES, ("classification", "halves", "fp32"), {"logits": 2e-4})
    monkeypatch.setattr("assay_deploy.bundle.rules.FORMATS", ("onnx", "halves"))
    exported = export_bundle(plain_run, tmp_path, "halves", formats=["onnx", "halves"], say=lambda _: None)
    assert [(each.path, each.passed) for each in exported.verdicts if each.format == "halves"] == [("model.half", True)]
    return exported.folder


def test_a_format_of_several_files_is_proven_and_every_file_is_listed(halves: Path) -> None:
    manifest = read_manifest(halves)
    (artifact,) = (each for each in manifest.artifacts if each.format == "halves")
    assert [file.path for file in artifact.beside] == ["model.half.other", "model.half.note"]
    assert {"model.half", "model.half.other", "model.half.note"} <= {file.path for file in manifest.files}


@pytest.mark.parametrize("name", ["model.half.other", "model.half.note"])
def test_a_changed_file_beside_the_one_that_is_loaded_is_refused(halves: Path, name: str) -> None:
    manifest = read_manifest(halves)
    (artifact,) = (each for each in manifest.artifacts if each.format == "halves")
    start(halves, manifest, artifact, default_place(artifact, "cpu"))
    (halves / name).write_bytes((halves / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match=rf"{name}: not the file that was proven"):
        start(halves, manifest, artifact, default_place(artifact, "cpu"))


def test_the_command_line_knows_every_format() -> None:
    assert tuple(FORMATS) == NAMES
    assert set(DEFAULT_FORMATS) < set(NAMES)
