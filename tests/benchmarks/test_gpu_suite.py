"""The suite's list of steps hangs together, claims no GPU it has not, and reads what each step leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay_research.overrides import EVERYTHING, studies
from benchmarks import gpu_suite, outcomes
from benchmarks.gpu_suite import Site

ROOT = Path(__file__).parents[2]


def site(tmp_path: Path, device: str, data: bool = True) -> Site:
    return Site(tmp_path / "gpu", tmp_path / "pictures" if data else None, device, device)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("data", [False, True])
def test_every_step_comes_after_those_it_needs(tmp_path: Path, device: str, data: bool) -> None:
    seen: set[str] = set()
    for step in gpu_suite.steps(site(tmp_path, device, data)):
        assert set(step.needs) <= seen
        assert step.name not in seen
        seen.add(step.name)
    assert ("train tinyvgg_a_36" in seen) == data


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
    assert {step.name for step in found} == {f"study {name}" for name in studies() if name != EVERYTHING}
    for step in found:
        assert step.resumable
        command = step.command(True)
        assert "resume=auto" in command
        assert f"runs={here.out / 'runs'}" in command
        assert f"data.root='{here.data}'" in command


def test_the_script_is_raced_where_it_is_given(tmp_path: Path) -> None:
    def command(script: Path | None) -> list[str | Path]:
        here = Site(tmp_path / "gpu", tmp_path / "pictures", "cuda", "cuda", script)
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


def test_accuracy_is_read_from_predictions_on_class_folders() -> None:
    lines = [{"path": f"a/{truth}/1.png", "label": label} for truth, label in (("cat", "cat"), ("cat", "dog"))]
    output = "a warning\n" + "".join(json.dumps(line) + "\n" for line in lines)
    assert outcomes.accuracy(output) == {"pictures": 2, "top-1": 0.5}


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


def test_a_race_is_read_from_its_report(tmp_path: Path) -> None:
    runs = [{"top1": 0.93, "seconds": 2.0}, {"top1": 0.95, "seconds": 3.0}]
    (tmp_path / "bench.json").write_text(json.dumps({"races": [{"what": "ours", "runs": runs}]}))
    assert outcomes.races(tmp_path) == {"ours": "top-1 0.9400 ± 0.0141 in 2.500 ± 0.707 s, 2 runs"}


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_suite", "--data", tmp_path, "--out", tmp_path / "gpu"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert f"'{tmp_path}' has no folders train/ and test/" in ran.stderr
    assert not (tmp_path / "gpu").exists()
