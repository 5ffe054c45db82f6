"""How fast each family trains, as a ratio to the usual loop with the same augmentation, batch size and cores.

Ours runs as `assay-train` would: precision auto, channels_last, and freed memory kept (`keep_memory`). The last holds
for the whole process, so the usual loop gains by it too. That loop is plain float32 PyTorch as people write it; on CUDA
with torch's own TF32 defaults, pinned memory and copies that do not block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.utils.data import DataLoader

from assay_deploy.images.canvas import Canvas
from assay_research.config.build import build_model
from assay_research.config.overrides import compose
from assay_research.data.augment import Augment
from assay_research.data.classification import ClassificationData, Split
from assay_research.models.normalized import Normalized
from assay_research.optim import sgd
from assay_research.schedules import Constant
from assay_research.tasks.classification.trainer import ClassifierTrainer
from assay_research.training.device import choose_precision, keep_memory
from assay_research.training.loop import COMPILE_MODES
from benchmarks.contenders import usual_loop
from benchmarks.measure import roofline
from benchmarks.measure.interleave import QUICK, WARM_UP, Effort, figures
from benchmarks.measure.roofline import Rooflines

TINYVGG = tuple(f"tinyvgg_{config}" for config in "abcde")
FAMILIES = (*TINYVGG, "vgg_a", "resnet_15")
"""Names in `conf/model`."""

SETTINGS = Augment(flip=True, scale=[36, 36], brightness=0.1, contrast=0.1, saturation=0.1)
LR, MOMENTUM = 0.01, 0.9

COMPILED = {
    "default": ("tinyvgg_a", "tinyvgg_e", "vgg_a", "resnet_15"),
    "reduce-overhead": FAMILIES,
    "max-autotune": ("tinyvgg_a", "tinyvgg_e", "vgg_a", "resnet_15"),
}
"""Families that are timed in each mode of torch.compile: all with CUDA graphs, by which small ones gain most; compiling
takes a minute each."""

SECONDS = {"cpu": 0.5, "cuda": 0.25}
"""That each way trains in a round, or `LEAST` steps where these take longer."""

LEAST = 2
MOST = 16384
"""Steps of a round, and images of a round."""

WORKERS = (0, 2)


@dataclass(frozen=True)
class TrainingCase:
    """What is trained and how; `workers` are the usual loop's, `compiled` is a mode of `torch.compile` for ours."""

    device: str
    family: str
    batch: int
    workers: int
    compiled: str | None = None

    def __str__(self) -> str:
        return f"{self.device}-{self.family}-{self.batch}-{self.workers}-{self.compiled or 'eager'}"

    @property
    def target(self) -> str:
        """What is timed, in words."""
        return f"{self.family}, {f'compile={self.compiled}' if self.compiled else 'eager'}"


def cases(device: str) -> list[TrainingCase]:
    """Every family against no and two workers; compiled, on CUDA, against two, which are the faster there."""
    sizes = [*((family, 128) for family in FAMILIES), (TINYVGG[0], 32), (TINYVGG[0], 512)]
    eager = [TrainingCase(device, family, batch, workers) for family, batch in sizes for workers in WORKERS]
    modes = COMPILE_MODES if device == "cuda" else ()
    return eager + [TrainingCase(device, family, 128, WORKERS[-1], mode) for mode in modes for family in COMPILED[mode]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases of all devices; with ``--quick`` the first of each."""
    option = metafunc.config.option
    found = [case for device in option.devices for case in cases(device)[: 1 if option.quick else None]]
    metafunc.parametrize("case", found, ids=str)


@pytest.fixture(autouse=True)
def as_trained() -> Iterator[None]:
    """This process as `assay-train` sets it up, and TF32 as torch does, which the rest of the suite turns off."""
    keep_memory()
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32"
    yield
    convolutions.fp32_precision = before


def noise(n: int) -> Split:
    """Images of CIFAR-10's size: what they show makes no difference to the time."""
    images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8)
    return Split(images, torch.arange(n) % 10, tuple(str(i) for i in range(n)))


def build(family: str, device: torch.device) -> Normalized:
    """A model of the zoo, untrained."""
    torch.manual_seed(0)
    return build_model(compose([f"model={family}"]).model, classes=10).to(device)


def ours(case: TrainingCase, device: torch.device) -> ClassifierTrainer:
    """A training as `assay-train` runs it, warmed up, validating as little as it can."""
    images = noise(max(MOST, LEAST * case.batch))
    data = ClassificationData("noise", tuple("0123456789"), Canvas(32, 32), images, noise(10), noise(10))
    model = build(case.family, device).to(memory_format=torch.channels_last)
    trainer = ClassifierTrainer(
        model,
        data,
        sgd(model, lr=LR, momentum=MOMENTUM),
        schedule=Constant(),
        settings=SETTINGS,
        batch_size=case.batch,
        device=device,
        dtype=choose_precision("auto", device),
        compile_mode=case.compiled,
    )
    for _ in range(WARM_UP):
        trainer.train_batch(trainer.order()[: case.batch])
    return trainer


class Usual:
    """The usual loop on a case, ready to be timed an epoch at a time."""

    def __init__(self, case: TrainingCase, device: torch.device, effort: Effort) -> None:
        self.device, self.model = device, build(case.family, device).network
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM)
        self.loader = self._load(1, case.batch, 0)
        self.steps = 1
        self.steps = steps(case, self.step_seconds(), effort)
        self.loader = self._load(self.steps, case.batch, case.workers)
        self.step_seconds()  # starts the workers

    def _load(self, count: int, batch: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
        split = noise((count + 2 * usual_loop.margin(workers)) * batch)
        images = usual_loop.Images(split, usual_loop.transform(SETTINGS, 32))
        return usual_loop.load(images, batch, workers, self.device)

    def step_seconds(self) -> float:
        """Train an epoch; the mean seconds of its timed steps."""
        return usual_loop.train_epoch(self.model, self.optimizer, self.loader, self.device) / self.steps


def steps(case: TrainingCase, seconds: float, effort: Effort) -> int:
    """How many steps of so many seconds a round is to have."""
    return LEAST if effort == QUICK else max(LEAST, min(MOST // case.batch, round(SECONDS[case.device] / seconds)))


def test_training(benchmark: BenchmarkFixture, case: TrainingCase, effort: Effort, rooflines: Rooflines) -> None:
    """A round is some steps of each; the usual loop may choose its number of workers, so the lower ratio counts."""
    device = torch.device(case.device)
    usual, trainer = Usual(case, device, effort), ours(case, device)
    start = roofline.now(device)
    trainer.train_batch(trainer.order()[: case.batch])
    trainer.steps_per_epoch = steps(case, roofline.now(device) - start, effort)
    trainer.train(1)
    seconds: list[float] = []

    def train_usual() -> tuple[tuple[int], dict[str, Any]]:
        seconds.append(usual.step_seconds())
        return (1,), {}

    benchmark.group = "Training, a step"
    named = {"target": case.target, "device": case.device}
    benchmark.extra_info |= {**named, "baseline": f"DataLoader, {case.workers} workers"}
    benchmark.pedantic(trainer.train, setup=train_usual, rounds=effort.least)  # type: ignore[no-untyped-call]
    assert trainer.epoch == 1 + len(seconds), "training ended early"
    if benchmark.stats:  # there are none with --benchmark-disable
        each = [epoch / trainer.steps_per_epoch for epoch in benchmark.stats.stats.data]
        benchmark.extra_info |= figures(seconds, each, [case.batch] * len(each))
        rooflines.add(named, trainer, benchmark.extra_info["images_per_second"])
