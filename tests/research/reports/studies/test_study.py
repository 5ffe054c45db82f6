"""The report of several runs says what the runs say, and says so of those that failed."""

import json
import statistics
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from assay_research.errors import CheckpointError
from assay_research.reports.curves import LearningCurve, draw
from assay_research.reports.palette import BLUE, VERMILION
from assay_research.reports.studies.study import Member, report
from assay_research.reports.tables import score, short, table
from assay_research.runs.history import read_history
from assay_research.runs.run import Run
from tests.research.pixels import ink, pixels


def finished(folder: Path, name: str = "a", seed: int = 0, test: float = 0.75, **more: object) -> Run:
    """A run as a training leaves it, but for the weights."""
    run = Run.create(folder / "runs", OmegaConf.create({"name": name, "seed": seed}))
    run.write_metrics(
        [{"epoch": i, "train_loss": 2.0 / i, "val_top1": test - 0.1 / i, "val_loss": 2.1 / i} for i in (1, 2, 3)]
    )
    summary = {
        "name": name,
        "ended": "all 3 epochs done",
        "epochs": 3,
        "best_epoch": 3,
        "val_loss": 0.7,
        "val_top1": test - 0.03125,
        "test_top1": test,
        "dataset": "digits",
        "n": {"train": 1258, "val": 180, "test": 1359},
        "seed": seed,
        "parameters": 153530,
        "commit": "0123456789abcdef+dirty",
        "hardware": "a machine",
        "seconds": 61.4,
        **more,
    }
    (run.folder / "summary.json").write_text(json.dumps(summary))
    return run


def cells(text: str, first: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] == first]


def test_a_row_holds_what_the_summary_says(tmp_path: Path) -> None:
    report(tmp_path, [Member("a", finished(tmp_path, test_top1_tta=0.8125))])
    (row,) = cells((tmp_path / "results.md").read_text(), "a")
    assert row == [
        *("a", "top-1", "0.7500", "0.8125", "0.7188", "3", "all 3 epochs done", "153,530", "digits", "1,359", "0"),
        *("61", "a machine", "0123456+"),
    ]


def test_detectors_and_classifiers_stand_in_one_table_each_by_its_own_score(tmp_path: Path) -> None:
    detector = finished(tmp_path, "d")
    detector.write_metrics([{"epoch": 1, "train_loss": 0.5, "val_loss": 0.6, "val_map": 0.375, "val_map50": 0.7}])
    summary = {key: value for key, value in detector.summary().items() if "top1" not in key}
    summary |= {"val_map": 0.375, "val_map50": 0.7, "test_map": 0.25, "test_map50": 0.5}
    (detector.folder / "summary.json").write_text(json.dumps(summary))
    report(tmp_path, [Member("c", finished(tmp_path, "c")), Member("d", detector)])
    text = (tmp_path / "results.md").read_text()
    assert cells(text, "c")[0][1:5] == ["top-1", "0.7500", "", "0.7188"]
    assert cells(text, "d")[0][1:5] == ["mAP", "0.2500", "", "0.3750"]
    assert (tmp_path / "learning_curves.png").is_file()


def test_json_holds_every_summary_unchanged_and_finds_the_runs(tmp_path: Path) -> None:
    runs = [finished(tmp_path, name, test=0.123456789012345) for name in "ab"]
    report(tmp_path / "sweep", [Member(run.folder.parent.name, run) for run in runs])
    document = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert [each["summary"] for each in document["members"]] == [run.summary() for run in runs]
    assert [(tmp_path / "sweep" / each["run"]).resolve() for each in document["members"]] == [r.folder for r in runs]


def test_a_failed_member_has_a_row_that_says_why(tmp_path: Path) -> None:
    damaged = finished(tmp_path, "damaged")
    (damaged.folder / "summary.json").write_text("{")
    unfinished = finished(tmp_path, "unfinished")
    (unfinished.folder / "summary.json").unlink()
    members = [
        Member("none", None, "no class | folder\nin here"),
        Member("damaged", damaged),
        Member("unfinished", unfinished),
        Member("good", finished(tmp_path, "good")),
    ]
    report(tmp_path, members)
    text = (tmp_path / "results.md").read_text()
    why = {name: cells(text, name)[0][6] for name in ("none", "damaged", "unfinished", "good")}
    assert why["none"] == r"failed: no class \| folder in here"
    assert "cannot be read as a summary" in why["damaged"]
    assert why["unfinished"] == "failed: unfinished after 3 epochs"
    assert why["good"] == "all 3 epochs done"
    errors = [each["error"] for each in json.loads((tmp_path / "results.json").read_text())["members"]]
    assert [error is None for error in errors] == [False, False, False, True]


def test_a_sweep_in_which_all_failed_is_reported_without_a_figure(tmp_path: Path) -> None:
    (tmp_path / "learning_curves.png").write_bytes(b"of an earlier report")
    report(tmp_path, [Member("a", None, "no data")])
    assert "failed: no data" in (tmp_path / "results.md").read_text()
    assert not (tmp_path / "learning_curves.png").exists()


def test_seeds_of_one_experiment_have_mean_and_spread(tmp_path: Path) -> None:
    scores = [0.70, 0.74, 0.78]
    members = [Member("a", finished(tmp_path, "a", seed, score)) for seed, score in enumerate(scores)]
    report(tmp_path, [*members, Member("b", finished(tmp_path, "b"))])
    (group,) = json.loads((tmp_path / "results.json").read_text())["seeds"]
    assert group["seeds"] == [0, 1, 2]
    assert group["test_top1"] == {"mean": statistics.fmean(scores), "std": statistics.stdev(scores)}
    assert cells((tmp_path / "results.md").read_text(), "a")[-1][:5] == ["a", "digits", "3", "top-1", "0.7400 ± 0.0400"]


def test_runs_of_one_seed_are_not_averaged(tmp_path: Path) -> None:
    report(tmp_path, [Member("a", finished(tmp_path)), Member("a", finished(tmp_path, test=0.5))])
    assert json.loads((tmp_path / "results.json").read_text())["seeds"] == []


def test_what_is_not_finite_is_null_and_a_gap(tmp_path: Path) -> None:
    run = finished(tmp_path, val_loss=float("nan"))
    run.write_metrics([{"epoch": i, "train_loss": float("nan"), "val_top1": 0.1} for i in (1, 2)])
    report(tmp_path, [Member("a", run)])
    document = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert document["members"][0]["summary"]["val_loss"] is None
    assert ink(tmp_path / "learning_curves.png", BLUE) > 100


def test_damaged_metrics_are_refused_by_name(tmp_path: Path) -> None:
    run = finished(tmp_path)
    (run.folder / "metrics.jsonl").write_text('{"epoch": 1}\n[')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        read_history(run)


def test_seeds_share_a_colour_and_experiments_do_not(tmp_path: Path) -> None:
    low, high = [0.2, 0.3, 0.4], [0.6, 0.7, 0.8]
    draw([LearningCurve("a", low, low), LearningCurve("a", high, high)], tmp_path / "one.png")
    draw([LearningCurve("a", low, low), LearningCurve("b", high, high)], tmp_path / "two.png")
    assert ink(tmp_path / "one.png", VERMILION) == 0
    assert ink(tmp_path / "two.png", VERMILION) > 100


@pytest.mark.parametrize("n", [1, 12, 60])
def test_a_legend_of_any_length_lies_outside_the_panels(tmp_path: Path, n: int) -> None:
    curves = [LearningCurve(f"tinyvgg_c_36_44_{i}", [2.3, 1.0], [0.1, 0.5]) for i in range(n)]
    draw(curves, tmp_path / "curves.png")
    drawn = pixels(tmp_path / "curves.png")
    assert (drawn[[0, -1]] == 255).all()  # neither the first nor the last row of pixels cuts an entry
    assert (drawn[:, -1] == 255).all()


def test_curves_are_drawn_the_same_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw([LearningCurve("a", [2.0, None, 1e6], [0.1, 0.2, 0.1])], tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_table_is_aligned_with_numbers_on_the_right() -> None:
    text = table([["name", "top-1"], ["a", "0.5000"], ["longer", "0.25 ± 0.01"], ["none", ""]])
    assert text.splitlines() == [
        "| name   |       top-1 |",
        "| ------ | ----------: |",
        "| a      |      0.5000 |",
        "| longer | 0.25 ± 0.01 |",
        "| none   |             |",
    ]


def test_spread_is_the_sample_standard_deviation() -> None:
    assert [score([]), score([0.5]), score([0.4, 0.6])] == ["", "0.5000", "0.5000 ± 0.1414"]


def test_a_commit_with_changes_keeps_its_mark() -> None:
    assert [short("0123456789"), short("0123456789+dirty"), short("")] == ["0123456", "0123456+", "unknown"]
