"""Every run of a race is a training from its beginning, and the report says how fast and how good each was."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay_research.config.overrides import compose_settings
from assay_research.experiment.trainers import make_trainer
from benchmarks.races import speedrun

TINY = ["epochs=2", "batch_size=8", "device=cpu", "augment.flip=true"]
IMAGES = {"train": 12, "test": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, one of dark and one of bright images."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in IMAGES.items():
        for low, name in ((0, "dark"), (128, "bright")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                image = random.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(image).save(folder / part / name / f"{i}.png")
    return folder


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> Iterator[list[str]]:
    """A command line; afterwards signals are handled as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield ["--data", str(folder), "--report", str(tmp_path / "bench"), *TINY]
    signal.signal(signal.SIGTERM, before)


def test_a_race_reports_each_run_and_whether_the_target_is_reached(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speedrun.main([*command, "--runs", "2", "--target", "0"])
    (ours,) = json.loads((tmp_path / "bench" / "bench.json").read_text())["races"]
    assert ours["images"] == 2 * (IMAGES["train"] - 1)
    assert len(ours["runs"]) == 2
    assert all(0 < run["seconds"] < run["scored"] and 0 <= run["top1"] <= 1 for run in ours["runs"])
    assert "0.0000, reached" in capsys.readouterr().out


def test_a_run_is_the_training_of_its_seed_whatever_ran_before(folder: Path) -> None:
    overrides = [*TINY, *speedrun.train_data(folder), "ema_decay=0.9", "optim.momentum=0.9"]
    settings = compose_settings(overrides)
    trainer = make_trainer(settings)
    for _ in speedrun.race(settings, trainer, runs=3):
        pass
    alone = make_trainer(compose_settings([*overrides, "seed=2"]))
    alone.train(settings.epochs)
    for raced, expected in ((trainer.model, alone.model), (trainer.result, alone.result)):
        for name, value in expected.state_dict().items():
            assert torch.equal(value, raced.state_dict()[name]), name


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--airbench", "missing.py"], "there is no file 'missing.py'"),
        (["epoch=2"], "did you mean 'epochs'"),
        (["optim.lr=1e30"], "the run of seed 0 ended after epoch 1: diverged"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(command: list[str], more: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=f"speedrun: .*{said}"):
        speedrun.main([*command, "--runs", "1", *more])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: the script could run")
def test_without_cuda_the_script_is_refused_before_anything_is_trained(command: list[str], tmp_path: Path) -> None:
    script = tmp_path / "airbench94_muon.py"
    script.touch()
    with pytest.raises(SystemExit, match="the script needs CUDA"):
        speedrun.main([*command, "--airbench", str(script)])
    assert not (tmp_path / "bench").exists()


def test_a_folder_without_splits_is_refused(command: list[str], folder: Path) -> None:
    command[1] = str(folder / "train")
    with pytest.raises(SystemExit, match="has no folders train/ and test/"):
        speedrun.main(command)
