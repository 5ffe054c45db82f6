"""The loop learns to detect, and goes on from any step as if it had never stopped."""

from dataclasses import replace

import pytest
import torch

from assay_research.data.box_augment import BoxAugment
from assay_research.data.detection import DetectionData
from assay_research.models.detectors import small_retinanet
from assay_research.models.normalized import Normalized
from assay_research.optim import adamw
from assay_research.schedules import OneCycle
from assay_research.tasks.detection.trainer import DetectorTrainer
from assay_research.training.loop import INTERRUPTED
from tests.research.detectors import data as squares
from tests.research.tasks.classification.test_trainer import assert_same, comparable

AUGMENT = BoxAugment(flip=True, flip_vertical=True, scale=[0.9, 1.1], brightness=0.1)


@pytest.fixture(scope="module")
def data() -> DetectionData:
    return squares()


def make(data: DetectionData, **options) -> DetectorTrainer:
    torch.manual_seed(0)
    network = small_retinanet(2, [16, 16, 32, 32], [1, 1, 1, 1], 16, 1, [16, 24, 48, 96])
    model = Normalized(network, torch.zeros(3), torch.ones(3))
    options = {"schedule": OneCycle(), "batch_size": 8, "settings": AUGMENT} | options
    return DetectorTrainer(model, data, adamw(model, lr=0.01), **options)


def test_learns_to_find_squares(data):
    trainer = make(data)
    trainer.train(12)
    first, best = trainer.history[0], trainer.best
    assert best["val_map50"] > 0.8
    assert best["val_loss"] < 0.5 * first["val_loss"]
    assert trainer.history[-1]["train_loss"] < 0.5 * first["train_loss"]
    assert best["val_map"] == max(record["val_map"] for record in trainer.history)


def test_interrupted_training_ends_where_the_uninterrupted_one_ends_to_the_bit(data):
    whole = make(data)
    whole.train(2)
    parts, steps = make(data), iter(range(100))
    assert parts.train(2, interrupted=lambda: next(steps) == 8) == INTERRUPTED
    resumed = make(data)
    resumed.load_state_dict(parts.state_dict())
    resumed.train(1)
    assert_same(comparable(resumed), comparable(whole))


def test_validation_leaves_weights_statistics_and_random_numbers_alone(data):
    trainer = make(data)
    trainer.train(1)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    numbers = torch.get_rng_state()
    first = trainer.validate()
    assert trainer.validate() == first
    assert torch.equal(torch.get_rng_state(), numbers)
    assert_same(dict(trainer.model.state_dict()), before)


def test_ignored_objects_are_no_targets_and_not_held_against_the_detector(data):
    hidden = replace(data.train, ignored=tuple(torch.ones_like(each) for each in data.train.ignored))
    trainer = make(replace(data, train=hidden))
    _, targets = next(iter(trainer.parts(torch.arange(8))))
    assert [len(target["boxes"]) for target in targets] == [0] * 8
    assert torch.isfinite(torch.tensor(trainer.train_batch(torch.arange(8)))).all()


def test_accumulated_parts_see_the_images_that_the_whole_batch_sees(data):
    whole, parts = make(data), make(data, accumulate=2)
    together = list(parts.parts(torch.arange(8)))
    (images, targets), *rest = whole.parts(torch.arange(8))
    assert not rest
    assert torch.equal(torch.cat([each for each, _ in together]), images)
    assert [len(t["boxes"]) for _, part in together for t in part] == [len(t["boxes"]) for t in targets]


def test_the_average_of_the_weights_is_what_is_judged(data):
    trainer = make(data, ema_decay=0.5)
    trainer.train(1)
    assert trainer.result is not trainer.model
    assert trainer.plain.model is trainer.result
