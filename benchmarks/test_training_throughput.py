"""Training speed of each model family relative to the usual loop with the same augmentation, batch size and cores.

Assay trains with the settings of `assay-train`: precision auto, channels_last, and freed memory kept in the process
(`keep_memory`), from which the usual loop benefits too. The usual loop is plain float32 PyTorch; on CUDA it uses
torch's TF32 defaults, pinned memory and non-blocking copies.
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
"""Names of model configurations in `conf/model`."""

SETTINGS = Augment(flip=True, scale=[36, 36], brightness=0.1, contrast=0.1, saturation=0.1)
LR, MOMENTUM = 0.01, 0.9

COMPILED = {
    "default": ("tinyvgg_a", "tinyvgg_e", "vgg_a", "resnet_15"),
    "reduce-overhead": FAMILIES,
    "max-autotune": ("tinyvgg_a", "tinyvgg_e", "vgg_a", "resnet_15"),
}
"""Families timed in each mode of torch.compile. All are timed with CUDA graphs (reduce-overhead), where small models
gain most; compiling takes a minute each."""

SECONDS = {"cpu": 0.5, "cuda": 0.25}
"""Duration in seconds of a round of training, by device; a round has at least `LEAST` steps."""

LEAST = 2
MOST = 16384
"""Minimum steps and maximum images of a round."""

WORKERS = (0, 2)


@dataclass(frozen=True)
class TrainingCase:
    """A training whose speed is measured.

    Attributes:
        workers: number of data loader processes of the plain PyTorch loop that Assay is compared with.
        compiled: mode of `torch.compile` in Assay's training; None does not compile.
    """

    device: str
    family: str
    batch: int
    workers: int
    compiled: str | None = None

    def __str__(self) -> str:
        return f"{self.device}-{self.family}-{self.batch}-{self.workers}-{self.compiled or 'eager'}"

    @property
    def target(self) -> str:
        """Name of the training for the report."""
        return f"{self.family}, {f'compile={self.compiled}' if self.compiled else 'eager'}"


def cases(device: str) -> list[TrainingCase]:
    """Cases of a device: every family against 0 and 2 workers; on CUDA also compiled, against 2, the faster number."""
    sizes = [*((family, 128) for family in FAMILIES), (TINYVGG[0], 32), (TINYVGG[0], 512)]
    eager = [TrainingCase(device, family, batch, workers) for family, batch in sizes for workers in WORKERS]
    modes = COMPILE_MODES if device == "cuda" else ()
    return eager + [TrainingCase(device, family, 128, WORKERS[-1], mode) for mode in modes for family in COMPILED[mode]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests with all cases of all devices; with ``--quick``, with the first case of each device."""
    option = metafunc.config.option
    found = [case for device in option.devices for case in cases(device)[: 1 if option.quick else None]]
    metafunc.parametrize("case", found, ids=str)


@pytest.fixture(autouse=True)
def as_trained() -> Iterator[None]:
    """Configure the process like `assay-train`, with torch's default TF32, which the rest of the suite turns off."""
    keep_memory()
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32"
    yield
    convolutions.fp32_precision = before


def noise(n: int) -> Split:
    """Random images of CIFAR-10's size: their content does not affect the time."""
    images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8)
    return Split(images, torch.arange(n) % 10, tuple(str(i) for i in range(n)))


def build(family: str, device: torch.device) -> Normalized:
    """Build an untrained model of the zoo."""
    torch.manual_seed(0)
    return build_model(compose([f"model={family}"]).model, classes=10).to(device)


def ours(case: TrainingCase, device: torch.device) -> ClassifierTrainer:
    """Trainer set up like `assay-train`, warmed up, with minimal validation."""
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


class UsualLoop:
    """The usual loop for a case, timed one epoch at a time."""

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
        """Train an epoch; return the mean seconds of its timed steps."""
        return usual_loop.train_epoch(self.model, self.optimizer, self.loader, self.device) / self.steps


def steps(case: TrainingCase, seconds: float, effort: Effort) -> int:
    """Number of steps per round, for steps of the given duration."""
    return LEAST if effort == QUICK else max(LEAST, min(MOST // case.batch, round(SECONDS[case.device] / seconds)))


def test_training(benchmark: BenchmarkFixture, case: TrainingCase, effort: Effort, rooflines: Rooflines) -> None:
    """Time rounds of several steps of each; the lower ratio counts, as the usual loop may use either worker count."""
    device = torch.device(case.device)
    usual, trainer = UsualLoop(case, device, effort), ours(case, device)
    start = roofline.now(device)
    trainer.train_batch(trainer.order()[: case.batch])
    trainer.steps_per_epoch = steps(case, roofline.now(device) - start, effort)
    trainer.train(1)
    seconds: list[float] = []

    def train_usual() -> tuple[tuple[int], dict[str, Any]]:
        seconds.append(usual.step_seconds())
        return (1,), {}

    benchmark.group = "Training step"
    named = {"target": case.target, "device": case.device}
    benchmark.extra_info |= {**named, "baseline": f"DataLoader, {case.workers} workers"}
    benchmark.pedantic(trainer.train, setup=train_usual, rounds=effort.least)  # type: ignore[no-untyped-call]
    assert trainer.epoch == 1 + len(seconds), "training ended early"
    if benchmark.stats:  # there are none with --benchmark-disable
        each = [epoch / trainer.steps_per_epoch for epoch in benchmark.stats.stats.data]
        benchmark.extra_info |= figures(seconds, each, [case.batch] * len(each))
        rooflines.add(named, trainer, benchmark.extra_info["images_per_second"])
