"""What is published is what runs measured, number for number."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay_deploy.errors import AssayError
from assay_research.experiment.experiment import Experiment
from assay_research.reports.studies import results, yaml_headers
from assay_research.reports.studies.records import experiments, record
from assay_research.runs.run import Run
from tests.research.pixels import pixels

DOCS = Path(__file__).parents[4] / "docs"
NAME, CHOICE = "tinyvgg_a_36", "tinyvgg_table2/a_36"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one of the experiments, on digits, one epoch."""
    runs = tmp_path_factory.mktemp("runs")
    experiment = Experiment.compose(f"experiment={CHOICE}", "data=digits", "epochs=1", "figures=false", f"runs={runs}")
    experiment.finish(experiment.train(1, progress=False))
    assert experiment.run is not None
    return experiment.run.folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A docs folder in which nothing was measured yet."""
    (tmp_path / "docs" / "results").mkdir(parents=True)
    shutil.copy(DOCS / "results" / "published.json", tmp_path / "docs" / "results")
    return tmp_path / "docs"


def like(trained: Path, folder: Path, **changes: Any) -> Run:
    """A copy of the run whose summary says something else."""
    shutil.copytree(trained, folder)
    summary = json.loads((folder / "summary.json").read_text()) | changes
    (folder / "summary.json").write_text(json.dumps(summary))
    return Run(folder)


def row(text: str, choice: str = CHOICE) -> dict[str, str]:
    """The only row of an experiment, with or without other settings."""
    (line,) = [line for line in text.splitlines() if re.match(rf"\| `{choice}[ `]", line)]
    return dict(zip(results.COLUMNS, (cell.strip() for cell in line.strip("|").split(" | ")), strict=True))


def command(monkeypatch: pytest.MonkeyPatch, docs: Path, *arguments: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["results", "--docs", str(docs), *map(str, arguments)])
    results.main()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_committed_page_is_what_the_committed_files_give() -> None:
    assert (DOCS / "results.md").read_text(encoding="utf-8") == results.page(DOCS / "results"), "run `nox -s results`"


def test_committed_files_and_figures_are_those_of_experiments() -> None:
    found = experiments()
    names = {experiment.name for study in found.values() for experiment in study}
    assert {path.stem for path in (DOCS / "results").glob("*.json")} - {"published"} <= names
    linked = set(re.findall(r"results/(\w+)\.png", (DOCS / "results.md").read_text(encoding="utf-8")))
    assert {path.stem for path in (DOCS / "results").glob("*.png")} == linked
    assert all((DOCS / "results" / f"{study}.png").stat().st_size < 150_000 for study in linked)


def test_every_published_figure_has_its_experiment() -> None:
    published = json.loads((DOCS / "results" / "published.json").read_text(encoding="utf-8"))
    there = {study: {experiment.member for experiment in members} for study, members in experiments().items()}
    for study, about in published.items():
        assert set(about["members"]) <= there.get(study, set()), study


def test_figures_of_others_are_rows_that_lead_to_their_source_and_count_as_nothing_of_ours(docs: Path) -> None:
    path = docs / "results" / "published.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    others = published["bccd"].pop("others")
    path.write_text(json.dumps(published), encoding="utf-8")
    without = results.page(docs / "results")
    published["bccd"]["others"] = [*others, {"name": "theirs", "value": 0.8765, "source": "https://example.org/a"}]
    path.write_text(json.dumps(published), encoding="utf-8")
    text = results.page(docs / "results")
    lines = [line for line in text[text.index("## Blood cells") :].splitlines() if line.startswith("| [")]
    assert len(lines) == len(others) + 1 > 1
    theirs = [cell.strip() for cell in lines[-1].strip("|").split(" | ")]
    blank = [""] * (len(results.COLUMNS) - 2)
    assert theirs == ["[theirs](https://example.org/a)", "0.8765", *blank]
    assert all(each["source"].startswith("https://") and 0 < each["value"] < 1 for each in others)
    counts = [re.findall(r"(?m)^Goals met: .*$", each) for each in (without, text)]
    assert counts[0] == counts[1] != []


def test_names_of_experiments_are_their_own() -> None:
    names = [experiment.name for study in experiments().values() for experiment in study]
    assert len(set(names)) == len(names)


def test_an_experiment_without_a_measurement_says_so(docs: Path) -> None:
    found = row(results.page(docs / "results"))
    assert (found["published"], found["goal"], found["verdict"], found["measured"]) == (
        "0.783",
        "0.80",
        "not measured",
        "",
    )


def test_numbers_pass_through_unchanged(docs: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, docs, trained)
    summary = Run(trained).summary()
    history = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    document = json.loads((docs / "results" / f"{NAME}.json").read_text())
    (kept,) = document["runs"]
    assert document["experiment"] == CHOICE
    assert {key: summary[key] for key in kept.keys() - {"overrides", "curves"}} == {
        key: kept[key] for key in kept.keys() - {"overrides", "curves"}
    }
    assert kept["curves"] == {key: [each[key] for each in history] for key in ("train_loss", "val_top1")}
    found = row((docs / "results.md").read_text())
    assert found["measured"] == f"{summary['test_top1']:.4f}"
    assert found["with views"] == f"{summary['test_top1_tta']:.4f}"
    assert (found["data set"], found["n test"], found["seeds"], found["epochs"]) == ("digits", "359", "0", "1")
    coloured = np.ptp(pixels(docs / "results" / "tinyvgg_table2.png").astype(int), axis=2) > 60
    assert coloured.sum() > 20  # the curve's mark; axes and text are grey


def test_other_settings_than_the_experiments_are_in_the_row(docs: Path, trained: Path) -> None:
    record([Run(trained)], docs / "results")
    assert row(results.page(docs / "results"))["experiment"] == f"`{CHOICE} epochs=1`"


@pytest.mark.parametrize(
    ("dataset", "score", "goal", "verdict"),
    [
        ("cifar10", 0.80, "0.80", "met"),
        ("cifar10", 0.7999, "0.80", "missed by 0.0001"),
        ("cifar10-jpeg", 0.79, "0.79", "met"),
        ("cifar10-jpeg", 0.7654, "0.79", "missed by 0.0246"),
        ("photos", 0.99, "", ""),
    ],
)
def test_goals_are_those_of_the_data_set(
    docs: Path, trained: Path, tmp_path: Path, dataset: str, score: float, goal: str, verdict: str
) -> None:
    record([like(trained, tmp_path / "run", dataset=dataset, test_top1=0.1, test_top1_tta=score)], docs / "results")
    found = row(results.page(docs / "results"))
    assert (found["goal"], found["verdict"]) == (goal, verdict)


@pytest.mark.parametrize(("score", "verdict"), [(0.1, "met"), (0.5, "missed by 0.3900")])
def test_a_failure_to_train_is_a_goal_too(
    docs: Path, trained: Path, tmp_path: Path, score: float, verdict: str
) -> None:
    run = like(trained, tmp_path / "run", name="vgg_no_bn_d", dataset="cifar10-jpeg", test_top1=score)
    record([run], docs / "results")
    (line,) = [line for line in results.page(docs / "results").splitlines() if line.startswith("| `vgg_no_bn/d ")]
    assert f"| {verdict} " in line


def test_seeds_are_averaged_and_a_rerun_replaces_its_predecessor(docs: Path, trained: Path, tmp_path: Path) -> None:
    for i, (seed, score) in enumerate([(0, 0.9), (1, 0.6), (0, 0.4)]):
        record([like(trained, tmp_path / str(i), seed=seed, test_top1=score)], docs / "results")
    found = row(results.page(docs / "results"))
    assert (found["measured"], found["seeds"]) == ("0.5000 ± 0.1414", "0, 1")


def test_data_sets_are_not_mixed(docs: Path, trained: Path, tmp_path: Path) -> None:
    runs = [like(trained, tmp_path / name, dataset=name) for name in ("cifar10", "cifar10-jpeg")]
    record(runs, docs / "results")
    lines = [line for line in results.page(docs / "results").splitlines() if line.startswith(f"| `{CHOICE} ")]
    assert [re.findall("cifar10-jpeg|cifar10", line) for line in lines] == [["cifar10"], ["cifar10-jpeg"]]


def test_changes_not_committed_are_a_footnote(docs: Path, trained: Path, tmp_path: Path) -> None:
    record([like(trained, tmp_path / "clean", commit="0123456789")], docs / "results")
    assert results.CHANGED not in results.page(docs / "results")
    record([like(trained, tmp_path / "dirty", commit="0123456789+dirty")], docs / "results")
    text = results.page(docs / "results")
    assert row(text)["commit"] == "0123456+"
    assert results.CHANGED in text


@pytest.mark.parametrize("what", ["unfinished", "of no experiment", "without metrics", "lacking a fact", "damaged"])
def test_a_run_that_says_too_little_is_refused_and_nothing_written(
    docs: Path, trained: Path, tmp_path: Path, what: str
) -> None:
    run = like(trained, tmp_path / "run", **({"name": "tinyvgg_a_37"} if what == "of no experiment" else {}))
    summary = run.folder / "summary.json"
    if what == "unfinished":
        summary.unlink()
    elif what == "without metrics":
        (run.folder / "metrics.jsonl").unlink()
    elif what == "lacking a fact":
        summary.write_text(json.dumps({key: value for key, value in run.summary().items() if key != "seed"}))
    elif what == "damaged":
        summary.write_text("{")
    before = contents(docs)
    good = like(trained, tmp_path / "good")
    with pytest.raises(AssayError) as error:
        record([good, run], docs / "results")
    assert str(run.folder) in str(error.value)
    assert contents(docs) == before


def test_the_command_refuses_in_one_message(docs: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = like(trained, docs.parent / "run").folder
    (unfinished / "summary.json").unlink()
    with pytest.raises(SystemExit, match=r"unfinished.*resume="):
        command(monkeypatch, docs, unfinished)
    with pytest.raises(SystemExit, match="no finished run"):
        command(monkeypatch, docs, docs.parent / "nowhere")
    with pytest.raises(SystemExit, match=r"published\.json"):
        command(monkeypatch, docs.parent / "elsewhere")


def test_a_sweep_gives_the_runs_that_finished(
    docs: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        like(trained, docs.parent / "runs" / NAME / str(seed), seed=seed)
    (docs.parent / "runs" / NAME / "1" / "summary.json").unlink()
    members = [{"run": f"../../{NAME}/{seed}"} for seed in range(2)] + [{"run": None}]
    sweep = docs.parent / "runs" / "tinyvgg_table2" / "now"
    sweep.mkdir(parents=True)
    (sweep / "results.json").write_text(json.dumps({"members": members}))
    command(monkeypatch, docs, sweep)
    assert row((docs / "results.md").read_text())["seeds"] == "0"
    assert "left out, unfinished" in capsys.readouterr().out
    command(monkeypatch, docs, docs.parent / "runs")
    assert row((docs / "results.md").read_text())["seeds"] == "0, 2"


def test_every_experiments_file_begins_with_its_command_and_what_was_measured():
    folder = Path(__file__).parents[4] / "docs" / "results"
    stale = [path.name for path, text in yaml_headers.texts(folder).items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `nox -s results`"


def test_a_header_tells_mean_and_spread_over_seeds_and_how_long_it_took():
    run = {"dataset": "cifar10-jpeg", "hardware": "a CPU", "overrides": [], "test_top1": 0.5, "seconds": 60.0}
    other = run | {"test_top1": 0.6, "seconds": 180.0}
    assert yaml_headers.header("study/a", [run, other]) == (
        "# @package _global_\n"
        "# nox -s train -- experiment=study/a\n"
        "# Measured on cifar10-jpeg: test top-1 0.5500 ± 0.0707; n seeds 2; 2.0 minutes, a CPU.\n"
    )
    assert yaml_headers.header("study/a", []).endswith("# Not measured yet.\n")
