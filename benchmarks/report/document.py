"""Write the measurements of the suite as a Markdown table, a JSON document and a figure."""

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
Ratio: speed relative to the baseline, both timed in alternation in one run: the median of the rounds and their
quartiles. Below 1 is slower; a row with itself as the baseline shows the random variation. Engines compute in float32
without TF32, with inputs and outputs in host memory. Trainings use the default settings of `assay-train`; their
baseline uses float32, on CUDA with TF32 where torch enables it by default.
"""

RACE = """\
Seconds are from the first to the last training step and include all work except loading and compiling; "with scoring"
also includes the scoring of the test images. Top-1 is the accuracy of the last weights on the test images, over all
views: no contender chooses a checkpoint. All train on the same images and device, one contender after the other.
"""

TIMING_COLUMNS = ("target", "baseline", "device", "images", "ratio", "images/s", "ms", "ms, p95", "rounds")
PARITY_COLUMNS = ("target", "device", "data", "images", "top-1 eager", "top-1", "changed")
ROOFLINE_COLUMNS = (
    *("model", "batch", "device", "precision", "MFLOP/image", "kB/image", "TFLOP/s", "GB/s"),
    *("FLOPs allow, images/s", "bytes allow, images/s", "measured, images/s", "of the roofline"),
)
RACE_COLUMNS = ("contender", "device", "data", "training images", "runs", "top-1", "target", "seconds", "with scoring")
RUN_COLUMNS = ("contender", "run", "top-1", "seconds", "with scoring")

PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION)
"""Okabe and Ito's colours, which colour-blind readers can distinguish."""


def document(
    environment: dict[str, Any],
    subject: dict[str, Any],
    *,
    timings: Sequence[Finding] = (),
    parity: Sequence[Finding] = (),
    rooflines: Sequence[Finding] = (),
    races: Sequence[Finding] = (),
) -> Document:
    """Collect the content of a report, ready for JSON.

    Args:
        environment: description of the machine from `benchmarks.measure.environment.describe`.
        subject: names of what was measured, by their label in the report: bundle, run, effort.
        timings: one entry per comparison: its group, target, baseline, device, and the figures from
            `benchmarks.measure.interleave.figures`.
        parity: one entry per artifact, device and data set: target, device, dataset, n, top1_eager, top1, changed.
        rooflines: one entry per training, from `benchmarks.measure.roofline.Rooflines`.
        races: one entry per contender, from `benchmarks.races.speedrun.contender`.
    """
    findings = {"timings": timings, "parity": parity, "rooflines": rooflines, "races": races}
    return {**environment, "subject": subject, **{name: list(found) for name, found in findings.items()}}


def markdown(found: Document) -> str:
    """Format the report as Markdown."""
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
    """Write ``bench.md``, ``bench.json`` and, if there are timings and matplotlib is installed, ``bench.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    table, data, image = (folder / f"bench.{suffix}" for suffix in ("md", "json", "png"))
    table.write_text(markdown(found), encoding="utf-8")
    data.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    image.unlink(missing_ok=True)  # remove the figure of an earlier report
    if found["timings"] and importlib.util.find_spec("matplotlib"):
        _draw(found, image)
        return [table, data, image]
    return [table, data]


def show(found: Document, folder: Path) -> None:
    """Print the report, write it to files and print their paths."""
    sys.stdout.write(markdown(found))
    sys.stdout.writelines(f"{path}\n" for path in write(found, folder))


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Format a Markdown table with aligned columns."""
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
    """Format the mean of the values and, if there are several, their sample standard deviation."""
    mean = format(fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(stdev(values), form)}"


def _draw(found: Document, path: Path) -> None:
    """Plot a panel for each group and device: a bar for each target and number of images, whiskers at the quartiles."""
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
        axis.set_xscale("log")  # so that half and twice as fast have bars of equal length
        low = min(0.7, *(timing["ratio"]["q1"] for timing in timings))
        high = max(1.4, *(timing["ratio"]["q3"] for timing in timings))
        axis.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.15)  # room for the number at a bar's end
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.tick_params(labelsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{group}: target and number of images; {found['hardware'][device]}", fontsize=9, loc="left")
    axes[-1].set_xlabel("speed relative to the baseline (median and quartiles of the rounds)", fontsize=8)
    figure.savefig(path, dpi=150)


def _labels(timings: list[Timing]) -> list[str]:
    """Labels of the bars; the baseline is added only if the panel has several bars of the same name."""
    names = [f"{timing['target']}, {timing['images']}" for timing in timings]
    return [
        f"{name}, against\n{timing['baseline']}" if names.count(name) > 1 else name
        for name, timing in zip(names, timings, strict=True)
    ]
