"""Runs and bundles that commit c61792a wrote still work.

Beside this file stands what it wrote: config, metrics, summary and manifest as they were, and of the checkpoint the
layout, with a type and a shape in place of each tensor. The tests fill the layout with numbers.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from assay_deploy.bundle.folder import CHECKSUM, MANIFEST, read_manifest
from assay_research.data import digits

EARLIER = Path(__file__).parent / "at_c61792a"
KINDS = ("classifier", "detector")


def filled(layout: dict[str, Any], name: str = "") -> Any:
    """A checkpoint of that layout: small random numbers, variances of one, valid states of random generators."""
    if "keys" in layout:
        return {key: filled(value, f"{name}.{key}") for key, value in layout["keys"]}
    if "list" in layout:
        return [filled(value, name) for value in layout["list"]]
    if "value" in layout:
        return layout["value"]
    dtype, shape = getattr(torch, layout["dtype"]), layout["shape"]
    if name.startswith(".random"):
        return torch.Generator().manual_seed(0).get_state()
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    if name.endswith(("_var", "std", "exp_avg_sq")):
        return torch.ones(shape, dtype=dtype)
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(name)), dtype=dtype) * 0.05


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def place(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run at ``runs/earlier/run``."""
    folder = tmp_path_factory.mktemp(kind)
    run = folder / "runs" / "earlier" / "run"
    shutil.copytree(EARLIER / kind / "run", run)
    layout = run / "checkpoint.json"
    (run / "checkpoints").mkdir()
    state = filled(json.loads(layout.read_text(encoding="utf-8")))
    for name in ("best", "last"):
        torch.save(state, run / "checkpoints" / f"{name}.pt")
    layout.unlink()
    return folder


def command(place: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=place, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    """A bundle of the earlier run that today's export made."""
    command(place, "assay_export.cli", "run=runs/earlier/run", "name=earlier", "formats=onnx", "engines=onnxruntime")
    return place / "bundles" / "earlier"


def test_an_earlier_run_is_evaluated(place: Path) -> None:
    command(place, "assay_research.commands.evaluate", "run=runs/earlier/run", "split=test")
    assert list((place / "runs" / "earlier" / "run" / "evaluation").glob("*.json"))


def test_an_earlier_run_is_listed_with_its_scores(kind: str, place: Path) -> None:
    listed = json.loads(command(place, "assay_research.commands.runs", "list", "--json").stdout)
    (entry,) = (each for each in listed if each["path"].endswith("earlier/run"))
    summary = json.loads((EARLIER / kind / "run" / "summary.json").read_text(encoding="utf-8"))
    assert entry["state"] == "finished"
    assert entry["test"] == summary["test_top1" if kind == "classifier" else "test_map"]


def test_training_goes_on_with_an_earlier_run(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "runs", tmp_path / "runs")
    command(tmp_path, "assay_research.commands.train", "resume=runs/earlier/run", "epochs=3")
    history = (tmp_path / "runs" / "earlier" / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [1, 2, 3]


def keys(document: Any) -> Any:
    """A document's keys, without its values."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items()}
    return [keys(document[0])] if isinstance(document, list) and document else None


def test_bundles_have_the_format_they_had(kind: str, bundle: Path) -> None:
    before, now = (
        json.loads((folder / MANIFEST).read_text(encoding="utf-8")) for folder in (EARLIER / kind / "bundle", bundle)
    )
    assert keys(now) == keys(before)
    for document in (before, now):
        for tensor in (*document["inputs"], *document["outputs"]):
            assert tensor.pop("meaning")  # prose for people, whose words may change; a client reads the rest
    for name in ("version", "task", "inputs", "outputs", "preprocess", "labels", "views"):
        assert now[name] == before[name]


def test_an_earlier_bundle_predicts(kind: str, bundle: Path, tmp_path: Path) -> None:
    """Under the earlier manifest, with the hashes of files made now in place of those it named."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    for name in (MANIFEST, CHECKSUM):
        shutil.copy(EARLIER / kind / "bundle" / name, folder)
    assert read_manifest(folder).source.run.endswith("2026-11-28_13-2" + ("7-06" if kind == "classifier" else "8-04"))
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for entry in (*document["artifacts"], *(document[name] for name in ("probe", "parity", "report", "sbom"))):
        entry["sha256"] = hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest()
    content = json.dumps(document).encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / CHECKSUM).write_text(f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n")
    digits.save_test_images(tmp_path / "images")
    images = sorted((tmp_path / "images").rglob("*.png"))[:3]
    told = command(tmp_path, "assay_deploy", "predict", str(folder), *map(str, images), "--json").stdout
    assert [json.loads(line)["path"] for line in told.splitlines()] == list(map(str, images))
    assert command(tmp_path, "assay_deploy", "doctor", str(folder)).stdout.endswith("No problems found.\n")
