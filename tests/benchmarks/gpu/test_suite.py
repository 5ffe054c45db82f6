"""The suite's list of steps hangs together, claims no GPU it has not, and reads what each step leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay_research.config.files import EVERYTHING, NOT_DOWNLOADED, studies
from assay_research.config.overrides import compose
from benchmarks.gpu import outcomes
from benchmarks.gpu import suite as gpu_suite
from benchmarks.gpu.stepwise import Step
from benchmarks.gpu.suite import Site

ROOT = Path(__file__).parents[3]


def site(tmp_path: Path, device: str, data: bool = True) -> Site:
    images, cells = (tmp_path / name if data else None for name in ("images", "cells"))
    return Site(tmp_path / "gpu", images, device, device, bccd=cells)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("data", [False, True])
def test_every_step_comes_after_those_it_needs(tmp_path: Path, device: str, data: bool) -> None:
    seen: set[str] = set()
    for step in gpu_suite.steps(site(tmp_path, device, data)):
        assert set(step.needs) <= seen
        assert step.name not in seen
        seen.add(step.name)
    assert ("train tinyvgg_a_36" in seen) == ("train bccd_small" in seen) == data
    assert "train diatoms_smoke" in seen


def test_no_step_claims_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    assert all(step.skip for step in gpu_suite.steps(site(tmp_path, "cpu")) if "cuda" in step.devices)


def test_on_a_gpu_nothing_asks_for_less_by_accident(tmp_path: Path) -> None:
    steps = {step.name: step for step in gpu_suite.steps(site(tmp_path, "cuda"))}
    assert not any(step.skip for step in steps.values())
    train = steps["train digits"].command(False)
    assert "device=cuda" in train
    assert steps["train digits"].devices == ("cuda",)
    for name in ("doctor digits", "predict digits", "predict digits tta"):
        command = steps[name].command(False)
        assert command[command.index("--provider") + 1] == "cuda"
        assert steps[name].devices == ("cuda",)
    for how, name in (("eager", "bench training"), ("reduce-overhead", "bench training reduce-overhead")):
        command = [str(part) for part in steps[name].command(False)]
        assert "--quick" not in command
        assert command[command.index("--device") + 1] == "cuda"
        assert command[command.index("-k", 3) + 1] == how
        assert steps[name].devices == ("cuda",)


def test_every_study_is_trained_and_goes_on(tmp_path: Path) -> None:
    here = site(tmp_path, "cuda")
    found = [step for step in gpu_suite.steps(here) if step.name.startswith("study ")]
    assert {step.name for step in found} == {
        f"study {name}" for name in studies().keys() - {EVERYTHING, *NOT_DOWNLOADED}
    }
    for step in found:
        assert step.resumable
        command = step.command(True)
        assert "resume=auto" in command
        assert f"runs={here.out / 'runs'}" in command
        assert f"data.root='{here.data}'" in command


def detectors(here: Site) -> dict[str, Step]:
    """The steps that train a detector, by experiment."""
    steps = {step.name: step for step in gpu_suite.steps(here)}
    return {each: steps[f"train {each.replace('/', '_')}"] for each in ("diatoms_smoke", "diatoms", *studies()["bccd"])}


def test_every_detector_is_trained_and_goes_on(tmp_path: Path) -> None:
    here = site(tmp_path, "cuda")
    for experiment, step in detectors(here).items():
        assert step.resumable
        assert step.devices == ("cuda",)
        overrides = [str(part) for part in step.command(False)[3:]]
        assert not any(each.startswith("epochs=") for each in overrides)
        assert (f"data.root='{here.bccd}'" in overrides) == experiment.startswith("bccd/")
        config = compose(overrides)
        assert (config.name, config.device) == (step.name.removeprefix("train "), "cuda")
        checkpoint = here.out / "runs" / config.name / "2026-01-01_00-00-00" / "checkpoints" / "last.pt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        assert step.command(True)[-1] == f"resume='{checkpoint.parents[1]}'"


def test_without_a_gpu_small_detectors_take_an_epoch_and_others_none(tmp_path: Path) -> None:
    for experiment, step in detectors(site(tmp_path, "cpu")).items():
        small = experiment in ("diatoms_smoke", "bccd/small")
        assert bool(step.skip) != small
        assert step.devices == ("cpu" if small else "cuda",)
        assert "epochs=1" in step.command(False)


def test_the_script_is_raced_where_it_is_given(tmp_path: Path) -> None:
    def command(script: Path | None) -> list[str | Path]:
        here = Site(tmp_path / "gpu", tmp_path / "images", "cuda", "cuda", script)
        (race,) = (step for step in gpu_suite.steps(here) if step.name == "speedrun")
        return list(race.command(False))

    assert command(tmp_path / "theirs.py")[-2:] == ["--airbench", tmp_path / "theirs.py"]
    assert "--airbench" not in command(None)


def test_without_a_gpu_nothing_long_is_trained(tmp_path: Path) -> None:
    steps = {step.name: step for step in gpu_suite.steps(site(tmp_path, "cpu"))}
    assert all(steps[name].skip for name in steps if name.startswith(("study", "speedrun", "bench training ")))
    assert "--quick" in steps["bench training"].command(False)
    assert "epochs=1" in steps["train tinyvgg_a_36"].command(False)


def test_training_goes_on_with_a_run_that_has_a_checkpoint(tmp_path: Path) -> None:
    here = site(tmp_path, "cpu")
    (train,) = (step for step in gpu_suite.steps(here) if step.name == "train digits")
    anew = [str(part) for part in train.command(True)]
    assert any(part.startswith("epochs=") for part in anew)
    runs = [
        here.out / "runs" / "digits" / stamp / "checkpoints" for stamp in ("2026-01-01_00-00-00", "2026-01-02_00-00-00")
    ]
    for checkpoints in runs:
        checkpoints.mkdir(parents=True)
        (checkpoints / "last.pt").touch()
    assert train.command(True)[-1] == f"resume='{runs[1].parent}'"
    assert f"resume='{runs[1].parent}'" not in train.command(False)


def test_a_verdict_is_read_whatever_the_task_is_and_whether_it_ran(tmp_path: Path) -> None:
    kept = {"path": "a.onnx", "device": "cpu", "passed": True, "reasons": [], "differences": {"logits": 0.25}}
    kept["task"] = {"n": 9, "interval": [-0.5, 0.25], "flipped": [{}]}
    boxes = kept | {"path": "b.onnx", "differences": {"boxes": 0.5}, "task": {"n": 9, "unmatched": 2, "pairs": 4}}
    broken = kept | {"path": "c.onnx", "passed": False, "reasons": ["no kernel"], "differences": None, "task": None}
    (tmp_path / "parity.json").write_text(json.dumps({"artifacts": [kept, boxes], "left_out": [broken]}))
    assert outcomes.parity(tmp_path) == {
        "a.onnx on cpu": "logits differ by 0.25 on the probe; n 9, 1 flipped",
        "b.onnx on cpu": "boxes differ by 0.5 on the probe; n 9, unmatched 2, pairs 4",
        "c.onnx on cpu": "left out; no kernel",
    }


def test_accuracy_is_read_from_predictions_on_class_folders() -> None:
    lines = [{"path": f"a/{truth}/1.png", "label": label} for truth, label in (("cat", "cat"), ("cat", "dog"))]
    output = "a warning\n" + "".join(json.dumps(line) + "\n" for line in lines)
    assert outcomes.accuracy(output) == {"images": 2, "top-1": 0.5}


def test_no_predictions_are_no_accuracy() -> None:
    with pytest.raises(ValueError, match="no predictions"):
        outcomes.accuracy("a warning\n")


def test_a_study_is_read_from_its_newest_report(tmp_path: Path) -> None:
    summary = {"test_top1": 0.8, "test_top1_tta": 0.82, "seconds": 3.0, "commit": "abc"}
    for stamp, error in (("2026-01-01", "an old one"), ("2026-01-02", None)):
        members = [{"experiment": "good", "error": error, "summary": summary}]
        members.append({"experiment": "bad", "error": "no data", "summary": {}})
        (tmp_path / stamp).mkdir()
        (tmp_path / stamp / "results.json").write_text(json.dumps({"members": members}))
    scores = {"test_top1": 0.8, "test_top1_tta": 0.82, "seconds": 3.0}
    assert outcomes.results(tmp_path) == {"good": scores, "bad": "no data"}


def test_a_detectors_scores_are_read_from_its_summary(tmp_path: Path) -> None:
    scores = {"test_map50": 0.9, "test_map50_tta": 0.91, "test_map": 0.5, "test_map_tta": 0.6, "val_map50": 0.8}
    summary = scores | {"epochs": 4, "seconds": 10.0, "hardware": "a GPU"}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"commit": "abc"}))
    assert outcomes.scores(tmp_path) == summary | {"seconds an epoch": 2.5}


def test_a_race_is_read_from_its_report(tmp_path: Path) -> None:
    runs = [{"top1": 0.93, "seconds": 2.0}, {"top1": 0.95, "seconds": 3.0}]
    (tmp_path / "bench.json").write_text(json.dumps({"races": [{"what": "ours", "runs": runs}]}))
    assert outcomes.races(tmp_path) == {"ours": "top-1 0.9400 ± 0.0141 in 2.500 ± 0.707 s, 2 runs"}


@pytest.mark.parametrize(
    ("option", "lacks"), [("--data", "has no folders train/ and test/"), ("--bccd", "has no folder Annotations/")]
)
def test_a_folder_that_is_no_such_data_set_is_refused(tmp_path: Path, option: str, lacks: str) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.suite", option, tmp_path, "--out", tmp_path / "gpu"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert f"{option} '{tmp_path}' {lacks}" in ran.stderr
    assert not (tmp_path / "gpu").exists()
