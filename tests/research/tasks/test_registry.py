"""A third task needs no edit: its data name it, and training, scoring and evaluation ask its object."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay_deploy.images.canvas import Canvas
from assay_research.commands import evaluate
from assay_research.config.schema import TrainConfig
from assay_research.data.protocol import Objects
from assay_research.errors import ConfigError
from assay_research.experiment.experiment import Experiment
from assay_research.experiment.probes import overfit_one_batch
from assay_research.experiment.trainers import make_trainer
from assay_research.runs import finite_json
from assay_research.runs.inventory import examine
from assay_research.runs.score import METRICS, Metric
from assay_research.runs.trained import load_checked
from assay_research.tasks.options import EvaluationOptions
from assay_research.tasks.registry import TASKS, task_of
from assay_research.tasks.task import Outcome
from assay_research.training.loop import Loop

CLOSE = Metric("close", "share within half a blob")


@dataclass(frozen=True)
class BlobSplit:
    """Dark images, and how many bright pixels each holds."""

    images: Tensor
    counts: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class BlobData:
    train: BlobSplit
    val: BlobSplit
    test: BlobSplit
    task: ClassVar[str] = "blobs"
    name: ClassVar[str] = "blobs"
    classes: ClassVar[tuple[str, ...]] = ("count",)
    canvas: ClassVar[Canvas] = Canvas(8, 8)
    problems: ClassVar[tuple[object, ...]] = ()

    def fingerprint(self) -> str:
        return str([split.counts.tolist() for split in (self.train, self.val, self.test)])

    def objects(self) -> Objects:
        nothing = np.zeros(0, np.int64)
        sizes = np.full((len(self.train) + len(self.val) + len(self.test), 2), 8)
        return Objects(sizes, nothing, nothing, nothing.astype(bool), None)


def blobs() -> BlobData:
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> BlobSplit:
        bright = torch.rand(n, 8, 8, 1, generator=generator) < 0.05
        images = (bright * 255).to(torch.uint8).expand(-1, -1, -1, 3).contiguous()
        return BlobSplit(images, bright.sum((1, 2, 3)).float(), tuple(map(str, range(n))))

    return BlobData(split(64), split(16), split(16))


def counter(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, classes))


class Still:
    """Augmentation that leaves images as they are."""


def counted(model: nn.Module, split: BlobSplit) -> Tensor:
    with torch.no_grad():
        answer: Tensor = model.eval()(split.images.permute(0, 3, 1, 2) / 255)
    return answer[:, 0]


class BlobTrainer(Loop):
    CHOSEN: ClassVar[str] = CLOSE.val
    data: BlobData

    def parts(self, indices: Tensor) -> Iterator[Tensor]:
        yield indices

    def measure(self, part: Tensor) -> tuple[Tensor, ...]:
        split = self.data.train
        answer = self.forward(split.images[part].permute(0, 3, 1, 2) / 255)[:, 0]
        return (((answer - split.counts[part]) ** 2).mean(),)

    def validate(self) -> dict[str, float]:
        error = counted(self.result, self.data.val) - self.data.val.counts
        return {"val_loss": (error**2).mean().item(), CLOSE.val: (error.abs() < 0.5).float().mean().item()}

    def disable_augmentation(self) -> None:
        pass


class BlobTask:
    model = "a counter"
    augment_module = "data.blobs"
    augment_advice = "a counter takes no augmentation"
    options = frozenset({"dense"})

    def build_trainer(self, model, data, optimizer, schedule, views, augment, label_smoothing, options):
        return BlobTrainer(model, data, optimizer, schedule, **options)

    def evaluate(self, trainer, split):
        chosen = getattr(trainer.data, split)
        return (counted(trainer.result, chosen) - chosen.counts).abs().mean().item()

    def conclude(self, trainer, trained):
        error = counted(trained.model, trainer.data.test) - trainer.data.test.counts
        return Outcome({"test_close": (error.abs() < 0.5).float().mean().item()}, "fits", lambda folder, title: None)

    def evaluate_run(self, run, options, data, names, device):
        trained, epoch = load_checked(run, names[0], device, data, data.fingerprint())
        path = run.evaluation() / "counts.json"
        error = (counted(trained.model, data.val) - data.val.counts).abs().mean().item()
        finite_json.write({"epoch": epoch, "error": error}, path)
        return path


@pytest.fixture
def settings(monkeypatch, tmp_path) -> TrainConfig:
    """Of a training of the third task, which is made known."""
    for wing, builders in (("models", [counter]), ("data", [blobs, Still])):
        module = ModuleType(f"assay_research.{wing}.blobs")
        for builder in builders:
            monkeypatch.setattr(builder, "__module__", module.__name__)
            setattr(module, builder.__name__, builder)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(TASKS, "blobs", BlobTask())
    monkeypatch.setattr("assay_research.runs.score.METRICS", [*METRICS, CLOSE])
    return TrainConfig(
        name="blobs",
        model={"_target_": "assay_research.models.blobs.counter"},
        data={"_target_": "assay_research.data.blobs.blobs"},
        augment={"_target_": "assay_research.data.blobs.Still"},
        optim={"_target_": "assay_research.optim.adam", "lr": 0.01},
        schedule={"_target_": "assay_research.schedules.Constant"},
        views=[{}],
        epochs=20,
        batch_size=16,
        device="cpu",
        precision="fp32",
        runs=str(tmp_path),
    )


def test_a_third_task_is_trained_scored_evaluated_and_listed(settings):
    experiment = Experiment.build(settings)
    before = experiment.evaluate("test")
    summary = experiment.finish(experiment.train(settings.epochs, progress=False))
    assert experiment.evaluate("test") < before / 2
    assert experiment.run is not None
    path = evaluate.evaluate(experiment.run, EvaluationOptions(dense=8))
    assert json.loads(path.read_text())["epoch"] == summary["best_epoch"]
    entry = examine(experiment.run)
    assert (entry.state, entry.best_val, entry.test) == ("finished", summary["val_close"], summary["test_close"])


def test_a_third_tasks_batch_is_learned_by_heart(settings):
    trainer = make_trainer(settings)
    learned = overfit_one_batch(trainer, steps=2000)
    assert learned.learned
    assert learned.others == {}


def test_another_tasks_options_and_augmentation_are_refused(settings):
    experiment = Experiment.build(settings)
    experiment.train(1, progress=False)
    assert experiment.run is not None
    with pytest.raises(ConfigError, match="iou= is an option for a detector"):
        evaluate.evaluate(experiment.run, EvaluationOptions(iou=0.4))
    settings.augment = {"_target_": "assay_research.data.augment.Augment"}
    with pytest.raises(ConfigError, match="a counter takes no augmentation"):
        make_trainer(settings)


def test_data_of_an_unknown_task_are_refused_with_the_tasks_there_are(settings, monkeypatch):
    monkeypatch.delitem(TASKS, "blobs")
    with pytest.raises(ConfigError, match=r"'blobs'; .*valid here: classification, detection"):
        task_of(blobs())


def test_training_a_classifier_imports_no_detectors(tmp_path: Path):
    code = (
        "import sys, assay_research.experiment.experiment\n"
        "print(sorted({'torchvision', 'faster_coco_eval', 'assay_research.tasks.detection.task'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ended.stdout.strip() == "['assay_research.tasks.detection.task']"
