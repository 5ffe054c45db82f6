"""The report of several runs: a table of their scores, the same as JSON, and all learning curves in one figure."""

import io
import json
import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_research.analysis import finite_json
from assay_research.checkpoint import write_atomically
from assay_research.errors import AssayError, CheckpointError
from assay_research.metrics import TOP1, Metric, metric_of
from assay_research.run import METRICS, Run

REPORT, DOCUMENT, CURVES = "results.md", "results.json", "learning_curves.png"
COLUMNS = (
    *("experiment", "metric", "test", "with views", "val", "epochs", "why it ended", "parameters", "data set"),
    *("n test", "seed", "seconds", "hardware", "commit"),
)
# Okabe and Ito's colours but yellow, which is too pale for a line.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#000000")
STYLES: tuple[tuple[float, tuple[float, ...]], ...] = ((0, ()), (0, (3, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)))
MARKS = "osD^v<>"
FEW = 20
"""Epochs up to which each has a mark."""

NUMBER = re.compile(r"[-\d][\d.,]*( ± .*)?")


@dataclass(frozen=True)
class Member:
    """One training of several.

    Attributes:
        experiment: its name.
        run: what it left; None where it made no run.
        error: why it failed; None where it did not.
    """

    experiment: str
    run: Run | None
    error: str | None = None


@dataclass(frozen=True)
class Curve:
    """How one training went, an entry an epoch, None where the value was not finite.

    Attributes:
        label: of the legend; curves of one label share a colour.
        train_loss: nats.
        val_score: in [0, 1].
        metric: what that is.
    """

    label: str
    train_loss: Sequence[float | None]
    val_score: Sequence[float | None]
    metric: Metric = TOP1


def report(folder: Path, members: Sequence[Member], figure: bool = True) -> None:
    """Write ``results.md``, ``results.json`` and ``learning_curves.png``; a member that failed has a row that says why.

    Args:
        folder: where; made if it is not there.
        members: in the order of the rows.
        figure: draw it, which takes matplotlib.
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
            curves.append(Curve(member.experiment, losses, scores, metric))
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
        (folder / CURVES).unlink(missing_ok=True)  # of an earlier report
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


def table(rows: Iterable[Sequence[str]]) -> str:
    """Markdown that is aligned as plain text too, ending with a newline; columns of numbers stand right.

    Args:
        rows: cells, the head first; what would break a cell is made harmless.
    """
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [
        any(column[1:]) and all(NUMBER.fullmatch(cell) for cell in column[1:] if cell not in ("", "-"))
        for column in columns
    ]
    rule = [
        ("-" * (width - 1) + ":") if is_right else "-" * width for width, is_right in zip(widths, right, strict=True)
    ]
    lines = [
        [f"{cell:{'>' if is_right else '<'}{width}}" for cell, width, is_right in zip(row, widths, right, strict=True)]
        for row in (cells[0], rule, *cells[1:])
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def score(values: Sequence[float]) -> str:
    """The mean of a score over seeds, with the sample standard deviation where there are several.

    Args:
        values: a score of each seed; none gives "".
    """
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def short(commit: str) -> str:
    """A commit as tables show it: seven digits, and a + where its tree had changes."""
    return commit[:7] + "+" * commit.endswith("+dirty") if commit else "unknown"


def read_history(run: Run) -> list[dict[str, float | None]]:
    """The records of `metrics.jsonl`, an epoch each; [] while no epoch is done.

    Raises:
        CheckpointError: it is damaged.
    """
    path = run.folder / METRICS
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"'{path}' is not readable metrics ({error}); resume= writes it anew") from error


def draw(curves: Sequence[Curve], path: Path, title: str | None = None, dpi: int = 150) -> None:
    """Draw a panel of the validation score and one of training loss over epochs, a curve each training.

    Args:
        curves: in the order of the legend.
        path: the PNG file to write, atomically.
        title: of the figure.
        dpi: pixels an inch; the figure is 10 inches wide.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(curve.label for curve in curves))
    looks = {label: _look(i, [each for each in curves if each.label == label]) for i, label in enumerate(labels)}
    columns = math.ceil(len(labels) / 20)
    figure = Figure(figsize=(10 + 1.8 * (columns - 1), 4.2), layout="constrained")
    if title:
        figure.suptitle(title)
    metrics = " or ".join(dict.fromkeys(curve.metric.name for curve in curves))
    panels = (("val_score", f"validation {metrics}"), ("train_loss", "training loss"))
    for axes, (key, name) in zip(figure.subplots(1, 2), panels, strict=True):
        for curve in curves:
            values = [math.nan if value is None else value for value in getattr(curve, key)]
            axes.plot(range(1, len(values) + 1), values, **looks[curve.label])
        finite = [v for curve in curves for v in getattr(curve, key) if v is not None and math.isfinite(v)]
        if key == "train_loss" and finite and 0 < 100 * min(finite) < max(finite):
            axes.set_yscale("log")  # one that grew out of bounds would press all others flat
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    numbers = [sum(curve.label == label for curve in curves) for label in labels]
    figure.legend(
        handles=[
            Line2D([], [], **look, label=label + f", {n} runs" * (n > 1))
            for (label, look), n in zip(looks.items(), numbers, strict=True)
        ],
        loc="outside right center",
        frameon=False,
        fontsize="small",
        ncols=columns,
    )
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format="png", metadata={"Software": None})
    write_atomically(picture.getvalue(), path)


def _look(i: int, curves: Sequence[Curve]) -> dict[str, Any]:
    """How matplotlib draws the curves of the i-th label."""
    # Styles alternate, and broken lines lie above whole ones: curves that are one, as at chance, all stay in sight.
    style = i % 2 + 2 * (i // 14 % 2)
    # A few epochs get a mark each, hollow for those beneath; one alone would not show as a line at all.
    drawn = [values for curve in curves for values in (curve.train_loss, curve.val_score)]
    few = any(sum(each is not None for each in values) <= FEW for values in drawn)
    look = {"color": COLOURS[i % 7], "linestyle": STYLES[style], "linewidth": 1.3, "zorder": 2 + style}
    return look | {"marker": MARKS[i % 7] if few else "", "markersize": 5, "markerfacecolor": "none"}


def _read(member: Member) -> tuple[dict[str, Any], list[dict[str, float | None]], str | None]:
    """Summary, history and what went wrong, of a run that may be missing, unfinished or damaged."""
    if member.run is None:
        return {}, [], member.error or "made no run"
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
    """Mean and spread of the scores of those that differ in their seed alone, as far as a summary tells."""
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
