"""The loop learns, stops for a reason, and goes on from any step as if it had never stopped."""

import math

import pytest
import torch
from torch import nn

from assay_deploy.images.canvas import Canvas
from assay_research.config.schema import Stopping
from assay_research.data.augment import Augment
from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import CheckpointError, ConfigError
from assay_research.models.normalized import Normalized
from assay_research.optim import adam, adamw, muon, sgd
from assay_research.schedules import Constant, OneCycle, Plateau
from assay_research.tasks.classification.trainer import ClassifierTrainer
from assay_research.training.loop import INTERRUPTED

AUGMENT = Augment(flip=True, scale=[8, 10], brightness=0.2, contrast=0.2, saturation=0.2)


def bars(n: int, seed: int) -> Split:
    """Images of 8x8 pixels with a bright horizontal (0) or vertical (1) bar in noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 80, (n, 8, 8, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 2
    for image, label, place in zip(images, labels, torch.randint(1, 7, (n,), generator=generator), strict=True):
        (image if label == 0 else image.transpose(0, 1))[place] = 220
    return Split(images, labels, tuple(str(i) for i in range(n)))


@pytest.fixture(scope="module")
def data() -> ClassificationData:
    return ClassificationData("bars", ("across", "down"), Canvas(8, 8), bars(100, 1), bars(40, 2), bars(40, 3))


def make(data: ClassificationData, *, optimizer=sgd, lr=0.05, plain=False, **options) -> ClassifierTrainer:
    """A small network, or a plain one: without BatchNorm and Dropout."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Identity() if plain else nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.0 if plain else 0.2),
        nn.Linear(32, 2),
    )
    model = Normalized(network, torch.zeros(3), torch.ones(3))
    options = {"schedule": OneCycle(), "batch_size": 16, "settings": AUGMENT} | options
    return ClassifierTrainer(model, data, optimizer(model, lr=lr), **options)


def assert_same(first: object, second: object, where: str = "state") -> None:
    """Equal to the bit, all the way down."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif not (isinstance(first, float) and math.isnan(first) and math.isnan(second)):
        assert first == second, where


def comparable(trainer: ClassifierTrainer) -> dict:
    state = trainer.state_dict()
    return {key: value for key, value in state.items() if key not in ("seconds", "epoch_seconds")}


def test_learns_to_tell_bars_apart(data):
    trainer = make(data)
    assert trainer.train(15) == "all 15 epochs done"
    assert trainer.best["val_top1"] > 0.95
    assert trainer.history[-1]["train_loss"] < trainer.history[0]["train_loss"]
    assert [record["epoch"] for record in trainer.history] == list(range(1, 16))


@pytest.mark.parametrize(
    ("optimizer", "schedule", "options"),
    [(sgd, OneCycle, {"ema_decay": 0.9, "clip_grad_norm": 1.0}), (adam, Plateau, {"label_smoothing": 0.1})],
)
@pytest.mark.parametrize("stops", [[1], [6], [7, 8], [3, 4, 13, 17]])
def test_interrupted_training_goes_on_to_the_bit(data, tmp_path, optimizer, schedule, options, stops):
    """Stopped after these steps (an epoch has 6), each time gone on with in a new trainer, through a file."""
    whole = make(data, optimizer=optimizer, schedule=schedule(), **options)
    whole.train(3)

    state, steps = None, 0
    for stop in [*stops, None]:
        torch.manual_seed(99)  # what a new process would have
        part = make(data, optimizer=optimizer, schedule=schedule(), **options)
        if state is not None:
            part.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))

        def interrupted(stop=stop) -> bool:
            nonlocal steps
            steps += 1
            return steps == stop

        reason = part.train(3 - part.epoch, interrupted=interrupted)
        assert (reason == INTERRUPTED) == (stop is not None)
        state = part.state_dict()
        torch.save(state, tmp_path / "state.pt")
    assert_same(comparable(part), comparable(whole))


def test_training_on_equals_one_training_under_a_constant_schedule(data):
    whole = make(data, schedule=Constant())
    whole.train(3)
    parts = make(data, schedule=Constant())
    parts.train(1)
    parts.train(2)
    assert_same(comparable(parts), comparable(whole))


def test_another_seed_is_another_training(data):
    first, second = make(data, seed=0), make(data, seed=1)
    first.train(1)
    second.train(1)
    assert first.history[0]["train_loss"] != second.history[0]["train_loss"]


def test_stops_when_validation_loss_stands_still(data):
    trainer = make(data, lr=1e-9, stopping=Stopping(patience=2, min_delta=10.0))
    assert trainer.train(20) == "validation loss has not improved by 10.0 for 2 epochs"
    assert trainer.epoch == 3


def test_stops_when_the_loss_is_not_finite(data):
    trainer = make(data, lr=1e30, schedule=Constant())
    assert trainer.train(20).startswith("diverged: the loss is not finite after epoch")
    assert trainer.epoch < 20
    assert trainer.best_epoch >= 1


def test_averaged_weights_are_what_is_evaluated(data):
    trainer = make(data, ema_decay=0.5)
    trainer.train(1)
    assert trainer.result is not trainer.model
    weight, averaged = trainer.model.network[0].weight, trainer.result.network[0].weight
    assert not torch.equal(weight, averaged)


def test_statistics_of_the_training_images_travel_with_the_weights(data):
    trainer = make(data)
    pixels = data.train.images.double() / 255
    assert trainer.model.mean.flatten() == pytest.approx(pixels.mean((0, 1, 2)), abs=1e-5)
    assert trainer.model.std.flatten() == pytest.approx(pixels.std((0, 1, 2), correction=0), abs=1e-5)
    assert {"mean", "std"} <= trainer.model.state_dict().keys()


def test_best_epoch_is_the_one_with_the_highest_validation_accuracy(data):
    trainer = make(data)
    trainer.train(6)
    highest = max(record["val_top1"] for record in trainer.history)
    assert trainer.best["val_top1"] == highest


def test_weights_decay_but_biases_do_not(data):
    trainer = make(data)
    for builder in (sgd, adamw, muon):
        decayed, free = builder(trainer.model, weight_decay=0.1).param_groups  # Muon leaves both ends to AdamW
        assert decayed["weight_decay"] == 0.1
        assert free["weight_decay"] == 0
        assert {p.ndim for p in free["params"]} == {1}
        assert len(decayed["params"]) + len(free["params"]) == len(list(trainer.model.parameters()))


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(data):
    whole, parts = make(data, plain=True), make(data, plain=True, accumulate=4)
    whole.train(2)
    parts.train(2)
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[key], value, rtol=1e-4, atol=1e-6, msg=key)
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.slow
def test_compiled_training_is_the_same_training(data):
    """Compiling takes a C++ compiler and most of a minute."""
    plain, compiled = make(data, plain=True), make(data, plain=True, compile_mode="default")
    plain.train(2)
    compiled.train(2)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[key], value, rtol=1e-3, atol=1e-5, msg=key)


def test_other_data_are_refused(data):
    other = ClassificationData("bars", data.classes, data.canvas, bars(100, 7), data.val, data.test)
    with pytest.raises(CheckpointError, match="data set 'bars' is not the one"):
        make(other).load_state_dict(make(data).state_dict())


def test_checkpoint_of_another_model_is_refused(data):
    state = make(data).state_dict()
    del state["model"]["network.0.weight"]
    with pytest.raises(CheckpointError, match=r"does not fit[^$]*network\.0\.weight"):
        make(data).load_state_dict(state)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"label_smoothing": 1.0}, {"ema_decay": 1.5}])
def test_impossible_settings_are_refused(data, options):
    with pytest.raises(ConfigError, match=r"expected .*, got"):
        make(data, **options)
