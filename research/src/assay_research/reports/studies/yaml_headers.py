"""Header comments of experiment files: the command that trains the experiment, and its measured scores."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay_research.config.files import CONF
from assay_research.reports.studies.records import experiments, recorded
from assay_research.reports.tables import score
from assay_research.runs.disk import write_atomically
from assay_research.runs.score import metric_of

PACKAGE = "# @package _global_\n"
HEADER = re.compile(rf"{re.escape(PACKAGE)}(# nox -s train -- experiment=.*\n(# (Measured|Not measured).*\n)+)?")


def header(choice: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the header of one experiment.

    Args:
        choice: value of ``experiment=``.
        runs: recorded runs of the experiment, from `records.recorded`.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["hardware"], *run["overrides"]), []).append(run)
    lines = [f"nox -s train -- experiment={choice}"]
    for (dataset, hardware, *overrides), group in groups.items():
        minutes = statistics.fmean(run["seconds"] for run in group) / 60
        metric = metric_of(group[0])
        plain, tta, _ = metric.scores
        views = score([run[tta] for run in group if tta in run])
        lines.append(
            " ".join(["Measured on", dataset, *(["with", *overrides] if overrides else [])])
            + f": test {metric.name} {score([run[plain] for run in group])}"
            + (f", with views {views}" if views else "")
            + f"; n seeds {len(group)}; {minutes:.1f} minutes, {hardware}."
        )
    if not runs:
        lines.append("Not measured yet.")
    return PACKAGE + "".join(f"# {line}\n" for line in lines)


def with_header(path: Path, choice: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of an experiment's file with an updated header."""
    text = path.read_text(encoding="utf-8")
    found = HEADER.match(text)
    assert found is not None, f"'{path}' does not begin with {PACKAGE}"
    return header(choice, runs) + text[found.end() :]


def texts(folder: Path) -> dict[Path, str]:
    """Return path and text of every experiment's file with an updated header.

    Args:
        folder: folder of the recorded runs.
    """
    found = [experiment for study in experiments().values() for experiment in study]
    paths = [CONF / "experiment" / f"{each.choice}.yaml" for each in found]
    return {
        path: with_header(path, each.choice, recorded(folder, each.name))
        for path, each in zip(paths, found, strict=True)
    }


def write(folder: Path) -> None:
    """Update the comment with measured scores at the top of every experiment's YAML file.

    Args:
        folder: folder of the recorded runs, ``docs/results``.
    """
    for path, text in texts(folder).items():
        if path.read_text(encoding="utf-8") != text:
            write_atomically(text.encode(), path)
