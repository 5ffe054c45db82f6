"""`assay-runs` says what there is, and deletes what was asked for and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from assay_research.commands import runs
from assay_research.runs.inventory import delete
from assay_research.runs.run import Run


def make(
    place: Path,
    name: str = "digits",
    scores: tuple[float | None, ...] = (0.5, 0.8),
    planned: int = 2,
    summary: bool = True,
    age: int = 0,
) -> Path:
    """A run as a training leaves it, `age` seconds old."""
    config = OmegaConf.create(
        {"name": name, "epochs": planned, "data": {"_target_": "assay_research.data.digits.load", "size": 32}}
    )
    run = Run.create(place, config)
    run.write_metrics([{"epoch": i, "val_top1": float("nan") if s is None else s} for i, s in enumerate(scores, 1)])
    for checkpoint in ("best", "last", "epoch-0001", "epoch-0002"):
        run.checkpoint(checkpoint).write_bytes(b"\0" * 1000)
    if summary:
        document = {"name": name, "epochs": len(scores), "dataset": "digits", "test_top1": 0.75}
        (run.folder / "summary.json").write_text(json.dumps(document))
    (run.folder / ".lock").touch()
    os.utime(run.folder / "config.yaml", (2e9 - age, 2e9 - age))
    return run.folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert runs.main(["list", "--json", "--runs", str(folder)]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert isinstance(entries, list)
    return entries


def prune(folder: Path, *options: str) -> int:
    return runs.main(["prune", "--runs", str(folder), *options])


def test_list_tells_of_every_run_newest_first(tmp_path, capsys):
    done = make(tmp_path, age=2)
    open_ = make(tmp_path, name="study/member", scores=(0.25, None, 0.125), planned=9, summary=False, age=1)
    new = make(tmp_path, scores=(), summary=False)
    entries = listed(tmp_path, capsys)
    assert [entry["path"] for entry in entries] == [str(new), str(open_), str(done)]
    assert [entry["state"] for entry in entries] == ["unfinished", "unfinished", "finished"]
    assert [entry["best_val"] for entry in entries] == [None, 0.25, 0.8]
    assert [entry["test"] for entry in entries] == [None, None, 0.75]
    assert [(entry["epochs"], entry["planned"]) for entry in entries] == [(0, 2), (3, 9), (2, 2)]
    assert {entry["data"] for entry in entries} == {"digits"}
    assert entries[2]["bytes"] == sum(path.stat().st_size for path in done.rglob("*") if path.is_file())


def test_table_has_a_line_a_run_that_can_be_copied_into_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = make(tmp_path / "runs")
    assert runs.main(["list"]) == 0
    head, line, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "data", "epochs", "val", "test", "size", "state"]
    cells = line.split()
    assert cells[0] == str(run.relative_to(tmp_path))
    assert cells[1:5] == ["digits", "2/2", "0.8000", "0.7500"]
    assert cells[-1] == "finished"
    assert total.startswith("1 runs, ")


def test_a_run_that_was_given_more_epochs_is_unfinished_until_it_ends_again(tmp_path, capsys):
    run = make(tmp_path)
    Run(run).write_metrics([{"epoch": i, "val_top1": 0.5} for i in (1, 2, 3)])
    (entry,) = listed(tmp_path, capsys)
    assert (entry["state"], entry["test"]) == ("unfinished", None)


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["{", "3", "[1]", "data: 3\nepochs: many", '{"val_top1": "x"}', "\0"])
def test_a_damaged_run_is_listed_all_the_same(tmp_path, capsys, name, content):
    run = make(tmp_path)
    (run / name).write_text(content)
    (entry,) = listed(tmp_path, capsys)
    assert entry["path"] == str(run)
    assert runs.main(["list", "--runs", str(tmp_path)]) == 0


def test_a_run_that_trains_is_shown_as_running_and_never_deleted(tmp_path, capsys):
    run = make(tmp_path, summary=False)
    before = files(tmp_path)
    holder = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print(flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", holder, run / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (entry,) = listed(tmp_path, capsys)
        assert entry["state"] == "running"
        assert prune(tmp_path, "--unfinished", "--keep-best", "1", "--checkpoints", "--yes") == 0
        assert "nothing to delete" in capsys.readouterr().out
        with pytest.raises(Exception, match="training"):  # even if it began after it was looked at
            delete(Run(run))
    assert files(tmp_path) == before
    assert prune(tmp_path, "--unfinished", "--yes") == 0
    assert not run.exists()


def test_prune_deletes_nothing_without_yes_and_tells_the_same_as_with_it(tmp_path, capsys):
    make(tmp_path, summary=False)
    keep = make(tmp_path)
    before = files(tmp_path)
    assert prune(tmp_path, "--unfinished", "--checkpoints") == 0
    shown = capsys.readouterr().out
    assert files(tmp_path) == before
    assert prune(tmp_path, "--unfinished", "--checkpoints", "--yes") == 0
    done = capsys.readouterr().out
    assert shown.splitlines()[:-1] == done.splitlines()[:-1]
    assert len(shown.splitlines()) == 3
    assert "would be deleted" in shown
    assert [path.name for path in keep.glob("checkpoints/*")] == ["best.pt"]


def test_bytes_that_go_are_those_that_went(tmp_path, capsys):
    make(tmp_path, summary=False)
    make(tmp_path)
    before = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    prune(tmp_path, "--unfinished", "--checkpoints", "--yes")
    after = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert capsys.readouterr().out.splitlines()[-1] == f"{runs.readable(before - after)} deleted"


def test_keep_best_keeps_that_many_of_each_experiment_and_all_that_are_unfinished(tmp_path):
    low, high, tie = (make(tmp_path, scores=(score,), age=age) for score, age in ((0.6, 0), (0.9, 9), (0.9, 1)))
    none = make(tmp_path, scores=(None,))
    other = make(tmp_path, name="other", scores=(0.1,))
    open_ = make(tmp_path, scores=(0.1,), summary=False)
    assert prune(tmp_path, "--keep-best", "1", "--yes") == 0
    assert [run.exists() for run in (low, high, tie, none, other, open_)] == [False, False, True, False, True, True]


def test_checkpoints_go_of_finished_runs_alone_and_best_stays(tmp_path):
    finished, unfinished, without = make(tmp_path), make(tmp_path, summary=False), make(tmp_path)
    (without / "checkpoints" / "best.pt").unlink()
    (finished / "checkpoints" / "last.pt.partial").touch()
    (finished / "checkpoints" / "notes.txt").touch()
    before = files(tmp_path)
    assert prune(tmp_path, "--checkpoints", "--yes") == 0
    gone = {f"{finished.relative_to(tmp_path)}/checkpoints/{name}.pt" for name in ("last", "epoch-0001", "epoch-0002")}
    assert before - files(tmp_path) == gone | {f"{finished.relative_to(tmp_path)}/checkpoints/last.pt.partial"}
    assert (unfinished / "checkpoints" / "last.pt").exists()


def test_experiment_folder_goes_with_its_last_run_and_the_runs_folder_stays(tmp_path):
    make(tmp_path / "runs", summary=False)
    assert prune(tmp_path / "runs", "--unfinished", "--yes") == 0
    assert files(tmp_path) == {"runs"}


def test_what_is_no_run_is_never_touched(tmp_path, capsys):
    """A sweep's folder, whose members are runs of their own, and anything else a person keeps there."""
    sweep = tmp_path / "runs" / "study" / "2026-01-31_12-00-00"
    (sweep / "checkpoints").mkdir(parents=True)
    (sweep / "study.json").write_text("{}")
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "config.yaml").write_text("epochs: 3")
    before = files(tmp_path)
    assert listed(tmp_path / "runs", capsys) == []
    assert prune(tmp_path / "runs", "--unfinished", "--keep-best", "1", "--checkpoints", "--yes") == 0
    assert files(tmp_path) == before


def test_links_are_not_followed(tmp_path):
    """Neither a linked experiment, a linked run, linked checkpoints nor a link inside a run leads anywhere."""
    elsewhere, inside = tmp_path / "elsewhere", tmp_path / "runs"
    one, two = make(elsewhere, summary=False), make(elsewhere, name="two")
    doomed = make(inside, summary=False)
    (inside / "linked").symlink_to(elsewhere / "digits")
    (inside / "digits" / "linked").symlink_to(one)
    (doomed / "wandb").symlink_to(elsewhere)
    (doomed / "figures" / "one.png").symlink_to(one / "config.yaml")
    halfway = inside / "two" / "linked"
    halfway.mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl", "summary.json"):
        (halfway / name).write_bytes((two / name).read_bytes())
    (halfway / "checkpoints").symlink_to(two / "checkpoints")
    before = files(elsewhere)
    assert prune(inside, "--unfinished", "--keep-best", "1", "--checkpoints", "--yes") == 0
    assert files(elsewhere) == before
    assert not doomed.exists()
    assert (halfway / "checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--runs", "nowhere"], "no folder 'nowhere'"),
        (["prune", "--runs", "."], "nothing selected"),
        (["prune", "--yes", "--runs", "."], "nothing selected"),
    ],
)
def test_bad_input_is_one_message(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert runs.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("assay-runs: ")
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_keep_best_of_none_is_refused(tmp_path, capsys, count):
    make(tmp_path)
    with pytest.raises(SystemExit) as ended:
        prune(tmp_path, "--keep-best", count, "--yes")
    assert ended.value.code == 2
    assert len(list(tmp_path.glob("digits/*"))) == 1


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    for age in range(3):
        make(tmp_path, age=age)
    command = f"{sys.executable} -m assay_research.commands.runs list --runs {tmp_path} | true"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list"]], ids=" ".join)
def test_listing_imports_no_torch(arguments: list[str], tmp_path: Path) -> None:
    make(tmp_path / "runs")
    command = [sys.executable, "-X", "importtime", "-m", "assay_research.commands.runs", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.stderr.splitlines()}
    assert "omegaconf" in imported
    assert not imported & {"torch", "torchvision", "matplotlib", "sklearn"}
