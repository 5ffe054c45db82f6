"""Report on several runs: a table of their scores, the same data as JSON, and one figure of all learning curves."""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_deploy.errors import AssayError
from assay_research.reports.curves import LearningCurve, draw
from assay_research.reports.tables import short, table
from assay_research.runs import finite_json
from assay_research.runs.disk import write_atomically
from assay_research.runs.history import read_history
from assay_research.runs.run import Run
from assay_research.runs.score import metric_of

REPORT, DOCUMENT, CURVES = "results.md", "results.json", "learning_curves.png"
COLUMNS = (
    *("experiment", "metric", "test", "with views", "val", "epochs", "why it ended", "parameters", "data set"),
    *("n test", "seed", "seconds", "hardware", "commit"),
)


@dataclass(frozen=True)
class Member:
    """One training of a study.

    Attributes:
        experiment: name of the experiment.
        run: the run; None if the training failed before it created one.
        error: error message of a failed training; None otherwise.
    """

    experiment: str
    run: Run | None
    error: str | None = None


def report(folder: Path, members: Sequence[Member], figure: bool = True) -> None:
    """Write ``results.md``, ``results.json`` and ``learning_curves.png``; failed members have a row with the error.

    Args:
        folder: the folder to write; created if it does not exist.
        members: the trainings, in the order of the rows.
        figure: True plots the learning curves, which requires matplotlib.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summaries, errors, curves = [], [], []
    for member in members:
        summary, history, error = _read(member)
        summaries.append(summary)
        errors.append(error)
        if history:
            metric = metric_of(history[0])
            losses, scores = ([record.get(key) for record in history] for key in ("train_loss", metric.val))
            curves.append(LearningCurve(member.experiment, losses, scores, metric))
    seeds = _over_seeds(members, summaries)
    rows = [_row(*found) for found in zip(members, summaries, errors, strict=True)]
    text = ["# Results", "", table([COLUMNS, *rows])]
    if seeds:
        head = ("experiment", "data set", "n seeds", *COLUMNS[1:5])
        text += ["Mean over seeds ± sample standard deviation:", "", table([head, *map(_seeds_row, seeds)])]
    if curves and figure:
        text += [f"![Validation scores and training loss over the epochs]({CURVES})\n"]
        draw(curves, folder / CURVES)
    else:
        (folder / CURVES).unlink(missing_ok=True)  # left by an earlier report
    document = {
        "members": [
            {
                "experiment": member.experiment,
                "run": None if member.run is None else Path(os.path.relpath(member.run.folder, folder)).as_posix(),
                "error": error,
                "summary": summary,
            }
            for member, summary, error in zip(members, summaries, errors, strict=True)
        ],
        "seeds": seeds,
    }
    finite_json.write(document, folder / DOCUMENT)
    write_atomically("\n".join(text).encode(), folder / REPORT)


def _read(member: Member) -> tuple[dict[str, Any], list[dict[str, float | None]], str | None]:
    """Read summary, history and error message of a run that may be missing, unfinished or damaged."""
    if member.run is None:
        return {}, [], member.error or "no run was created"
    try:
        summary, history = member.run.summary(), read_history(member.run)
    except AssayError as error:
        return {}, [], member.error or str(error)
    unfinished = None if summary else f"unfinished after {len(history)} epochs"
    return summary, history, member.error or unfinished


def _row(member: Member, summary: Mapping[str, Any], error: str | None) -> list[str]:
    def cell(key: str, form: str = "") -> str:
        return format(summary[key], form) if key in summary else ""

    return [
        member.experiment,
        metric_of(summary).name if summary else "",
        *(cell(key, ".4f") for key in metric_of(summary).scores),
        cell("epochs"),
        f"failed: {error}" if error else cell("ended"),
        cell("parameters", ","),
        cell("dataset"),
        f"{summary['n']['test']:,}" if summary else "",
        cell("seed"),
        cell("seconds", ".0f"),
        cell("hardware"),
        short(summary["commit"]) if summary else "",
    ]


def _over_seeds(members: Sequence[Member], summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation of scores over runs of one experiment and data set with different seeds."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for member, summary in zip(members, summaries, strict=True):
        if summary:
            groups.setdefault((member.experiment, summary["dataset"]), []).append(summary)
    found = []
    for (experiment, dataset), group in groups.items():
        seeds = [summary["seed"] for summary in group]
        if len(seeds) == 1 or len(set(seeds)) < len(seeds):  # a seed twice: something else differs too
            continue
        keys = metric_of(group[0]).scores
        scores = {key: [s[key] for s in group] for key in keys if all(key in s for s in group)}
        spread = {key: {"mean": statistics.fmean(v), "std": statistics.stdev(v)} for key, v in scores.items()}
        found.append({"experiment": experiment, "dataset": dataset, "seeds": seeds, **spread})
    return found


def _seeds_row(group: Mapping[str, Any]) -> list[str]:
    metric = metric_of(group)
    scores = (f"{group[key]['mean']:.4f} ± {group[key]['std']:.4f}" if key in group else "" for key in metric.scores)
    return [group["experiment"], group["dataset"], str(len(group["seeds"])), metric.name, *scores]
