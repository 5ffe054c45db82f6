"""Figures of a data set: class frequencies, objects per image, and sizes and positions of the boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from assay_research.reports.curves import COLOURS
from assay_research.reports.dataset.collection import SPLITS
from assay_research.reports.figures import save
from assay_research.reports.palette import BLUE, GREEN, GREY, VERMILION

SPLIT_COLOURS = (BLUE, VERMILION, GREEN)

BARS = 80
"""Largest number of classes in a figure."""

OVERLAID = 5
"""Largest number of classes for which each class has its own histogram."""


def classes(counts: NDArray[np.int64], names: Sequence[str], path: Path, title: str) -> None:
    """Plot the number of objects of every class, and their fractions in the splits.

    Args:
        counts: number of objects, ``[splits, classes]``.
        names: class names.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    shown = min(len(names), BARS)
    counts, rows = counts[:, :shown], np.arange(shown)
    total = counts.sum(0)
    size = 9.0 if shown <= 25 else 6.5
    figure = Figure(figsize=(9, max(2.2, 0.022 * (size + 3) * shown + 1.4)), layout="constrained")
    figure.suptitle(title if shown == len(names) else f"{title}: the first {shown} of {len(names)}")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    left.barh(rows, total, color=GREY)
    for row, count in enumerate(total):
        left.annotate(f"{count:,}", (count, row), (3, 0), textcoords="offset points", va="center", fontsize=size)
    left.set_yticks(rows, [shorten(name) for name in names[:shown]], fontsize=size)
    left.set(xlabel="objects", xlim=(0, max(1, total.max()) * 1.12), ylim=(shown - 0.4, -0.6))
    start = np.zeros(shown)
    for split, colour, row in zip(SPLITS, SPLIT_COLOURS, counts / total.clip(min=1), strict=True):
        right.barh(rows, row, left=start, color=colour, label=split)
        start += row
    right.set(xlabel="fraction in each split", xlim=(0, 1))
    right.xaxis.set_major_formatter(_percent)
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    save(figure, path)


def objects_per_image(counts: NDArray[np.int64], splits: NDArray[np.int64], path: Path, title: str) -> None:
    """Plot a histogram of the number of objects per image.

    Args:
        counts: number of objects of each image.
        splits: index of each image's split in `SPLITS`.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    most = int(counts.max(initial=1))
    step = -(-(most + 1) // 40)
    edges = np.arange(0, most + 1 + step, step) - 0.5
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    parts = [counts[splits == i] for i in range(len(SPLITS))]
    axes.hist(
        parts, bins=list(edges), stacked=True, color=SPLIT_COLOURS, label=SPLITS, edgecolor="white", linewidth=0.5
    )
    median = float(np.median(counts))
    axes.axvline(median, color="black", linestyle=":", linewidth=1, label=f"median {median:g}")
    axes.set(xlabel="objects per image", ylabel="images")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False)
    _open(axes)
    save(figure, path)


def shapes(
    share: NDArray[np.float64],
    aspect: NDArray[np.float64],
    labels: NDArray[np.int64],
    names: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Plot histograms of the area of boxes, as a fraction of the image, and of their aspect ratio.

    Args:
        share: area of each of n boxes as a fraction of its image's area, in (0, 1].
        aspect: width / height of each box.
        labels: class index of each box.
        names: class names; up to `OVERLAID` classes have a histogram each, which sums to 1.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    figure.suptitle(title)
    panels = ((share, "box area / image area"), (aspect, "aspect ratio (width / height)"))
    for axes, (values, label) in zip(figure.subplots(1, 2), panels, strict=True):
        _histograms(axes, values, labels, names)
        axes.set(xscale="log", xlabel=label, ylabel="fraction of the class" if len(names) <= OVERLAID else "objects")
    figure.axes[0].xaxis.set_major_formatter(_percent)
    figure.axes[0].xaxis.set_minor_formatter(NullFormatter())
    figure.axes[1].axvline(1, color="black", linewidth=1, linestyle=":")
    figure.axes[1].set_xticks(ratios := _ratios(aspect), [f"{ratio:g}" for ratio in ratios], minor=False)
    figure.axes[1].xaxis.minorticks_off()
    _legend(figure, names)
    save(figure, path)


def canvas_sizes(
    side: NDArray[np.float64],
    labels: NDArray[np.int64],
    names: Sequence[str],
    limits: Mapping[int, int],
    path: Path,
    title: str,
) -> None:
    """Plot a histogram of the sizes of objects on the canvas, as the model gets them.

    Args:
        side: square root of the area of each of n boxes on the canvas, in pixels.
        labels: class index of each box.
        names: class names.
        limits: size in pixels -> number of smaller objects.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    _histograms(axes, side, labels, names)
    for limit, smaller in limits.items():
        axes.axvline(limit, color="black", linewidth=1, linestyle=":")
        text = f"< {limit} px\n{smaller / len(side):.1%}"
        axes.annotate(text, (limit, 1), (-4, -4), axes.get_xaxis_transform(), "offset points", ha="right", va="top")
    low, high = min(5.0, side.min() / 1.1), max(40.0, side.max() * 1.1)
    axes.set(xscale="log", xlim=(low, high), xlabel="square root of the area on the canvas, pixels")
    ticks = [tick for tick in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if low <= tick <= high]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.set_ylabel("fraction of the class" if len(names) <= OVERLAID else "objects")
    _legend(figure, names)
    save(figure, path)


def places(maps: Mapping[str, NDArray[np.float64]], aspect: float, path: Path, title: str) -> None:
    """Plot heat maps of the positions of objects in their images.

    Args:
        maps: title of each map -> ``[rows, columns]``, the fraction of the boxes that cover each cell.
        aspect: height / width of a typical image.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    width = 9 / max(2, len(maps))
    figure = Figure(figsize=(width * len(maps), 0.92 * width * aspect + 1.35), layout="constrained")
    figure.suptitle(title)
    grid: NDArray[Any] = figure.subplots(1, len(maps), squeeze=False)
    for axes, (name, values) in zip(grid.flat, maps.items(), strict=True):
        image = axes.imshow(values, cmap="viridis", vmin=0, extent=(0, 1, 1, 0), aspect=aspect)
        axes.set(xticks=[], yticks=[])
        axes.set_title(shorten(name), fontsize="medium")
        scale = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.9).ax.xaxis
        scale.set_major_locator(MaxNLocator(3))
        scale.set_major_formatter(_percent)
    figure.supxlabel("fraction of the objects that cover a point", fontsize="small")
    save(figure, path)


def shorten(name: str, length: int = 28) -> str:
    """Shorten a name to at most `length` characters."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _histograms(axes: Axes, values: NDArray[np.float64], labels: NDArray[np.int64], names: Sequence[str]) -> None:
    """Plot one histogram per class, or a single one if there are many classes, on a logarithmic axis."""
    edges = np.geomspace(values.min() * 0.98, values.max() * 1.02, 49)
    if len(names) > OVERLAID:
        axes.hist(values, bins=list(edges), color=BLUE, edgecolor="white", linewidth=0.5)
    else:
        for label in range(len(names)):
            members = values[labels == label]
            weights = np.full(len(members), 1 / max(1, len(members)))
            for kind, alpha in (("stepfilled", 0.25), ("step", 1.0)):
                style: dict[str, Any] = {"histtype": kind, "color": COLOURS[label], "alpha": alpha}
                axes.hist(members, bins=list(edges), weights=weights, **style)
        axes.yaxis.set_major_formatter(_percent)
    _open(axes)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    if len(names) > OVERLAID:
        return
    handles = [Patch(color=COLOURS[label]) for label in range(len(names))]
    figure.legend(handles, list(map(shorten, names)), loc="outside lower center", ncols=5, frameon=False)


def _percent(share: float, _: object) -> str:
    return f"{100 * share:.6g}%"


def _ratios(aspect: NDArray[np.float64]) -> list[float]:
    ticks = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    return [tick for tick in ticks if min(aspect.min(), 1) * 0.9 <= tick <= max(aspect.max(), 1) * 1.1]


def _open(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
