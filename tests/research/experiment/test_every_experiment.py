"""Every experiment composes, and takes two steps on images of its own size."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay_research.config.files import EVERYTHING, NOT_DOWNLOADED, choices, studies
from assay_research.config.overrides import compose, compose_settings
from assay_research.experiment.trainers import make_trainer


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Five images of noise in each of ten classes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label in range(10):
        (folder / f"class{label}").mkdir()
        for i in range(5):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.png")
    return folder


DETECTORS = [
    each for each in choices("experiment") if each.partition("/")[0] in {"diatoms", "diatoms_smoke", *NOT_DOWNLOADED}
]


@pytest.mark.parametrize("experiment", [each for each in choices("experiment") if each not in DETECTORS])
def test_every_classifier_takes_two_steps(experiment, images):
    data = ["data=image_folder", f"data.root={images}", "data.val_fraction=0.2", "data.test_fraction=0.2"]
    settings = compose_settings(
        [f"experiment={experiment}", *data, "batch_size=15", "epochs=1", "device=cpu", "compile=null"]
    )
    trainer = make_trainer(settings)
    assert trainer.steps_per_epoch == 2
    trainer.train(1)
    assert trainer.epoch == 1


@pytest.mark.parametrize("experiment", DETECTORS)
def test_every_detector_takes_two_steps(experiment):
    few = [
        "data=diatoms_smoke",
        "data.images=20",
        "data.species=2",
        "data.height=64",
        "data.width=96",
        "data.field=40",
    ]
    pretrained = ["model.weights=none", "model.trainable=full"]  # nothing is downloaded
    settings = compose_settings(
        [f"experiment={experiment}", *few, *pretrained, "batch_size=2", "epochs=1", "device=cpu"]
    )
    trainer = make_trainer(settings)
    order = trainer.order()
    assert all(math.isfinite(trainer.train_batch(order[i : i + 2])[0]) for i in (0, 2))


def test_every_experiment_has_a_name_of_its_own():
    names = [compose([f"experiment={experiment}"]).name for experiment in choices("experiment")]
    assert len(set(names)) == len(names)


def test_twins_differ_in_what_their_study_is_about_alone():
    def differences(one: str, other: str) -> set[str]:
        first, second = (flat(compose([f"experiment={name}"])) for name in (one, other))
        return {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)} - {"name"}

    for member in "abcde":
        assert differences(f"vgg_no_bn/{member}", f"vgg_bn/{member}") == {"model.norm"}
        assert differences(f"vgg_lr/{member}_1e3", f"vgg_lr/{member}_1e4") == {"optim.lr"}
    assert differences("tinyvggcifar10/plain", "tinyvggcifar10/v4_twin") == {"model.norm"}


def flat(config, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {f"{prefix}{key}": value}
    return found


def test_a_study_is_a_folder_and_everything_is_all_of_them():
    found = studies()
    assert len(found["tinyvgg_table2"]) == 11
    assert {"vgg_no_bn", "vgg_bn", "vgg_lr"} < found.keys()
    assert {"resnet_depth", "cs231n_levels", "tinyvggcifar10", "augmentation"} < found.keys()
    assert len(found["bccd"]) == 9
    assert sorted(found[EVERYTHING]) == [
        each for each in choices("experiment") if "/" in each and each.partition("/")[0] not in NOT_DOWNLOADED
    ]
