"""Turn what the suite measured into one table, one JSON document and one figure."""

import importlib.util
import json
from itertools import groupby
from pathlib import Path
from typing import Any

Timing = dict[str, Any]
Finding = dict[str, Any]
Document = dict[str, Any]

NOTE = """\
Ratio: how many times as fast as what it is compared with, both timed in turns in one run: the median of the rounds
and their quartiles. Below 1 is slower; a row compared with itself shows what chance does. Engines compute in float32
without TF32, take pictures from host memory and leave answers there.
"""

TIMING_COLUMNS = ("what", "compared with", "device", "pictures", "ratio", "pictures/s", "ms", "ms, p95", "rounds")
PARITY_COLUMNS = ("what", "device", "data", "pictures", "top-1 eager", "top-1", "changed")

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours, which the colour-blind can tell apart."""


def document(
    environment: dict[str, Any], subject: dict[str, Any], timings: list[Timing], parity: list[Finding]
) -> Document:
    """Everything a report says, ready for JSON.

    Args:
        environment: from `benchmarks.environment.describe`.
        subject: what was measured, as a name for each word of the report: bundle, run, effort.
        timings: one for each comparison: its group, target, baseline, device, and `benchmarks.interleave.figures`.
        parity: one for each artifact, device and data set: target, device, dataset, n, top1_eager, top1, changed.
    """
    return {**environment, "subject": subject, "timings": timings, "parity": parity}


def markdown(found: Document) -> str:
    """The report as text."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines = [
        "# Benchmarks",
        "",
        *(f"- {name}: {words}" for name, words in found["hardware"].items()),
        f"- threads: {found['threads']} for each engine; load average of the machine: {found['load']}",
        f"- versions: {versions}",
        f"- commit: {found['commit'] or 'unknown'}",
        *(f"- {name}: {words}" for name, words in found["subject"].items()),
    ]
    if found["timings"]:
        lines += ["", *NOTE.splitlines()]
    for group, timings in groupby(found["timings"], key=lambda timing: timing["group"]):
        lines += ["", f"## {group}", "", *_table(TIMING_COLUMNS, map(_timing_row, timings))]
    if found["parity"]:
        lines += ["", "## Parity", "", *_table(PARITY_COLUMNS, map(_parity_row, found["parity"]))]
    return "\n".join(lines) + "\n"


def write(found: Document, folder: Path) -> list[Path]:
    """Write ``bench.md``, ``bench.json`` and, where there is matplotlib and something to draw, ``bench.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    table, data, picture = (folder / f"bench.{suffix}" for suffix in ("md", "json", "png"))
    table.write_text(markdown(found), encoding="utf-8")
    data.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    picture.unlink(missing_ok=True)  # of an earlier report
    if found["timings"] and importlib.util.find_spec("matplotlib"):
        _draw(found, picture)
        return [table, data, picture]
    return [table, data]


def _table(columns: tuple[str, ...], rows: Any) -> list[str]:
    """Markdown that is aligned as plain text too."""
    cells = [columns, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _timing_row(timing: Timing) -> tuple[str, ...]:
    ratio, ms = timing["ratio"], timing["ms"]
    return (
        timing["target"],
        timing["baseline"],
        timing["device"],
        str(timing["pictures"]),
        f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}]",
        f"{timing['pictures_per_second']:,.0f}",
        f"{ms['median']:.3g}",
        f"{ms['p95']:.3g}",
        str(timing["rounds"]),
    )


def _parity_row(finding: Finding) -> tuple[str, ...]:
    return (
        finding["target"],
        finding["device"],
        finding["dataset"],
        f"{finding['n']:,}",
        f"{finding['top1_eager']:.4f}",
        f"{finding['top1']:.4f}",
        str(finding["changed"]),
    )


def _draw(found: Document, path: Path) -> None:
    """A panel for each group and device: a bar for each target and number of pictures, whiskers at the quartiles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    panels: dict[tuple[str, str], list[Timing]] = {}
    for timing in found["timings"]:
        panels.setdefault((timing["group"], timing["device"]), []).append(timing)
    heights = [max(len(timings), 2) for timings in panels.values()]
    figure = Figure(figsize=(8, 0.9 * len(panels) + 0.28 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, ((group, device), timings) in zip(axes, panels.items(), strict=True):
        sizes = sorted({timing["pictures"] for timing in timings})
        for y, timing in enumerate(timings):
            ratio, size = timing["ratio"], timing["pictures"]
            whiskers = [[ratio["median"] - ratio["q1"]], [ratio["q3"] - ratio["median"]]]
            colour = PALETTE[sizes.index(size) % len(PALETTE)]
            axis.barh(y, ratio["median"] - 1, left=1, xerr=whiskers, color=colour, capsize=3)
            axis.text(max(ratio["q3"], 1), y, f"  {ratio['median']:.2f}", va="center", fontsize=8)
        axis.set_yticks(range(len(timings)), _labels(timings))
        axis.set_ylim(len(timings) - 0.4, -0.6)
        axis.set_xscale("log")  # so that half and twice as fast are bars of one length
        low = min(0.7, *(timing["ratio"]["q1"] for timing in timings))
        high = max(1.4, *(timing["ratio"]["q3"] for timing in timings))
        axis.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.15)  # room for the number at a bar's end
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.tick_params(labelsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{group}: what, and how many pictures; {found['hardware'][device]}", fontsize=9, loc="left")
    axes[-1].set_xlabel("times as fast as what it is compared with (median and quartiles of the rounds)", fontsize=8)
    figure.savefig(path, dpi=150)


def _labels(timings: list[Timing]) -> list[str]:
    """What each bar is; with what it is compared only where the panel has another bar of that name."""
    names = [f"{timing['target']}, {timing['pictures']}" for timing in timings]
    return [
        f"{name}, against\n{timing['baseline']}" if names.count(name) > 1 else name
        for name, timing in zip(names, timings, strict=True)
    ]
