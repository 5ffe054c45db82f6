"""The suite measures a bundle against the very weights it was exported from, or says what is missing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from assay_deploy.bundle.folder import sha256, write_manifest
from assay_deploy.bundle.manifest import MANIFEST_VERSION, Artifact, File, Manifest, Source, Tensor
from assay_deploy.errors import AssayError
from assay_deploy.images.canvas import Canvas, View
from benchmarks.contenders.engines import BenchmarkSubject, Graph

ROOT = Path(__file__).parents[3]
HASH = sha256(b"")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle of two views and the run it names."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "digits" / "noon"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("name: digits\n")
    (run / "checkpoints" / "best.pt").write_bytes(b"weights")
    logits, probabilities = (Tensor(name, "float32", ("batch", 2), "") for name in ("logits", "probabilities"))
    manifest = Manifest(
        version=MANIFEST_VERSION,
        name="digits",
        task="classification",
        source=Source("digits/noon", "best", "", HASH, sha256(b"weights"), HASH),
        toolchain={},
        artifacts=(
            Artifact("onnx", "fp32", "any", 1, None, ("logits",), {"logits": 1e-3}, True, {}, "model.onnx", HASH),
            Artifact(
                "onnx", "int8", "cpu", 2, None, ("probabilities",), {"probabilities": 0.5}, True, {}, "int8.onnx", HASH
            ),
        ),
        probe=File("probe.npz", HASH),
        parity=File("parity.json", HASH),
        report=File("parity.html", HASH),
        sbom=File("sbom.spdx.json", HASH),
        inputs=(Tensor("images", "uint8", ("batch", 8, 8, 3), ""),),
        outputs=(logits, probabilities),
        preprocess=Canvas(8, 8),
        labels=("0", "1"),
        views=(View(), View(flip=True)),
        expected=(),
    )
    for name in ("older", "digits"):
        (tmp_path / "bundles" / name).mkdir(parents=True)
        write_manifest(replace(manifest, name=name), tmp_path / "bundles" / name)
    return tmp_path


def test_the_newest_bundle_and_its_own_run_are_found(place: Path) -> None:
    found = BenchmarkSubject.find(None, None)
    assert (found.manifest.name, found.run.folder) == ("digits", Path("runs/digits/noon"))


def test_every_graph_is_measured_eager_first(place: Path) -> None:
    assert BenchmarkSubject.find(None, None).graphs == [
        Graph("eager", tta=False),
        Graph("eager", tta=True),
        Graph("onnx", tta=False),
        Graph("onnx", tta=True, precision="int8", place="cpu"),
    ]


def test_weights_that_changed_since_the_export_are_refused(place: Path) -> None:
    (place / "runs" / "digits" / "noon" / "checkpoints" / "best.pt").write_bytes(b"other weights")
    with pytest.raises(AssayError, match=r"exported from other weights.*export the run again"):
        BenchmarkSubject.find(None, None)


def test_a_run_elsewhere_has_to_be_named(place: Path) -> None:
    (place / "runs").rename(place / "moved")
    with pytest.raises(AssayError, match=r"no 'runs/digits/noon/checkpoints/best\.pt'.*--run"):
        BenchmarkSubject.find(None, None)
    assert BenchmarkSubject.find(None, Path("moved/digits/noon")).run.name == "digits/noon"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no bundle under 'bundles': make one with `nox -s export`, or give its folder with --bundle"),
        (["--bundle", "nowhere"], "no bundle at 'nowhere'"),
        (["--report", "file"], "--report 'file' is not a folder"),
    ],
)
def test_the_suite_says_in_one_line_what_is_missing(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "file").touch()
    configured = ["-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *configured, ROOT / "benchmarks" / "test_inference.py", *options]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode not in (0, 1)
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
