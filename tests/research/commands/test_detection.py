"""`assay-train` trains a detector, `assay-evaluate` says where it errs, and neither needs the user to know its task."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from assay_deploy.errors import AssayError
from assay_research.commands import evaluate
from assay_research.config.overrides import compose_settings
from assay_research.config.schema import EvaluationOptions
from assay_research.experiment.experiment import Experiment
from assay_research.experiment.trainers import make_trainer
from assay_research.runs.run import Run
from tests.research.detectors import FEW, OVERRIDES


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of two epochs, both kept."""
    folder = tmp_path_factory.mktemp("runs")
    experiment = Experiment.compose(*OVERRIDES, *FEW, "figures=true", "epochs=2", "save_every=1", f"runs={folder}")
    experiment.finish(experiment.train(2, progress=False))
    assert experiment.run is not None
    return experiment.run


def test_a_run_of_a_detector_holds_what_a_run_holds(run):
    summary = run.summary()
    assert {"test_map", "test_map50", "test_map_tta", "test_map50_tta", "val_map", "val_map50"} < summary.keys()
    assert summary["n"]["train"] > summary["n"]["test"] > 0
    assert [record["epoch"] for record in map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())] == [
        1,
        2,
    ]
    assert {path.name for path in (run.folder / "figures").iterdir()} == {"learning_curves.png", "predictions.png"}
    assert "mAP" in summary["fit"]


def test_evaluate_says_where_a_checkpoint_errs(run, capsys):
    path = evaluate.evaluate(run, EvaluationOptions())
    assert path == run.folder / "evaluation" / "best-val.json"
    found = json.loads(path.read_text())
    assert set(found["scores"]) == {"plain", "tta"}
    assert found["scores"]["plain"]["map50"] == pytest.approx(
        max(json.loads(line)["val_map50"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()), abs=0.05
    )
    assert len(found["errors"]["confusion"]) == 3
    assert path.with_suffix(".md").is_file()
    assert "mAP" in capsys.readouterr().out


def test_evaluate_measures_every_epoch(run):
    found = json.loads(evaluate.evaluate(run, EvaluationOptions(checkpoint="all", fuse="nms")).read_text())
    assert [each["epoch"] for each in found["checkpoints"][:2]] == [1, 2]
    assert found["variants"]["tta"].endswith("nms")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EvaluationOptions(dense=8), "dense= is an option for a classifier"),
        (EvaluationOptions(fuse="mean"), "there is no such fusion"),
        (EvaluationOptions(iou=1.5), "iou must be between 0 and 1"),
        (EvaluationOptions(views=[{"crop": "top_left"}]), "without a crop"),
    ],
)
def test_evaluate_refuses_what_no_detector_does(run, options, said):
    with pytest.raises(AssayError, match=said):
        evaluate.evaluate(run, options)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("augment=images", "a detector takes augment=boxes"),
        ("label_smoothing=0.1", "label_smoothing=0.1 is for classifiers"),
        ("model=tinyvgg_a", "do not fit each other"),
        ("data=digits", "a classifier takes augment=images"),
        ("views=[{crop: top_left}]", "without a crop"),
    ],
)
def test_what_does_not_go_together_is_said_before_training(override, said):
    few = () if override == "data=digits" else FEW
    overrides = [each for each in OVERRIDES if not (override.startswith("model=") and each.startswith("model."))]
    with pytest.raises(AssayError, match=said):
        make_trainer(compose_settings([*overrides, *few, override]))


@pytest.mark.slow
def test_a_killed_training_resumed_ends_where_the_uninterrupted_one_ends(tmp_path):
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "assay_research.commands.train", *OVERRIDES, *FEW, *arguments]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command("epochs=4", f"runs={whole}"), check=True, env=environment, cwd=tmp_path)
    process = subprocess.Popen(command("epochs=4", f"runs={killed}"), env=environment, cwd=tmp_path)
    while len(list(killed.glob("*/*/checkpoints/last.pt"))) == 0:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run,) = (path.parent for path in killed.glob("*/*/config.yaml"))
    resume = [sys.executable, "-m", "assay_research.commands.train", f"resume={run}"]
    subprocess.run(resume, check=True, env=environment, cwd=tmp_path)
    (other,) = (path.parent for path in whole.glob("*/*/config.yaml"))
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
