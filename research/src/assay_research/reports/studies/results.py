"""Published results: record finished runs in docs/results/<name>.json, and write docs/results.md from the records."""

import argparse
import re
import statistics
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from assay_deploy.errors import AssayError
from assay_research.config.files import CONF
from assay_research.reports.curves import LearningCurve, draw
from assay_research.reports.studies import yaml_headers
from assay_research.reports.studies.records import (
    ZooExperiment,
    experiments,
    finished_runs,
    read_json,
    record,
    recorded,
)
from assay_research.reports.tables import score, short, table
from assay_research.runs.disk import write_atomically
from assay_research.runs.score import metric_of

PUBLISHED = "published.json"
METRICS = {"test_top1": "top-1", "test_map50": "mAP@50"}
"""Scores that goals refer to, and their names."""

COLUMNS = (
    *("experiment", "published", "goal", "measured", "with views", "verdict", "data set", "n test", "seeds", "epochs"),
    *("commit", "hardware", "seconds"),
)
INTRODUCTION = """\
# Results

This page is written by `nox -s results` from the files in [results](results). `nox -s results -- <run or sweep folder>`
adds runs.

The checkpoint is selected by the score on validation images, which are split off the training images (5,000 of
CIFAR-10's 50,000). The test images are evaluated once, with that checkpoint. *Measured* is top-1 (mAP@50 for detectors)
on the plain test images. *With views* is the same with the predictions for the experiment's views averaged or fused.
Both are the mean over seeds ± the sample standard deviation. *Published* is the score reported by the original
authors. A row with a link is a model of other authors on the same data set, with the score that its source reports.
*Goal* is for the data set of its row; for an experiment that is not measured yet, it is the goal on the original data
set. *Seconds* is the mean over seeds.

`cifar10-jpeg` is a JPEG copy of CIFAR-10 at quality 75. Scores on it are close to those on CIFAR-10, but not exactly
comparable. `nox -s train -- experiment=<experiment>` trains any row; add `data=image_folder data.root=<folder>` to use
a folder such as `cifar10-jpeg`. A row that was measured with other settings lists them. The name of a study trains all
of its rows.
"""
CHANGED = "A + after a commit means that its tree had uncommitted changes."


def page(folder: Path) -> str:
    """Return the text of docs/results.md.

    Args:
        folder: folder with `published.json` and the files of the experiments.

    Raises:
        DataError: a file is missing or damaged.
    """
    published = read_json(folder / PUBLISHED)
    studies, sections, verdicts = _ordered(published), [], []
    for study, members in studies.items():
        about = published.get(study, {})
        rows = [row for member in members for row in _rows(member, about, recorded(folder, member.name))]
        verdicts += [row[COLUMNS.index("verdict")] for row in rows]
        words = (about.get("about", ""), _goals(about), f"`nox -s train -- experiment={study}` trains all rows.")
        text = [f"## {about.get('title', study)}", "", textwrap.fill(" ".join(filter(None, words)), 120), ""]
        text += [table([COLUMNS, *rows, *_others(about)])]
        if any(row[COLUMNS.index("measured")] for row in rows):
            text += [f"![Validation scores and training loss over the epochs](results/{study}.png)\n"]
        sections.append("\n".join(text))
    counts = {word: sum(verdict.startswith(word) for verdict in verdicts) for word in ("met", "missed", "not measured")}
    overview = (
        f"Goals met: {counts['met']}, missed: {counts['missed']}; experiments not measured yet: "
        f"{counts['not measured']} of {sum(map(len, studies.values()))}.\n"
    )
    notes = [CHANGED + "\n"] if any(re.search(r"\b[0-9a-f]{7}\+", section) for section in sections) else []
    return "\n".join([INTRODUCTION, overview, *sections, *notes])


def draw_studies(folder: Path) -> None:
    """Plot ``<study>.png`` for every study with a recorded run, and remove the figures of the other studies."""
    for study, members in _ordered(read_json(folder / PUBLISHED)).items():
        found = [(member, run) for member in members for run in recorded(folder, member.name)]
        datasets = {run["dataset"] for _, run in found}
        curves = [
            LearningCurve(
                member.member + (f", {run['dataset']}" if len(datasets) > 1 else ""),
                run["curves"]["train_loss"],
                run["curves"][metric_of(run).val],
                metric_of(run),
            )
            for member, run in found
        ]
        path = folder / f"{study}.png"
        if curves:
            draw(curves, path, f"{study} on {datasets.pop()}" if len(datasets) == 1 else study, dpi=80)
        else:
            path.unlink(missing_ok=True)


def _ordered(published: Mapping[str, Any]) -> dict[str, list[ZooExperiment]]:
    """Return the studies and their experiments in the order of publication, then those that are not published."""
    found = experiments()
    ordered = {}
    for study in sorted(found, key=lambda each: _place(each, published)):
        members = published.get(study, {}).get("members", {})
        ordered[study] = [each for _, each in sorted((_place(each.member, members), each) for each in found[study])]
    return ordered


def _place(name: str, order: Mapping[str, Any]) -> tuple[int, str]:
    return (list(order).index(name), name) if name in order else (len(order), name)


def _goals(about: Mapping[str, Any]) -> str:
    """Return a sentence about the metric of a study's goals; "" without goals."""
    if not any("goal" in each or "at_most" in each for each in about.get("members", {}).values()):
        return ""
    metric = f"{METRICS[_plain(about)]} {'with views' if about['metric'].endswith('_tta') else 'as measured'}"
    lower = about["lower"].get("cifar10-jpeg", 0)
    return f"Goals are for {metric}" + (f", on cifar10-jpeg {lower} lower than on CIFAR-10." if lower else ".")


def _rows(experiment: ZooExperiment, about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a table row for each measured data set and set of overrides; one row "not measured" if there is none."""
    fact = about.get("members", {}).get(experiment.member, {})
    published = fact.get("published", "")
    published = published if isinstance(published, str) else _decimals(published)
    if not runs:
        return [
            [
                f"`{experiment.choice}`",
                published,
                _goal(fact, about, next(iter(about.get("lower", {})), ""))[1],
                "",
                "",
                "not measured",
                *[""] * 7,
            ]
        ]
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], *run["overrides"]), []).append(run)
    return [
        [
            f"`{' '.join((experiment.choice, *overrides))}`",
            published,
            _goal(fact, about, dataset)[1],
            score([run[_plain(about, run)] for run in group]),
            score([run[f"{_plain(about, run)}_tta"] for run in group if f"{_plain(about, run)}_tta" in run]),
            _verdict(fact, about, dataset, group),
            dataset,
            _distinct(f"{run['n']['test']:,}" for run in group),
            _distinct(str(run["seed"]) for run in group),
            _distinct(str(run["epochs"]) for run in group),
            _distinct(short(run["commit"]) for run in group),
            _distinct(run["hardware"] for run in group),
            f"{statistics.fmean(run['seconds'] for run in group):.0f}",
        ]
        for (dataset, *overrides), group in groups.items()
    ]


def _others(about: Mapping[str, Any]) -> list[list[str]]:
    """Return a table row for each score that others published on the data set of a study, with a link to its source."""
    blank = [""] * (len(COLUMNS) - 2)
    return [
        [f"[{each['name']}]({each['source']})", _decimals(each["value"]), *blank] for each in about.get("others", ())
    ]


def _goal(fact: Mapping[str, Any], about: Mapping[str, Any], dataset: str) -> tuple[float | None, str]:
    """Return the goal on a data set as a number and as text; None and "" if there is none."""
    if dataset not in about.get("lower", {}):
        return None, ""
    if "at_most" in fact:
        return fact["at_most"], f"at most {_decimals(fact['at_most'])}"
    if "goal" in fact:
        goal = round(fact["goal"] - about["lower"][dataset], 6)
        return goal, _decimals(goal)
    return None, ""


def _verdict(
    fact: Mapping[str, Any], about: Mapping[str, Any], dataset: str, group: Sequence[Mapping[str, Any]]
) -> str:
    goal, _ = _goal(fact, about, dataset)
    if goal is None:
        return ""
    # With one view there is no second figure: the plain one is what the experiment predicts.
    mean = statistics.fmean(run.get(about["metric"], run[_plain(about)]) for run in group)
    surplus = goal - mean if "at_most" in fact else mean - goal
    return "met" if surplus >= 0 else f"missed by {-surplus:.4f}"


def _plain(about: Mapping[str, Any], run: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the key of a study's score on the plain test images; that of the run if the study has no metric."""
    return str(about.get("metric", metric_of(run).scores[0])).removesuffix("_tta")


def _decimals(value: float) -> str:
    """Format a score with two decimals, or with as many as were published."""
    return max(f"{value:.2f}", f"{value:g}", key=len)


def _distinct(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def main() -> None:
    """Run the command `python -m assay_research.reports.studies.results`."""
    parser = argparse.ArgumentParser(prog="results", description="Add runs to the records and rewrite docs/results.md.")
    parser.add_argument("runs", nargs="*", type=Path, help="finished runs, or folders with runs in them")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of results.md and results/ (docs)")
    given = parser.parse_args()
    folder = given.docs / "results"
    try:
        page(folder)  # existing files must be readable before anything is added
        for name in record([run for each in given.runs for run in finished_runs(each)], folder):
            sys.stdout.write(f"{folder / name}.json\n")
        draw_studies(folder)
        write_atomically(page(folder).encode(), given.docs / "results.md")
        if folder.resolve() == (CONF.parents[3] / "docs" / "results").resolve():
            yaml_headers.write(folder)
    except (AssayError, OSError) as error:
        sys.exit(f"results: {error}")
    sys.stdout.write(f"{given.docs / 'results.md'}\n")


if __name__ == "__main__":
    main()
