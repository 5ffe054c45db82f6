"""Image galleries of a data set: samples with boxes, one object per class, outliers, near-duplicates, empty images."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from assay_research.reports.curves import COLOURS
from assay_research.reports.dataset.collection import SPLITS, Collection
from assay_research.reports.dataset.figures import shorten
from assay_research.reports.dataset.near_duplicates import Pairs
from assay_research.reports.figures import brief, save, tail
from assay_research.reports.palette import GREY, VERMILION

SAMPLES = 12
SPECIMENS = 72
CROPS = 16
PAIRS = 8
EMPTY = 8

CONTEXT = 0.25
"""Margin around a box in a crop, as a fraction of the box's longer side."""


def samples(collection: Collection, path: Path, title: str, seed: int = 0) -> None:
    """Plot random images with their boxes and classes."""
    with_objects = np.unique(collection.owners)
    chosen = np.random.default_rng(seed).permutation(with_objects)[:SAMPLES]
    figure, cells = _grid(len(chosen), 3, 3.3, 3.3 * _tallness(collection, chosen) + 0.25)
    figure.suptitle(title)
    for axes, i in zip(cells, chosen.tolist(), strict=False):
        axes.imshow(collection.images[i])
        top, left, height, width = collection.canvas.window(*collection.sizes[i].tolist())
        axes.set(xlim=(left - 0.5, left + width - 0.5), ylim=(top + height - 0.5, top - 0.5))
        members = np.flatnonzero(collection.owners == i)
        for j in members.tolist():
            _box(axes, collection, j, named=len(members) <= 40)
        classes = {collection.classes[label] for label in collection.labels[members]}
        of = ", ".join(sorted(classes)) if collection.canvas_boxes is None else SPLITS[collection.splits[i]]
        axes.set_title(f"{tail(collection.names[i], 40)}  ({shorten(of, 20)})", fontsize=7, color=GREY)
    save(figure, path)


def specimens(collection: Collection, side: NDArray[np.float64], path: Path, title: str) -> None:
    """Plot one typical object of every class: nearest to the median size, and not cut off at an edge if possible.

    Args:
        collection: a collection with boxes.
        side: square root of the area of each box on the canvas, in pixels.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    boxes, tall_wide = collection.boxes(), collection.sizes[collection.owners]
    inside = np.hstack([boxes[:, :2] > 1, boxes[:, 2:] < tall_wide[:, ::-1] - 1])
    whole = np.asarray(inside.all(1))
    labels = [label for label in range(len(collection.classes)) if (collection.labels == label).any()][:SPECIMENS]
    columns = min(9, max(5, math.ceil(math.sqrt(len(labels) * 1.6))))
    figure, cells = _grid(len(labels), columns, 10 / columns, 10 / columns + 0.35)
    figure.suptitle(title)
    for axes, label in zip(cells, labels, strict=False):
        members = np.flatnonzero(collection.labels == label)
        members = members[whole[members]] if whole[members].any() else members
        typical = members[np.abs(side[members] - np.median(side[members])).argmin()]
        _crop(axes, collection, int(typical))
        lines = textwrap.wrap(shorten(collection.classes[label], 34), 17)[:2]
        axes.set_title("\n".join(lines), fontsize=7)
    save(figure, path)


def outliers(collection: Collection, found: Sequence[tuple[int, str]], path: Path, title: str) -> None:
    """Plot objects with a size or shape that is unusual for their class.

    Args:
        collection: a collection with boxes.
        found: index of each object, and a short description of its deviation.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    found = found[:CROPS]
    figure, cells = _grid(len(found), 8, 1.25, 1.7)
    figure.suptitle(title)
    for axes, (i, what) in zip(cells, found, strict=False):
        _crop(axes, collection, i)
        axes.add_patch(_rectangle(collection, i, VERMILION))
        caption = f"{brief(collection.classes[collection.labels[i]])}\n{what}"
        axes.set_title(caption, fontsize=7)
        axes.set_xlabel(tail(collection.names[collection.owners[i]], 22), fontsize=6, color=GREY)
    save(figure, path)


def pairs(collection: Collection, found: Pairs, path: Path, title: str) -> None:
    """Plot near-duplicate images side by side; pairs in different splits have a coloured frame."""
    shown = min(PAIRS, len(found))
    both = np.stack([found.first[:shown], found.second[:shown]], axis=1)
    columns = min(2, shown)
    figure, cells = _grid(2 * shown, 2 * columns, 2.5, 2.5 * _tallness(collection, both.ravel()) + 0.35)
    figure.suptitle(title)
    images = collection.unpadded()
    for axes, i, similarity in zip(cells, both.ravel().tolist(), found.similarity.repeat(2), strict=False):
        axes.imshow(images[i])
        axes.set_title(tail(collection.names[i], 34), fontsize=7)
        axes.set_xlabel(f"{SPLITS[collection.splits[i]]}, similarity {similarity:.2f}", fontsize=7, color=GREY)
    leaks = (collection.splits[both[:, 0]] != collection.splits[both[:, 1]]).repeat(2)
    for axes, leak in zip(cells, leaks, strict=False):
        axes.spines[:].set(color=VERMILION if leak else GREY, linewidth=3 if leak else 0.5)
    save(figure, path)


def empty(collection: Collection, chosen: NDArray[np.int64], path: Path, title: str) -> None:
    """Plot images without annotations."""
    chosen = chosen[:EMPTY]
    figure, cells = _grid(len(chosen), 4, 2.5, 2.5 * _tallness(collection, chosen) + 0.25)
    figure.suptitle(title)
    images = collection.unpadded()
    for axes, i in zip(cells, chosen.tolist(), strict=False):
        axes.imshow(images[i])
        axes.set_title(f"{tail(collection.names[i], 28)}  ({SPLITS[collection.splits[i]]})", fontsize=7, color=GREY)
    save(figure, path)


def _grid(n: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Create a figure with n cells without ticks; width and height of a cell are in inches."""
    columns = max(2, min(columns, n))
    rows = max(1, math.ceil(n / columns))
    figure = Figure(figsize=(width * columns, height * rows + 0.45), layout="constrained")
    cells: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(cells.flat):
        axes.set(xticks=[], yticks=[])
        if i >= n:
            axes.set_axis_off()
        axes.spines[:].set_visible(i < n)
        axes.spines[:].set(color=GREY, linewidth=0.5)
    return figure, list(cells.flat)


def _tallness(collection: Collection, chosen: NDArray[np.int64]) -> float:
    """Largest height / width of the images, limited to 0.4 to 1.6."""
    height, width = collection.sizes[chosen].T
    return float((height / width).max(initial=0.4).clip(max=1.6))


def _crop(axes: Axes, collection: Collection, i: int) -> None:
    """Plot an object and its surroundings from the canvas, within the image if it is large enough."""
    assert collection.canvas_boxes is not None
    owner = int(collection.owners[i])
    top, left, height, width = collection.canvas.window(*collection.sizes[owner].tolist())
    box = collection.canvas_boxes[i].tolist()
    reach = min(max(8.0, (0.5 + CONTEXT) * max(box[2] - box[0], box[3] - box[1])), max(height, width) / 2)
    centre = []
    for low, high, start, length in ((box[0], box[2], left, width), (box[1], box[3], top, height)):
        room = max(0.0, length / 2 - reach)
        middle = start + length / 2
        centre.append(min(max((low + high) / 2, middle - room), middle + room))
    x, y = centre
    axes.imshow(collection.images[owner], interpolation="nearest")
    axes.set(xlim=(x - reach - 0.5, x + reach - 0.5), ylim=(y + reach - 0.5, y - reach - 0.5), facecolor="0.92")


def _rectangle(collection: Collection, i: int, colour: str) -> Rectangle:
    assert collection.canvas_boxes is not None
    left, top, right, bottom = (collection.canvas_boxes[i] - 0.5).tolist()  # pixel centres are at integers
    return Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1)


def _box(axes: Axes, collection: Collection, i: int, named: bool) -> None:
    """Plot the box of an object in the colour of its class, with the class name if `named`."""
    if collection.canvas_boxes is None:
        return
    label = int(collection.labels[i])
    colour = COLOURS[label % len(COLOURS)]
    patch = _rectangle(collection, i, colour)
    axes.add_patch(patch)
    if named:
        frame = {"facecolor": colour, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        ink = "black" if np.mean(to_rgb(colour)) > 0.5 else "white"
        text = brief(collection.classes[label])
        axes.text(*patch.get_xy(), text, fontsize=5, color=ink, va="bottom", bbox=frame, clip_on=True)
