"""The work of a step is what a hand counts, and a speed stands under the lower of two ceilings."""

import itertools

import pytest
import torch
from torch import nn

from assay_deploy.images.canvas import Canvas
from assay_research.data.classification import ClassificationData, Split
from assay_research.models.normalized import Normalized
from assay_research.optim import sgd
from assay_research.schedules import Constant
from assay_research.tasks.classification.trainer import ClassifierTrainer
from benchmarks.measure import roofline
from benchmarks.measure.roofline import Ceilings, Rooflines, Work, count, measure, roofline_row

IMAGES = (2, 3, 8, 8)
FORWARD = 2 * (2 * 8 * 8) * 4 * (3 * 9)
"""FLOPs of a 3x3 convolution from 3 to 4 channels: two for each of the 27 products behind each output."""


def trained(model: nn.Module, momentum: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    model(torch.rand(IMAGES)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(("momentum", "state"), [(0.0, 0), (0.9, 448)])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_one_convolution_is_counted_as_by_hand(momentum: float, state: int, dtype: torch.dtype, size: int) -> None:
    model = nn.Conv2d(3, 4, 3, padding=1)
    work = count(model, IMAGES, trained(model, momentum), dtype)
    weights = (4 * 27 + 4) * 4
    outputs = 2 * 4 * 8 * 8 * size
    assert work.flops == 2 * FORWARD  # forward, and the gradient of the weights: images need none
    assert work.bytes == 2 * (weights + weights + state + outputs) + 2 * 3 * 8 * 8


def test_what_follows_a_layer_moves_nothing_and_the_next_layer_passes_a_gradient_back() -> None:
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
    model = nn.Sequential(first, nn.BatchNorm2d(4, affine=False), nn.ReLU(inplace=True), nn.MaxPool2d(2), second)
    work = count(model, IMAGES, trained(model, 0.0), torch.float32)
    weights = (112 + 20) * 4
    outputs = 2 * 4 * (8 * 8 + 4 * 4) * 4
    assert work.flops == 2 * FORWARD + 3 * (2 * (2 * 4 * 4) * 4 * 4)
    assert work.bytes == 2 * (weights + weights + outputs) + 2 * 3 * 8 * 8


def test_counting_leaves_the_model_as_it_is() -> None:
    model = nn.Conv2d(3, 4, 3)
    optimizer = trained(model, 0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    count(model, IMAGES, optimizer, torch.float32)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_speed_stands_under_the_lower_ceiling() -> None:
    work = Work(flops=8_000_000, bytes=4_000)
    by_flops = roofline_row(work, Ceilings(flops=1e9, bytes=1e9), batch=4, images_per_second=250)
    assert by_flops["by_flops"] == 500
    assert by_flops["by_bytes"] == 1e6
    assert by_flops["fraction"] == 0.5
    assert roofline_row(work, Ceilings(flops=1e15, bytes=1e6), batch=4, images_per_second=250)["fraction"] == 0.25


@pytest.mark.parametrize(("side", "copied"), [(16, 100), (64, 4000)])
def test_ceilings_are_the_work_done_by_the_second(side: int, copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock by which whatever is timed takes half a second: a real one would time what else the machine does."""
    ticks = itertools.count(0.0, 0.5)
    monkeypatch.setattr(roofline, "now", lambda device: next(ticks))
    found = measure(torch.device("cpu"), torch.float32, side=side, copied=copied)
    assert found == Ceilings(flops=2 * side**3 / 0.5, bytes=2 * copied / 0.5)


def test_a_training_has_one_row_whatever_it_is_compared_with() -> None:
    split = Split(torch.randint(0, 256, (8, 8, 8, 3), dtype=torch.uint8), torch.arange(8) % 2, ("",) * 8)
    data = ClassificationData("noise", ("a", "b"), Canvas(8, 8), split, split, split)
    network = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten())
    model = Normalized(network, torch.zeros(3), torch.ones(3))
    trainer = ClassifierTrainer(model, data, sgd(model), schedule=Constant(), batch_size=4)
    trainer.train(1)
    rooflines = Rooflines()
    rooflines.ceilings[trainer.device, trainer.dtype] = Ceilings(1e9, 1e9)
    for target, speed in (("conv", 100.0), ("conv", 50.0), ("conv, compiled", 100.0)):
        rooflines.add({"target": target, "device": "cpu"}, trainer, speed)
    assert [(row["target"], row["images_per_second"]) for row in rooflines.rows] == [
        ("conv", 100.0),
        ("conv, compiled", 100.0),
    ]
    assert rooflines.rows[0]["batch"] == 4
    assert rooflines.rows[0]["precision"] == "float32"
    assert rooflines.rows[0]["mflop"] == pytest.approx(2 * 2 * 2 * 3 * 64 / 1e6)
