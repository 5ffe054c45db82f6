"""The suite runs on a bundle of the embedded data, reports ratios, and fails where the answers are not the model's."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from assay_deploy.bundle.folder import read_manifest, write_manifest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)


def bench(folder: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    configured = ("-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider", ROOT / "benchmarks", "--quick")
    return run(folder, "pytest", *configured, *options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run and its bundle, where the suite looks for them."""
    folder = tmp_path_factory.mktemp("suite")
    assert run(folder, "assay_research.commands.train", "epochs=1", "figures=false").returncode == 0
    assert run(folder, "assay_export.cli").returncode == 0
    return folder


def test_ratios_and_parity_of_every_graph_are_reported(folder: Path) -> None:
    ran = bench(folder, "-k", "(test_inference and 32) or test_parity")
    assert ran.returncode == 0, ran.stdout
    found = json.loads((folder / "bench" / "bench.json").read_text())
    assert [(timing["target"], timing["baseline"]) for timing in found["timings"]] == [
        ("eager torch", "eager torch"),
        ("eager torch, all views", "eager torch, all views"),
        ("TorchScript", "eager torch"),
        ("TorchScript, all views", "eager torch, all views"),
        ("ONNX Runtime", "eager torch"),
        ("ONNX Runtime, all views", "eager torch, all views"),
        ("torch.export", "eager torch"),
        ("torch.export, all views", "eager torch, all views"),
        ("assay_deploy.predict", "plain loop"),
    ]
    assert all(timing["rounds"] >= 3 for timing in found["timings"])
    assert [finding["changed"] for finding in found["parity"]] == [0] * 7
    assert (folder / "bench" / "bench.md").read_text() in ran.stdout
    assert (folder / "bench" / "bench.png").is_file()


def test_a_training_has_its_ratio_and_its_roofline(folder: Path) -> None:
    ran = bench(folder, "-k", "test_training", "--device", "cpu")
    assert ran.returncode == 0, ran.stdout
    found = json.loads((folder / "bench" / "bench.json").read_text())
    (timing,), (row,) = found["timings"], found["rooflines"]
    assert (timing["target"], timing["baseline"]) == ("tinyvgg_a, eager", "DataLoader, 0 workers")
    assert timing["images"] == row["batch"] == 128
    assert row["images_per_second"] == timing["images_per_second"]
    assert 0 < row["fraction"] < 1


def test_a_score_that_is_not_the_expected_one_fails(folder: Path) -> None:
    bundle = folder / "bundles" / "digits"
    manifest = read_manifest(bundle)
    wrong = [replace(each, value=each.value / 2) for each in manifest.expected]
    write_manifest(replace(manifest, expected=tuple(wrong)), bundle)
    ran = bench(folder, "-k", "test_split")
    write_manifest(manifest, bundle)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert "6 failed" in ran.stdout


def test_images_in_folders_that_are_no_labels_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "zebra" / "1.png"
    image.parent.mkdir()
    image.touch()
    ran = bench(folder, "-k", "files", "--images", tmp_path)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"'{image}' is in a folder named 'zebra', which is not a label of bundle" in ran.stdout
