"""A third task, one number an image, goes from training to prediction, registered from this folder alone."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import Artifact
from assay_deploy.bundle.manifest import Tensor as Described
from assay_deploy.cli import main as assay_deploy
from assay_deploy.tasks.registry import TASKS as DEPLOYED
from assay_export.cli import main as assay_export
from assay_export.formats.runner import Outputs
from assay_export.gate.tolerances import TOLERANCES
from assay_export.tasks.registry import TASKS as EXPORTED
from assay_export.tasks.task import Comparison, WorstImage
from assay_research.commands.evaluate import main as assay_evaluate
from assay_research.config.schema import TrainConfig
from assay_research.experiment.experiment import Experiment
from assay_research.runs.run import Run
from assay_research.runs.trained import Trained
from tests.deploy.tasks.test_registry import Blobs
from tests.research.tasks.test_registry import CLOSE, BlobData, blobs
from tests.research.tasks.test_registry import settings as settings


class Counting(nn.Module):
    """From images uint8 ``[batch, 8, 8, 3]`` to how many blobs each holds, float32 ``[batch]``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.model(images.permute(0, 3, 1, 2).float() / 255)
        return answer[:, 0]


@dataclass(frozen=True)
class Counted:
    eager: float
    artifact: float
    off: float

    def changed(self) -> str:
        return f"up to {self.off:.1g} blobs"

    def difference_text(self) -> str:
        return f"{self.artifact - self.eager:+.4f}"


class BlobExport:
    name: ClassVar[str] = "blobs"
    metric: ClassVar[str] = CLOSE.key
    metric_name: ClassVar[str] = CLOSE.name
    batch: ClassVar[int] = 6
    reference_batch: ClassVar[int] = 16
    labelled: ClassVar[bool] = False

    def outputs(self, variant: str) -> tuple[str, ...]:
        return ("count",)

    def describe_outputs(self, trained: Trained, tta: bool) -> tuple[Described, ...]:
        return (Described("count", "float32", ("batch",), "bright blobs"),)

    def eager(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        return Counting(trained.model).eval()

    def exported(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        return self.eager(trained, variant, dense)

    def score(self, data: BlobData, found: Outputs) -> float:
        return float((np.abs(found["count"] - data.test.counts.numpy()) < 0.5).mean())

    def drop_allowed(self, n: int, precision: str) -> float:
        return 1 / n

    def distance(self, found: Outputs, expected: Outputs) -> float:
        return float(np.abs(found["count"] - expected["count"]).max())

    def compare(self, artifact: Artifact, data: BlobData, reference: Outputs, found: Outputs) -> Comparison:
        off = self.distance(found, reference)
        finding = Counted(self.score(data, reference), self.score(data, found), off)
        reasons = [f"counts differ by up to {off:.2g}"] * (off > 0.1)
        first = (f"{each['count'][0]:.2f}" for each in (reference, found))
        return Comparison(
            finding, reasons, (WorstImage(0, data.test.names[0], off, f"{data.test.counts[0]:.0f}", *first),)
        )


@pytest.fixture
def run(settings: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A finished run of the third task, which is made known to all members."""
    monkeypatch.setitem(EXPORTED, "blobs", BlobExport())
    monkeypatch.setitem(DEPLOYED, "blobs", Blobs())
    for form in ("onnx", "torchscript"):
        monkeypatch.setitem(TOLERANCES, ("blobs", form, "fp32"), {"count": 1e-4})
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.build(settings)
    experiment.finish(experiment.train(settings.epochs, progress=False))
    assert experiment.run is not None
    return experiment.run


def call(command: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    try:
        return int(command() or 0)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1


def test_a_third_task_goes_the_whole_way(run, monkeypatch, capsys, tmp_path) -> None:
    assert call(assay_evaluate, monkeypatch, f"run={run.folder}") == 0
    assert json.loads((run.folder / "evaluation" / "counts.json").read_text())["epoch"] > 0

    assert call(assay_export, monkeypatch, f"run={run.folder}", "formats=onnx,torchscript", "layout=triton") == 0
    told, bundle = capsys.readouterr().out, tmp_path / "bundles" / "blobs"
    assert "up to " in told  # the task's own words in the gate's table
    manifest = read_manifest(bundle)
    assert (manifest.task, manifest.expected[0].metric) == ("blobs", "close")
    parity = json.loads((bundle / "parity.json").read_text())
    assert [(each["path"], each["engine"], each["passed"]) for each in parity["artifacts"]] == [
        ("model.onnx", "onnxruntime", True),
        ("model.onnx", "openvino", True),
        ("model.torchscript", "torch", True),
    ]
    assert CLOSE.name in (bundle / "parity.html").read_text()
    assert "label_filename" not in (tmp_path / "bundles/blobs.triton/blobs/config.pbtxt").read_text()

    test = blobs().test
    for image, name in zip(test.images.numpy(), test.names, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    images = [str(tmp_path / f"{name}.png") for name in test.names]
    assert assay_deploy(["predict", str(bundle), *images]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert assay_deploy(["predict", str(bundle), *images, "--json"]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [path for path, _ in lines] == [each["path"] for each in objects] == images
    counts = [each["count"] for each in objects]
    assert [float(count) for _, count in lines] == pytest.approx(counts, abs=0.05 + 1e-6)
    close = np.abs(np.array(counts) - test.counts.numpy()) < 0.5
    assert close.mean() == pytest.approx(manifest.expected[0].value, abs=1 / len(test))
    assert assay_deploy(["doctor", str(bundle)]) == 0


def test_the_gate_judges_a_third_task_by_its_own_figures(run, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setitem(TOLERANCES, ("blobs", "onnx", "fp32"), {"count": 1e-30})
    assert call(assay_export, monkeypatch, f"run={run.folder}", "formats=onnx", "name=strict") == 3
    assert "count differ by up to" in capsys.readouterr().err
    assert not (tmp_path / "bundles" / "strict").exists()
    monkeypatch.setitem(TOLERANCES, ("blobs", "onnx", "fp32"), {"count": 1e-4})
    monkeypatch.setattr(BlobExport, "compare", lambda *_: Comparison(Counted(1, 0, 9), ["counts are wrong"], ()))
    assert call(assay_export, monkeypatch, f"run={run.folder}", "formats=onnx", "name=strict") == 4
    assert "counts are wrong" in capsys.readouterr().err
