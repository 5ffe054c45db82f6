"""How fast TinyVGG-A trains, as a ratio to the usual loop with the same augmentation, batch size and cores."""

from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.data import DataLoader

from assay_deploy.canvas import Canvas
from assay_research.classification import Trainer
from assay_research.data import ClassificationData, Split
from assay_research.data.augment import Augment
from assay_research.models import Normalized
from assay_research.models.tinyvgg import tinyvgg
from assay_research.optim import sgd
from assay_research.schedules import Constant
from benchmarks.interleave import THOROUGH, Effort, figures
from benchmarks.usual_loop import PREFETCH, Pictures, margin, train_epoch, transform

SETTINGS = Augment(flip=True, scale=[36, 36], brightness=0.1, contrast=0.1, saturation=0.1)
LR, MOMENTUM = 0.01, 0.9


def noise(n: int) -> Split:
    """Pictures of CIFAR-10's size: what they show makes no difference to the time."""
    images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8)
    return Split(images, torch.arange(n) % 10, tuple(str(i) for i in range(n)))


def ours(split: Split, batch: int) -> Trainer:
    """A training as `assay-train` runs it, validating as little as it can."""
    data = ClassificationData("noise", tuple("0123456789"), Canvas(32, 32), split, noise(10), noise(10))
    model = Normalized(tinyvgg("A"), torch.zeros(3), torch.ones(3)).to(memory_format=torch.channels_last)
    optimizer = sgd(model, lr=LR, momentum=MOMENTUM)
    return Trainer(model, data, optimizer, schedule=Constant(), settings=SETTINGS, batch_size=batch)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [32, 128, 512])
def test_training(benchmark: BenchmarkFixture, batch: int, workers: int, effort: Effort) -> None:
    """A round is an epoch of each; the usual loop may choose its number of workers, so the lower ratio counts."""
    torch.manual_seed(0)
    steps = (4096 if effort == THOROUGH else 512) // batch
    trainer = ours(noise(steps * batch), batch)
    trainer.train(1)
    loader = DataLoader(
        Pictures(noise((steps + 2 * margin(workers)) * batch), transform(SETTINGS, 32)),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
    )
    model = tinyvgg("A")
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    seconds: list[float] = []

    def train_usual() -> tuple[tuple[int], dict[str, Any]]:
        seconds.append(train_epoch(model, optimizer, loader))
        return (1,), {}

    benchmark.group = "Training"
    benchmark.extra_info |= {
        "target": f"training, batch {batch}, against {workers} workers",
        "baseline": "DataLoader and transforms",
        "device": "cpu",
    }
    benchmark.pedantic(trainer.train, setup=train_usual, rounds=effort.least)  # type: ignore[no-untyped-call]
    assert trainer.epoch == 1 + len(seconds), "training ended early"
    if benchmark.stats:  # there are none with --benchmark-disable
        count = [steps * batch] * len(seconds)
        benchmark.extra_info |= figures(seconds, benchmark.stats.stats.data, count)
