"""The two questions before a long training are answered, and make no run."""

import math
import re
import sys

import pytest
import torch

from assay_research.commands import train
from assay_research.config.overrides import compose_settings
from assay_research.errors import ConfigError
from assay_research.experiment.probes import LEARNED, overfit_one_batch, rate_range
from assay_research.experiment.trainers import make_trainer
from assay_research.reports.palette import BLUE
from tests.research.pixels import ink


def run(monkeypatch, folder, *arguments):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["assay-train", *arguments])
    train.main()


def test_a_sound_network_learns_one_batch_by_heart(tmp_path, monkeypatch, capsys):
    run(monkeypatch, tmp_path, "probe=overfit_one_batch", "batch_size=32", "optim.lr=0.005")
    said = re.match(r"the model overfits one batch of 32 images: loss (\S+), top1 \S+ after", capsys.readouterr().out)
    assert said is not None
    assert float(said[1]) <= LEARNED  # as printed, rounded
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_learn_one_batch_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="the model did not overfit one batch of 16 images: loss 2"):
        run(monkeypatch, tmp_path, "probe=overfit_one_batch", "batch_size=16", "optim.lr=1e-12")


def test_one_batch_is_all_that_is_looked_at():
    trainer = make_trainer(compose_settings(["batch_size=32", "optim.lr=0.005"]))
    before = trainer.order()[:32].clone()
    trainer.train_split.images[torch.ones(len(trainer.train_split), dtype=torch.bool).index_fill(0, before, False)] = 0
    assert overfit_one_batch(trainer).learned


def test_rates_rise_until_the_loss_runs_away():
    found = rate_range(make_trainer(compose_settings(["batch_size=64"])), steps=120)
    ratios = [after / before for before, after in zip(found.rates[:-1], found.rates[1:], strict=True)]
    assert found.rates[0] == pytest.approx(1e-5)
    assert ratios == pytest.approx([(10 / 1e-5) ** (1 / 119)] * len(ratios))
    assert found.rates[-1] < 10
    assert all(map(math.isfinite, found.losses))
    assert min(found.losses) < found.losses[0]
    assert 1e-4 < found.suggested < 1


def test_a_range_that_cannot_be_is_one_message():
    with pytest.raises(ConfigError, match=r"probe=rate_range needs optim\.lr > 0"):
        rate_range(make_trainer(compose_settings(["optim.lr=0"])))
    trainer = make_trainer(compose_settings([]))
    next(trainer.model.parameters()).data.fill_(math.nan)
    with pytest.raises(ConfigError, match="the loss of the first step"):
        rate_range(trainer)


def test_the_range_is_a_figure(tmp_path, monkeypatch, capsys):
    run(monkeypatch, tmp_path, "probe=rate_range", "batch_size=64", "name=some/digits")
    (figure,) = tmp_path.glob("runs/rate_range/some/digits_*.png")
    assert ink(figure, BLUE) > 100
    assert "try optim.lr=0." in capsys.readouterr().out


def test_an_unknown_probe_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="there is no such probe; did you mean 'rate_range'"):
        run(monkeypatch, tmp_path, "probe=rate_rage")


def test_torchrun_is_not_for_probes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="probe=rate_range needs a single process; run it without torchrun"):
        run(monkeypatch, tmp_path, "probe=rate_range")
    assert list(tmp_path.iterdir()) == []
