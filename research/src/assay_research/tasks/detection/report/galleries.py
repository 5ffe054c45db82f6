"""Figures of images with a detector's boxes and the ground truth: predictions, and galleries of each kind of error."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.reports.figures import brief, save, tail
from assay_research.reports.palette import BLUE, GREY, VERMILION
from assay_research.tasks.detection.report.errors import (
    IOU,
    NONE,
    DetectionKind,
    Errors,
    Floats,
    Matching,
    ObjectStatus,
    classify,
    match,
)

CASES = 32
"""Largest number of images in a gallery."""

CONTEXT = 2.0
"""Side of a crop, as a multiple of the longest side of its boxes."""

SMALLEST = 48
"""Smallest side of a crop in pixels: below it, single pixels dominate."""

FEW = 8
"""Largest number of boxes in an image for which every box is labelled."""


class Case(NamedTuple):
    """One error: indices of its object and detection in a matching; either may be `NONE`."""

    object: int
    detection: int


def cases(matching: Matching, errors: Errors, kind: DetectionKind | None) -> list[Case]:
    """Return the errors of one kind, the worst first.

    Args:
        matching: all detections, matched to the objects.
        errors: their classification.
        kind: kind of the detections, sorted by descending score; None for missed objects, by descending area.
    """
    if kind is None:
        missed = np.flatnonzero(errors.status == ObjectStatus.MISSED)
        sides = matching.objects.box[missed, 2:] - matching.objects.box[missed, :2]
        return [Case(int(i), NONE) for i in missed[np.argsort(-sides.prod(1), kind="stable")]]
    wrong = np.flatnonzero(errors.kind == kind)
    return [Case(int(errors.partner[i]), int(i)) for i in wrong[np.argsort(-matching.score[wrong], kind="stable")]]


def gallery(
    matching: Matching,
    errors: Errors,
    chosen: Sequence[Case],
    split: BoxSplit,
    canvas: Canvas,
    path: Path,
    title: str,
) -> None:
    """Plot errors, each as a crop of its image; with no errors, the figure's title says so.

    Args:
        matching: all detections, matched to the objects.
        errors: their classification.
        chosen: the errors to show, in order.
        split: the images and the ground truth.
        canvas: canvas that the images were placed on.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    columns, rows = min(8, max(4, len(chosen))), math.ceil(len(chosen) / 8)
    figure = Figure(figsize=(1.75 * columns, 2.25 * rows + 0.8), layout="constrained")
    figure.suptitle(title if chosen else f"{title}: none")
    if not chosen:
        save(figure, path)
        return
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    for axes, case in zip(grid.flat, chosen, strict=False):
        _draw_case(axes, matching, errors, case, split, canvas)
    handles = [
        Line2D([], [], color=BLUE, linewidth=2, label="object"),
        Line2D([], [], color=VERMILION, linewidth=2, linestyle="--", label="detection"),
        Line2D([], [], color=GREY, linewidth=0.8, label="thin: other boxes"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    save(figure, path)


def _draw_case(axes: Axes, matching: Matching, errors: Errors, case: Case, split: BoxSplit, canvas: Canvas) -> None:
    objects, detections = matching.objects, matching.detections
    subject = [boxes.box[i] for boxes, i in ((objects, case.object), (detections, case.detection)) if i != NONE]
    image = int(detections.image[case.detection] if case.object == NONE else objects.image[case.object])
    around = _window(canvas, split, image)
    left, top, right, bottom = crop(np.array(subject), around)
    axes.imshow(split.images[image, top:bottom, left:right].numpy(), extent=(left, right, bottom, top))
    for i in np.flatnonzero((objects.image == image) & ~matching.ignored):
        _box(axes, objects.box[i], BLUE, "-", 2.2 if i == case.object else 0.8)
    for i in np.flatnonzero((detections.image == image) & (errors.kind != DetectionKind.LEFT_OUT)):
        _box(axes, detections.box[i], VERMILION, "--", 2.2 if i == case.detection else 0.8)
    # Always square, also at the image's edge, so that all titles of a row are at one height.
    side = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    axes.set(xlim=(x - side, x + side), ylim=(y + side, y - side), xticks=[], yticks=[], facecolor="0.92")
    axes.set_title(_caption(matching, errors, case), fontsize=7.5, color=VERMILION, fontweight="bold")
    axes.set_xlabel(tail(split.names[image], 24), fontsize=6, color=GREY)


def _caption(matching: Matching, errors: Errors, case: Case) -> str:
    """Describe an error in two lines."""
    truth = brief(matching.classes[matching.objects.label[case.object]]) if case.object != NONE else ""
    if case.detection == NONE:
        return f"missed\n{truth}"
    i = case.detection
    answer = f"{brief(matching.classes[matching.detections.label[i]])} {matching.score[i]:.0%}"
    match errors.kind[i]:
        case DetectionKind.CONFUSED:
            return f"{answer}\nis {truth}"
        case DetectionKind.DUPLICATE:
            return f"{answer}\nduplicates {matching.score[errors.by[case.object]]:.0%}"
        case DetectionKind.BADLY_PLACED:
            return f"{answer}\nIoU {_overlap(matching, case):.2f}"
    return f"{answer}\nis background"


def _overlap(matching: Matching, case: Case) -> float:
    """Return the IoU of an error's object and detection."""
    image = matching.objects.image[case.object]
    row, column = (
        i - np.searchsorted(boxes.image, image)
        for boxes, i in ((matching.detections, case.detection), (matching.objects, case.object))
    )
    return float(matching.overlaps[image][row, column])


def predictions(
    found: Sequence[Found],
    split: BoxSplit,
    canvas: Canvas,
    classes: Sequence[str],
    score: float,
    path: Path,
    title: str,
    iou: float = IOU,
) -> None:
    """Plot whole images with correct and wrong detections and objects that were not found.

    Args:
        found: detections of each image of the split, in canvas pixels.
        split: the images to show, and the ground truth.
        canvas: canvas that the images were placed on.
        classes: names of the classes, in the order of the labels.
        score: score threshold; detections with a lower score are not shown.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
        iou: IoU threshold: the smallest IoU of a detection with the object that it matches.
    """
    matching = match(found, split, canvas, classes, iou)
    errors = classify(matching, score)
    columns = min(4, len(split))
    rows = math.ceil(len(split) / columns)
    shape = np.mean([(size[0] / size[1]).item() for size in split.sizes])  # height by width
    figure = Figure(figsize=(3.4 * columns, (3.4 * shape + 0.25) * rows + 0.9), layout="constrained")
    there = len(errors.status) - errors.count_objects(ObjectStatus.IGNORED)
    figure.suptitle(
        f"{title}: {errors.count_objects(ObjectStatus.FOUND)} of these {there} objects found, score >= {score:.2f}"
    )
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(split) :]:
        axes.set_axis_off()
    for image, axes in zip(range(len(split)), grid.flat, strict=False):
        _draw_image(axes, matching, errors, image, split, canvas)
    handles = [
        Line2D([], [], color=BLUE, linewidth=1.5, label="correct"),
        Line2D([], [], color=VERMILION, linewidth=2, label="wrong"),
        Line2D([], [], color="black", linewidth=1.5, linestyle="--", label="not found"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def _draw_image(axes: Axes, matching: Matching, errors: Errors, image: int, split: BoxSplit, canvas: Canvas) -> None:
    left, top, right, bottom = _window(canvas, split, image)
    axes.imshow(split.images[image, top:bottom, left:right].numpy(), extent=(left, right, bottom, top))
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    shown = np.flatnonzero((matching.detections.image == image) & (errors.kind != DetectionKind.LEFT_OUT))
    lost = np.isin(errors.status, (ObjectStatus.MISSED, ObjectStatus.CONFUSED)) & (matching.objects.image == image)
    few = len(shown) + lost.sum() <= FEW
    for i in np.flatnonzero(lost):
        box, name = matching.objects.box[i], matching.classes[matching.objects.label[i]]
        _box(axes, box, "black", "--", 1.5)
        _name(axes, box, brief(name), "black", below=True)
    for i in shown:
        box, right_one = matching.detections.box[i], errors.kind[i] == DetectionKind.CORRECT
        colour = BLUE if right_one else VERMILION
        _box(axes, box, colour, "-", 1.2 if right_one else 2)
        if few or not right_one:
            answer = f"{brief(matching.classes[matching.detections.label[i]])} {matching.score[i]:.0%}"
            # A correct detection of the same object has its label above the box.
            partner = errors.partner[i]
            _name(
                axes,
                box,
                answer,
                colour,
                not right_one and partner != NONE and errors.status[partner] == ObjectStatus.FOUND,
            )
    axes.set_title(tail(split.names[image], 40), fontsize=7, color=GREY)


def crop(boxes: Floats, around: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return a square around boxes, with some context, moved to lie within their image.

    Args:
        boxes: float ``[n, 4]``: left, top, right, bottom in pixels.
        around: left, top, right, bottom of the image.

    Returns:
        Left, top, right and bottom in whole pixels; not a square if the image is too narrow for one.
    """
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    side = max(SMALLEST, CONTEXT * (high - low).max())
    edges = []
    for middle, begin, end in zip((low + high) / 2, around[:2], around[2:], strict=True):
        length = min(round(side), end - begin)
        start = min(max(round(middle - length / 2), begin), end - length)
        edges.append((start, start + length))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _window(canvas: Canvas, split: BoxSplit, image: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of an image on its canvas."""
    height, width = split.sizes[image].tolist()
    top, left, tall, wide = canvas.window(height, width)
    return left, top, left + wide, top + tall


def _box(axes: Axes, box: Floats, colour: str, style: str, width: float) -> None:
    left, top, right, bottom = box
    patch = Rectangle(
        *((left, top), right - left, bottom - top), fill=False, edgecolor=colour, linestyle=style, linewidth=width
    )
    axes.add_patch(patch)


def _name(axes: Axes, box: Floats, label: str, colour: str, below: bool) -> None:
    """Write a label below or above a box, or inside it at the image's edge."""
    left, _ = axes.get_xlim()
    bottom, top = axes.get_ylim()
    room = 0.06 * (bottom - top)
    outside = bottom - box[3] > room if below else box[1] - top > room
    axes.text(
        max(box[0], left),
        min(box[3], bottom) if below else max(box[1], top),
        label,
        fontsize=5.5,
        color="white",
        va="top" if below == outside else "bottom",
        clip_on=True,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )
