"""Figures of a detector: confusion matrix, precision-recall curves, score thresholds, NMS, and scores over epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from assay_research.reports.figures import save
from assay_research.reports.palette import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION
from assay_research.tasks.detection.metrics import BoxScores
from assay_research.tasks.detection.report.confusion import genus
from assay_research.tasks.detection.report.curves import RECALLS, Curve, Threshold
from assay_research.tasks.detection.report.errors import Integers
from assay_research.tasks.detection.report.nms import NmsResult

COLOURS = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY)

STYLES: tuple[dict[str, Any], ...] = tuple(
    {"color": colour, "linestyle": line} for line in ("-", "--") for colour in COLOURS
)
"""Line styles of the classes' curves, if there are no more classes than styles."""

BACKGROUND = "background"

LEAST_SPAN = 0.05
"""Smallest range of an axis of scores."""


def confusion_matrix(confusion: Integers, classes: Sequence[str], path: Path, title: str) -> None:
    """Plot a detector's confusion matrix and the number of objects of each class; classes are grouped by genus.

    Args:
        confusion: number of objects by ``[true class][predicted class]``, the background last; see
            `assay_research.tasks.detection.report.errors.Errors`.
        classes: names of the classes, without the background.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    genera = list(dict.fromkeys(map(genus, classes)))
    order = sorted(range(len(classes)), key=lambda i: (genera.index(genus(classes[i])), i))
    names = [*(shortened(classes[i]) for i in order), BACKGROUND]
    counts = confusion[np.ix_([*order, len(classes)], [*order, len(classes)])]
    totals = counts.sum(1)
    shares = counts / totals.clip(min=1)[:, None]
    side = max(3.0, 0.55 * len(names)) if len(names) <= 16 else max(9.0, 0.17 * len(names))
    cell = side / len(names)
    font = min(9.0, 36 * cell)
    longest = 0.075 * font / 9 * max(map(len, names))  # inches
    figure = Figure(figsize=(side + longest + 2.8, side + longest + 1.2), layout="constrained")
    figure.suptitle(title)
    axes, bars = figure.subplots(1, 2, sharey=True, width_ratios=[side, 1.3])
    last = np.arange(len(names))[:, None] == len(classes)
    # Surplus boxes are not a share of a class: grey sets them apart.
    for rows, colours in ((~last, "Blues"), (last, "Greys")):
        hidden = np.broadcast_to(~rows, shares.shape)
        # The root of the share, so that a few mistakes among many objects can be seen at all.
        image = np.ma.masked_where(hidden, shares)
        axes.imshow(image, cmap=colours, norm=PowerNorm(0.5, 0, 1), aspect="auto")  # as high as the bars next to it
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 0.35 else "black"
        count = str(counts[row, column])
        # Not in the layout, which would be most of the time a large matrix takes.
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=0.8 * font, in_layout=False)
    recall = [
        f"{name}  {share:.0%}" if total else name
        for name, share, total in zip(names[:-1], shares.diagonal(), totals, strict=False)
    ]
    axes.set_xticks(range(len(names)), names, rotation=90 if longest > cell else 0, fontsize=font)
    axes.set_yticks(range(len(names)), [*recall, BACKGROUND], fontsize=font)
    axes.set(xlabel="predicted class; background: missed", ylabel="true class, and its recall")
    _separate(axes, [genus(classes[i]) for i in order])
    bars.barh(range(len(classes)), totals[:-1], color=BLUE)
    for row, total in enumerate(totals):
        caption = f" {total}" if row < len(classes) else f" {total} surplus boxes"
        bars.text(total if row < len(classes) else 0, row, caption, va="center", fontsize=max(5.0, 0.8 * font))
    bars.set(xlim=(0, 1.4 * max(1, totals[:-1].max(initial=0))), xticks=[], xlabel="objects")
    bars.tick_params(left=False)
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    save(figure, path)


def _separate(axes: Axes, genera: Sequence[str]) -> None:
    """Draw lines between genera, if any genus has several classes, and before the background."""
    edges = [i for i in range(1, len(genera)) if genera[i - 1] != genera[i]] if len({*genera}) < len(genera) else []
    for edge, colour, width in (*((edge, GREY, 0.4) for edge in edges), (len(genera), "black", 0.8)):
        axes.axhline(edge - 0.5, color=colour, linewidth=width)
        axes.axvline(edge - 0.5, color=colour, linewidth=width)


def precision_recall(curves: Mapping[str, Curve], path: Path, title: str) -> None:
    """Plot the precision-recall curve of every class that has objects, and the mean over classes.

    Args:
        curves: curves by class name.
        path: image file to write; its suffix sets the format.
        title: title of the figure; it should state the IoU threshold.
    """
    there = {name: curve for name, curve in curves.items() if curve.objects}
    figure = Figure(figsize=(7.2, 6), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    few = len(there) <= len(STYLES)
    by_precision = colormaps["viridis"]
    for (name, curve), style in zip(there.items(), STYLES if few else [{}] * len(there), strict=False):
        if few:
            label = f"{shortened(name)}: AP {curve.average_precision:.3f}, {curve.objects} objects"
            axes.plot(curve.recall, curve.precision, **style, linewidth=1.2, label=label)
        else:
            shade = by_precision(curve.average_precision)
            axes.plot(RECALLS, curve.interpolated(), color=shade, linewidth=0.7, alpha=0.7)
    if len(there) > 1:
        mean = np.mean([curve.interpolated() for curve in there.values()], axis=0)
        axes.plot(RECALLS, mean, color="black", linewidth=2, label=f"mean of {len(there)} classes: {mean.mean():.3f}")
    if not few:
        figure.colorbar(ScalarMappable(Normalize(0, 1), by_precision), ax=axes, label="average precision of a class")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    _quiet(axes)
    if there:
        figure.legend(loc="outside lower center", ncols=2 if len(there) > 3 else 1, frameon=False, fontsize="small")
    save(figure, path)


def metrics_over_epochs(
    epochs: Sequence[int], scores: Mapping[str, Sequence[BoxScores]], path: Path, title: str
) -> None:
    """Plot the COCO metrics of each epoch's checkpoint over the epochs.

    Args:
        epochs: epochs of the checkpoints, ascending.
        scores: variant -> one `BoxScores` for each of `epochs`; at most three variants.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    figure.suptitle(title)
    marker = "o" if len(epochs) <= 20 else ""
    panels = (
        ("mean average precision", {"map50": "IoU 0.5", "map": "IoU 0.5 to 0.95", "map75": "IoU 0.75"}),
        ("mAP by size", {"map_large": "large", "map_medium": "medium", "map_small": "small"}),
        ("mean average recall", {"mar10": "10 boxes a class", "mar100": "100", "mar1": "1"}),
    )
    for axes, (what, keys) in zip(figure.subplots(1, 3), panels, strict=True):
        for (variant, values), colour in zip(scores.items(), (BLUE, VERMILION, GREEN), strict=False):
            for key, style in zip(keys, ("--", "-", ":"), strict=True):
                measured = [getattr(each, key) for each in values]
                name = variant if style == "-" else None
                axes.plot(epochs, measured, style, color=colour, marker=marker, markersize=3, label=name)
        styles = [Line2D([], [], color=GREY, linestyle=style) for style in ("--", "-", ":")]
        axes.legend(styles, keys.values(), frameon=False, fontsize="small")
        axes.set(xlabel="epoch", title=what, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _quiet(axes)
    lines = [line for line in figure.axes[0].get_lines() if not str(line.get_label()).startswith("_")]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def thresholds(best: Mapping[str, Threshold], path: Path, title: str) -> None:
    """Plot the score threshold with the best F1 of every class, with its precision and recall.

    Args:
        best: thresholds by class name.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    names = [shortened(name) for name in best]
    rows = np.arange(len(names))
    font = 9 if len(names) <= 25 else 7
    figure = Figure(
        figsize=(8.5, max(2.2, (0.3 if len(names) <= 25 else 0.17) * len(names) + 1.4)), layout="constrained"
    )
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    values = {key: [getattr(each, key) for each in best.values()] for key in ("f1", "precision", "recall", "score")}
    left.barh(rows, values["f1"], color=BLUE, alpha=0.35, label="F1")
    for key, mark, colour in (("precision", "o", BLUE), ("recall", "D", VERMILION)):
        left.plot(values[key], rows, mark, color=colour, markersize=4.5, label=key)
    for row, each in enumerate(best.values()):
        if np.isnan(each.f1):
            left.text(0.01, row, "no objects", va="center", color=GREY, fontsize=0.9 * font)
    left.set(xlabel="with the threshold on the right", xlim=(0, 1.02), ylim=(len(names) - 0.4, -0.6))
    left.set_yticks(rows, names, fontsize=font)
    right.hlines(rows, 0, values["score"], color=GREY, linewidth=1)
    right.plot(values["score"], rows, "o", color=GREY, markersize=4.5)
    right.set(xlabel="score threshold", xlim=(0, 1.02))
    for axes in (left, right):
        axes.set_xticks(ticks := (0, 0.25, 0.5, 0.75, 1), [f"{tick:g}" for tick in ticks])
        _quiet(axes)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def nms_sweep(rows: Sequence[NmsResult], chosen: NmsResult, path: Path, title: str) -> None:
    """Plot duplicates, lost objects and scores against the NMS threshold.

    Args:
        rows: the result without NMS, then one for each threshold, ascending.
        chosen: the row to mark.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    before, *tried = rows
    x = [row.threshold for row in tried]
    figure = Figure(figsize=(12.5, 4), layout="constrained")
    figure.suptitle(title)
    panels: tuple[tuple[str, dict[str, tuple[str, str]]], ...] = (
        ("boxes and objects", {"duplicates": ("duplicates left", BLUE), "lost": ("objects lost", VERMILION)}),
        (
            "at the score threshold",
            {"f1": ("F1", BLUE), "precision": ("precision", VERMILION), "recall": ("recall", GREEN)},
        ),
        ("over all scores", {"map": ("mAP", BLUE)}),
    )
    for axes, (what, lines) in zip(figure.subplots(1, 3), panels, strict=True):
        for key, (name, colour) in lines.items():
            axes.plot(x, [getattr(row, key) for row in tried], "o-", color=colour, markersize=4, label=name)
            axes.axhline(getattr(before, key), color=colour, linewidth=0.8, linestyle="--")
        if chosen.threshold is not None:
            axes.axvline(chosen.threshold, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel="NMS threshold, IoU")
        axes.set_title(what, pad=22)
        _quiet(axes)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")
    counts, *shares = figure.axes
    counts.set_ylim(0, max(1.0, counts.get_ylim()[1]))
    counts.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in shares:  # a change in the fourth decimal must not appear large
        low, high = axes.get_ylim()
        more = max(0.0, LEAST_SPAN - (high - low)) / 2
        axes.set_ylim(low - more, high + more)
    handles = [Line2D([], [], color=GREY, linestyle="--", label="without NMS")]
    if chosen.threshold is not None:
        handles.append(Line2D([], [], color="black", linestyle=":", label="best F1"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def shortened(name: str) -> str:
    """Shorten a name to fit next to a row: 32 characters, enough for both words of a species."""
    return name if len(name) <= 32 else name[:31] + "…"


def _quiet(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
