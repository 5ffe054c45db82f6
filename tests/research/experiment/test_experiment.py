"""The library's face: train, go on, evaluate, go back, and lose nothing."""

import json
from pathlib import Path

import pytest

from assay_research.errors import CheckpointError, ConfigError
from assay_research.experiment.experiment import Experiment


def new(folder: Path, *overrides: str) -> Experiment:
    return Experiment.compose(f"runs={folder}", "figures=false", "save_every=1", *overrides)


def lines(experiment: Experiment) -> list[dict]:
    assert experiment.run is not None
    return [json.loads(line) for line in (experiment.run.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> Experiment:
    """Trained for two epochs, then for one more."""
    experiment = new(tmp_path_factory.mktemp("runs"))
    assert experiment.run is None
    assert experiment.train(epochs=2) == "all 2 epochs done"
    assert experiment.train(epochs=1) == "all 3 epochs done"
    return experiment


def test_train_goes_on_in_the_same_run(trainer):
    assert [record["epoch"] for record in lines(trainer)] == [1, 2, 3]
    assert trainer.run.config()["epochs"] == 3


def test_evaluate_measures_the_weights_as_they_are(trainer):
    scores = trainer.evaluate()
    assert scores.n == len(trainer.trainer.data.val)
    assert scores.top1 == pytest.approx(trainer.trainer.history[-1]["val_top1"], abs=0.01)  # bf16 on some CPUs
    assert list(scores.per_class) == list("0123456789")
    with pytest.raises(ConfigError, match="split must be train, val or test, got 'tset'"):
        trainer.evaluate("tset")


def test_going_on_from_an_earlier_epoch_begins_a_new_run_and_leaves_the_old_one(tmp_path):
    experiment = new(tmp_path)
    experiment.train(epochs=3)
    old = experiment.run
    before = {path: path.read_bytes() for path in old.folder.rglob("*") if path.is_file()}
    experiment.load_checkpoint(1)
    assert experiment.trainer.epoch == 1
    experiment.train(epochs=1)
    assert experiment.run.folder != old.folder
    assert [record["epoch"] for record in lines(experiment)] == [1, 2]
    assert {path.stem for path in (experiment.run.folder / "checkpoints").glob("*.pt")} == {
        *("best", "last", "epoch-0001", "epoch-0002")
    }
    assert {path: path.read_bytes() for path in old.folder.rglob("*") if path.is_file()} == before
    summary = experiment.finish("enough")
    assert summary["epochs"] == 2
    assert summary["fit"]


def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(trainer, tmp_path):
    with pytest.raises(CheckpointError, match=r"epoch-0009.*available: best, epoch-0001, epoch-0002, epoch-0003, last"):
        trainer.load_checkpoint(9)
    with pytest.raises(CheckpointError, match="there is no checkpoint yet: train first"):
        new(tmp_path).load_checkpoint("best")


def test_what_a_notebook_can_get_wrong_is_an_error_in_words(tmp_path):
    experiment = new(tmp_path)
    for epochs in (0, -1):
        with pytest.raises(ConfigError, match=f"expected 1 epoch or more to train, got {epochs}"):
            experiment.train(epochs=epochs)
    with pytest.raises(CheckpointError, match="there is no trained epoch: train first"):
        experiment.finish("enough")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="there is no 'epohcs'; did you mean 'epochs'"):
        new(tmp_path, "epohcs=3")
