"""A sweep survives a member that fails, can be gone on with, and ends with one report."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assay_research.commands.sweep import arguments
from assay_research.errors import ConfigError
from assay_research.reports.curves import COLOURS
from tests.research.pixels import ink

SMALL = ["epochs=1", "model=tinyvgg_a"]


def sweep(folder: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay_research.commands.train", *typed]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Three seeds, and for each a batch size that cannot be."""
    folder = tmp_path_factory.mktemp("swept")
    return folder, sweep(folder, "--multirun", *SMALL, "seed=0,1", "batch_size=0,64")


def test_the_others_are_trained_when_one_fails(swept):
    folder, result = swept
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert len(list(folder.glob("runs/digits/*/summary.json"))) == 2
    assert result.stdout.count("\nfailed: expected batch_size >= 1") == 2
    assert "2 of 4 trained; report: runs/sweeps/" in result.stdout


def test_it_ends_with_a_table_a_json_and_a_figure(swept):
    (folder,) = swept[0].glob("runs/sweeps/*")
    assert ink(folder / "learning_curves.png", COLOURS[0]) > 20
    assert ink(folder / "learning_curves.png", COLOURS[1]) == 0  # two seeds of one setting, and what failed has none
    text = (folder / "results.md").read_text()
    assert "failed: expected batch_size >= 1" in text
    members = json.loads((folder / "results.json").read_text())["members"]
    assert [bool(member["summary"]) for member in members] == [False, True, False, True]
    assert [member["experiment"] for member in members] == ["batch_size=0", "batch_size=64"] * 2


def test_gone_on_with_it_trains_only_what_is_not_finished(swept):
    folder, _ = swept
    result = sweep(folder, "--multirun", *SMALL, "seed=0,1,2", "batch_size=64", "resume=auto")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("is finished") == 2
    assert "Mean over seeds" in result.stdout
    assert len(re.findall(r"\| epochs=1 model=tinyvgg_a batch_size=64 resume=auto +\|", result.stdout)) == 4
    assert len(list(folder.glob("runs/digits/*/summary.json"))) == 3


def test_an_interrupted_member_is_gone_on_with(tmp_path):
    result = sweep(tmp_path, *SMALL, "epochs=2")
    assert result.returncode == 0, result.stderr
    (run,) = tmp_path.glob("runs/digits/*")
    (run / "summary.json").unlink()  # as if it had been killed before the end
    result = sweep(tmp_path, "--multirun", *SMALL, "epochs=2", "seed=0", "resume=auto")
    assert result.returncode == 0, result.stderr
    assert [run] == list(tmp_path.glob("runs/digits/*"))
    assert (run / "summary.json").is_file()


def test_joblib_trains_members_side_by_side(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    result = sweep(tmp_path, "--multirun", *SMALL, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("runs/digits/*/summary.json"))) == 2
    assert "2 of 2 trained" in result.stdout


def test_a_study_becomes_a_sweep_over_its_experiments():
    typed, folder = arguments(["experiment=tinyvggcifar10", "epochs=3", "runs=elsewhere"])
    assert typed[0] == "--multirun"
    assert "experiment=tinyvggcifar10/plain,tinyvggcifar10/v4,tinyvggcifar10/v4_twin" in typed
    assert "epochs=3" in typed
    assert folder is not None
    assert folder.parent == Path("elsewhere", "tinyvggcifar10")


def test_several_studies_become_one_sweep():
    typed, folder = arguments(["experiment=tinyvggcifar10,digits,tinyvggcifar10", "epochs=3"])
    assert "experiment=tinyvggcifar10/plain,tinyvggcifar10/v4,tinyvggcifar10/v4_twin,digits" in typed
    assert folder is not None
    assert folder.parent == Path("runs", "sweeps")


def test_an_early_end_is_an_end_and_more_epochs_are_not(tmp_path):
    """Of a training that diverged, and of one that had no patience left."""
    for stop in (["optim.lr=1e30"], ["optim.lr=0", "stopping.patience=1"]):
        typed = [*SMALL, "epochs=3", "figures=false", f"name={len(stop)}", *stop, "resume=auto"]
        assert sweep(tmp_path, *typed).returncode == 0
        (run,) = tmp_path.glob(f"runs/{len(stop)}/*")
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        again = sweep(tmp_path, *typed)
        assert again.stdout == f"run {run.relative_to(tmp_path)} is finished\n", again.stderr
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    result = sweep(tmp_path, *typed, "stopping.patience=0")
    assert "all 3 epochs done" in result.stdout, result.stderr
    assert list(tmp_path.glob("runs/2/*")) == [run]


def test_torchrun_is_not_for_sweeps(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = sweep(tmp_path, "--multirun", *SMALL, "seed=0,1")
    assert result.returncode == 1
    assert "torchrun trains one model with several processes, but this is a sweep" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_config_of_a_sweep_is_not_shown():
    with pytest.raises(ConfigError, match="try experiment=tinyvggcifar10/plain --cfg job"):
        arguments(["experiment=tinyvggcifar10", "--cfg", "job"])


def test_one_training_stays_one():
    typed = ["experiment=tinyvggcifar10/v4", "epochs=3"]
    assert arguments(typed) == (typed, None)
