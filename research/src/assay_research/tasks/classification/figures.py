"""Figures of a classifier: predictions, worst mistakes, confusion matrix, calibration, and scores over epochs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay_research.reports.figures import brief, over_epochs, save, short, tail
from assay_research.reports.palette import BLUE, GREEN, GREY, VERMILION
from assay_research.tasks.classification.metrics import Reliability

FEW = 25
"""Largest number of classes for which the cells of a confusion matrix show their counts."""

LONGEST = 32
"""Largest number of characters of a class name next to a confusion matrix."""


def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str) -> None:
    """Plot a confusion matrix, one row per true class, coloured by the share of the row's images.

    Args:
        confusion: number of images by ``[true class][predicted class]``.
        classes: names of the classes.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    counts = np.asarray(confusion)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    few = len(classes) <= FEW
    size = 9 if few else max(2.0, 450 / len(classes))
    names = [short(name, LONGEST) for name in classes]
    longest = 0.075 * size / 9 * max(map(len, names))  # inches
    side = max(5.0, 0.5 * len(classes) + 1.2) if few else 11.0
    figure = Figure(figsize=(side + longest + 1.2, side + longest), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    # The root of the share, so that a few mistakes among many right answers can be seen at all.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    rows = [f"{name}  {share:.1%}" for name, share in zip(names, shares.diagonal(), strict=True)]
    ticks = range(len(classes))
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=size)
    axes.set_yticks(ticks, rows, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class, and its accuracy")
    if few:
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "white" if shares[row, column] > 0.35 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    save(figure, path)


def reliability_diagram(bins: Reliability, path: Path, title: str) -> None:
    """Plot accuracy against confidence and a histogram of confidence (Guo et al., arXiv:1706.04599, figure 1).

    Args:
        bins: predictions in bins of equal width over [0, 1].
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    count, confidence, accuracy = (np.asarray(each) for each in (bins.count, bins.confidence, bins.accuracy))
    width = 1 / len(count)
    left = np.arange(len(count)) * width
    filled = count > 0
    figure = Figure(figsize=(5, 6), layout="constrained")
    figure.suptitle(f"{title}\nECE {bins.ece:.4f}")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    x, y = confidence[filled], accuracy[filled]
    above.bar(left[filled], y, width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    above.vlines(x, x, y, color=VERMILION, linewidth=3, label="gap to mean confidence", zorder=3)
    above.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="calibrated", zorder=4)
    above.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    below.bar(left, count / count.sum(), width, align="edge", color=GREY, edgecolor="white")
    below.set(xlabel="confidence", ylabel="share of predictions")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def worst_mistakes(
    images: NDArray[np.uint8],
    names: Sequence[str],
    truths: Sequence[str],
    answers: Sequence[str],
    confidence: Sequence[float],
    path: Path,
    title: str,
) -> None:
    """Plot the wrong predictions with the highest confidence; with no images, the figure's title says so.

    Args:
        images: uint8 ``[n, height, width, 3]``.
        names: names of the images.
        truths: names of the true classes.
        answers: names of the predicted classes.
        confidence: probability of each predicted class, in [0, 1].
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    columns, rows = min(8, max(4, len(images))), max(1, math.ceil(len(images) / 8))
    figure = Figure(figsize=(1.6 * columns, 2.1 * rows + 0.5), layout="constrained")
    figure.suptitle(title if len(images) else f"{title}: none")
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(images) :]:
        axes.set_axis_off()
    captions = zip(images, names, truths, answers, confidence, strict=True)
    for axes, (image, name, truth, answer, sure) in zip(grid.flat, captions, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=VERMILION, linewidth=2)
        caption = f"{brief(answer)} {sure:.1%}\nis {brief(truth)}"
        axes.set_title(caption, fontsize=7.5, color=VERMILION, fontweight="bold")
        axes.set_xlabel(tail(name, 22), fontsize=6, color=GREY)
    save(figure, path)


def sample_predictions(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Plot images with their predicted class and its probability; wrong predictions are marked.

    Args:
        images: uint8 ``[n, height, width, 3]``.
        labels: int ``[n]``, indices of the true classes.
        probabilities: float ``[n, classes]``.
        classes: names of the classes.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    columns = min(8, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.8 * rows + 0.4), layout="constrained")
    predicted = probabilities.argmax(1)
    right = int((predicted == labels).sum())
    figure.suptitle(f"{title}: {right} of these {len(images)} correct")
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(images) :]:
        axes.set_axis_off()
    for axes, image, truth, guess, scores in zip(grid.flat, images, labels, predicted, probabilities, strict=False):
        correct = guess == truth
        colour = BLUE if correct else VERMILION
        axes.imshow(image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=colour, linewidth=1.5 if correct else 4)
        # Only mistakes have a second line, the true class, so that they can be found without colour too.
        caption = f"{brief(classes[guess])} {scores[guess]:.0%}"
        axes.set_title(
            caption if correct else f"{caption}\nis {brief(classes[truth])}",
            fontsize=7.5,
            color=colour,
            fontweight="normal" if correct else "bold",
        )
    save(figure, path)


def metrics_over_epochs(
    epochs: Sequence[int], metrics: Mapping[str, Mapping[str, Sequence[float]]], path: Path, title: str
) -> None:
    """Plot the metrics of each epoch's checkpoint over the epochs.

    Args:
        epochs: epochs of the checkpoints, ascending.
        metrics: variant -> metric -> one value for each of `epochs`. The metrics are cross_entropy (nats), top1,
            top5 and ece (all in [0, 1]); there are at most three variants.
        path: image file to write; its suffix sets the format.
        title: title of the figure.
    """
    figure = Figure(figsize=(12.5, 4), layout="constrained")
    figure.suptitle(title)
    marker = "o" if len(epochs) <= 20 else ""
    panels = (
        (("cross_entropy",), "cross-entropy, nats"),
        (("top1", "top5"), "accuracy: top-1 solid, top-5 dotted"),
        (("ece",), "expected calibration error"),
    )
    for axes, (keys, label) in zip(figure.subplots(1, 3), panels, strict=True):
        for (variant, values), colour in zip(metrics.items(), (BLUE, VERMILION, GREEN), strict=False):
            for key, style in zip(keys, ("-", ":"), strict=False):
                axes.plot(epochs, values[key], style, color=colour, marker=marker, markersize=3, label=variant)
        over_epochs(axes, label)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)
