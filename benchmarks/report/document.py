"""Turn what the suite measured into one table, one JSON document and one figure."""

import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from assay_research.reports.palette import BLUE, GREEN, ORANGE, PINK, SKY, VERMILION
from benchmarks.measure import roofline

Timing = dict[str, Any]
Finding = dict[str, Any]
Document = dict[str, Any]

NOTE = """\
Ratio: how many times as fast as what it is compared with, both timed in turns in one run: the median of the rounds
and their quartiles. Below 1 is slower; a row compared with itself shows what chance does. Engines compute in float32
without TF32, take images from host memory and leave answers there. A training computes as `assay-train` does by
default; the loop it is compared with in float32, on CUDA with TF32 where torch has it on by default.
"""

RACE = """\
Seconds are from the first to the last training step, all work but loading and compiling included; beside them the same
with the scoring of the test images. Top-1 is that of the last weights on the test images, over all views: no
contender chooses a checkpoint. All train on the same images on the same device, one contender after the other.
"""

TIMING_COLUMNS = ("what", "compared with", "device", "images", "ratio", "images/s", "ms", "ms, p95", "rounds")
PARITY_COLUMNS = ("what", "device", "data", "images", "top-1 eager", "top-1", "changed")
ROOFLINE_COLUMNS = (
    *("what", "batch", "device", "precision", "MFLOP/image", "kB/image", "TFLOP/s", "GB/s"),
    *("FLOPs allow, images/s", "bytes allow, images/s", "measured, images/s", "of the roofline"),
)
RACE_COLUMNS = ("what", "device", "data", "training images", "runs", "top-1", "target", "seconds", "with scoring")
RUN_COLUMNS = ("what", "run", "top-1", "seconds", "with scoring")

PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION)
"""Okabe and Ito's colours, which the colour-blind can tell apart."""


def document(
    environment: dict[str, Any],
    subject: dict[str, Any],
    *,
    timings: Sequence[Finding] = (),
    parity: Sequence[Finding] = (),
    rooflines: Sequence[Finding] = (),
    races: Sequence[Finding] = (),
) -> Document:
    """Everything a report says, ready for JSON.

    Args:
        environment: from `benchmarks.measure.environment.describe`.
        subject: what was measured, as a name for each word of the report: bundle, run, effort.
        timings: one for each comparison: its group, target, baseline, device, and what
            `benchmarks.measure.interleave.figures` gives.
        parity: one for each artifact, device and data set: target, device, dataset, n, top1_eager, top1, changed.
        rooflines: one for each training, from `benchmarks.measure.roofline.Rooflines`.
        races: one for each contender, from `benchmarks.races.speedrun.Contender`.
    """
    findings = {"timings": timings, "parity": parity, "rooflines": rooflines, "races": races}
    return {**environment, "subject": subject, **{name: list(found) for name, found in findings.items()}}


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
    if found["rooflines"]:
        rows = map(_roofline_row, found["rooflines"])
        lines += ["", "## Roofline", "", *roofline.RULE.splitlines(), "", *_table(ROOFLINE_COLUMNS, rows)]
    if found["parity"]:
        lines += ["", "## Parity", "", *_table(PARITY_COLUMNS, map(_parity_row, found["parity"]))]
    if found["races"]:
        runs = [row for race in found["races"] for row in _run_rows(race)]
        lines += ["", "## Race", "", *RACE.splitlines(), "", *_table(RACE_COLUMNS, map(_race_row, found["races"]))]
        lines += ["", *_table(RUN_COLUMNS, runs)]
        lines += ["", *(f"- {race['what']}: {race['note']}" for race in found["races"])]
    return "\n".join(lines) + "\n"


def write(found: Document, folder: Path) -> list[Path]:
    """Write ``bench.md``, ``bench.json`` and, where there is matplotlib and something to draw, ``bench.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    table, data, image = (folder / f"bench.{suffix}" for suffix in ("md", "json", "png"))
    table.write_text(markdown(found), encoding="utf-8")
    data.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    image.unlink(missing_ok=True)  # of an earlier report
    if found["timings"] and importlib.util.find_spec("matplotlib"):
        _draw(found, image)
        return [table, data, image]
    return [table, data]


def show(found: Document, folder: Path) -> None:
    """Print the report, write it, and say where."""
    sys.stdout.write(markdown(found))
    sys.stdout.writelines(f"{path}\n" for path in write(found, folder))


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
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
        str(timing["images"]),
        f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}]",
        f"{timing['images_per_second']:,.0f}",
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


def _roofline_row(row: Finding) -> tuple[str, ...]:
    speeds = (f"{row[key]:,.0f}" for key in ("by_flops", "by_bytes", "images_per_second"))
    return (
        row["target"],
        str(row["batch"]),
        row["device"],
        row["precision"],
        f"{row['mflop']:,.1f}",
        f"{row['kb']:,.1f}",
        f"{row['tflops']:.3g}",
        f"{row['gbs']:.3g}",
        *speeds,
        f"{row['fraction']:.1%}",
    )


def _race_row(race: Finding) -> tuple[str, ...]:
    target = race["target"]
    top1 = [run["top1"] for run in race["runs"]]
    return (
        race["what"],
        race["device"],
        race["dataset"],
        f"{race['images']:,}",
        str(len(top1)),
        spread(top1, ".4f"),
        "" if target is None else f"{target:.4f}, {'reached' if fmean(top1) >= target else 'missed'}",
        *(spread([run[key] for run in race["runs"]], ".3f") for key in ("seconds", "scored")),
    )


def _run_rows(race: Finding) -> list[tuple[str, ...]]:
    return [
        (race["what"], str(number), f"{run['top1']:.4f}", f"{run['seconds']:.3f}", f"{run['scored']:.3f}")
        for number, run in enumerate(race["runs"])
    ]


def spread(values: Sequence[float], form: str) -> str:
    """The mean of some values and, of several, their sample standard deviation."""
    mean = format(fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(stdev(values), form)}"


def _draw(found: Document, path: Path) -> None:
    """A panel for each group and device: a bar for each target and number of images, whiskers at the quartiles."""
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
        sizes = sorted({timing["images"] for timing in timings})
        for y, timing in enumerate(timings):
            ratio, size = timing["ratio"], timing["images"]
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
        axis.set_title(f"{group}: what, and how many images; {found['hardware'][device]}", fontsize=9, loc="left")
    axes[-1].set_xlabel("times as fast as what it is compared with (median and quartiles of the rounds)", fontsize=8)
    figure.savefig(path, dpi=150)


def _labels(timings: list[Timing]) -> list[str]:
    """What each bar is; with what it is compared only where the panel has another bar of that name."""
    names = [f"{timing['target']}, {timing['images']}" for timing in timings]
    return [
        f"{name}, against\n{timing['baseline']}" if names.count(name) > 1 else name
        for name, timing in zip(names, timings, strict=True)
    ]
