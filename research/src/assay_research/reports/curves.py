"""Learning curves of several trainings in one figure."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_research.reports.palette import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, VERMILION
from assay_research.runs.disk import write_atomically
from assay_research.runs.score import TOP1, Metric

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY, PINK, BLACK)

STYLES: tuple[tuple[float, tuple[float, ...]], ...] = ((0, ()), (0, (3, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)))


MARKS = "osD^v<>"


FEW = 20
"""Largest number of epochs for which each epoch has a marker."""


@dataclass(frozen=True)
class LearningCurve:
    """Learning curve of one training, with one entry per epoch; None for a value that is not finite.

    Attributes:
        label: text in the legend; curves with the same label share a colour.
        train_loss: training loss in nats.
        val_score: validation score in [0, 1].
        metric: metric of the validation score.
    """

    label: str
    train_loss: Sequence[float | None]
    val_score: Sequence[float | None]
    metric: Metric = TOP1


def draw(curves: Sequence[LearningCurve], path: Path, title: str | None = None, dpi: int = 150) -> None:
    """Plot validation score and training loss over epochs in two panels, with one curve per training.

    Args:
        curves: the curves, in the order of the legend.
        path: the PNG file to write, atomically.
        title: title of the figure; None for no title.
        dpi: pixels per inch; the figure is at least 10 inches wide.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    labels = list(dict.fromkeys(curve.label for curve in curves))
    styles = {label: _style(i, [each for each in curves if each.label == label]) for i, label in enumerate(labels)}
    columns = math.ceil(len(labels) / 20)
    figure = Figure(figsize=(10 + 1.8 * (columns - 1), 4.2), layout="constrained")
    if title:
        figure.suptitle(title)
    metrics = " or ".join(dict.fromkeys(curve.metric.name for curve in curves))
    panels = (("val_score", f"validation {metrics}"), ("train_loss", "training loss"))
    for axes, (key, name) in zip(figure.subplots(1, 2), panels, strict=True):
        for curve in curves:
            values = [math.nan if value is None else value for value in getattr(curve, key)]
            axes.plot(range(1, len(values) + 1), values, **styles[curve.label])
        finite = [v for curve in curves for v in getattr(curve, key) if v is not None and math.isfinite(v)]
        if key == "train_loss" and finite and 0 < 100 * min(finite) < max(finite):
            axes.set_yscale("log")  # a diverged curve would flatten all others
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    numbers = [sum(curve.label == label for curve in curves) for label in labels]
    figure.legend(
        handles=[
            Line2D([], [], **style, label=label + f", {n} runs" * (n > 1))
            for (label, style), n in zip(styles.items(), numbers, strict=True)
        ],
        loc="outside right center",
        frameon=False,
        fontsize="small",
        ncols=columns,
    )
    image = io.BytesIO()
    figure.savefig(image, dpi=dpi, format="png", metadata={"Software": None})
    write_atomically(image.getvalue(), path)


def _style(i: int, curves: Sequence[LearningCurve]) -> dict[str, Any]:
    """Return matplotlib's line style for the curves of the i-th label."""
    # Styles alternate, with dashed lines above solid ones, so that curves with equal values all stay visible.
    pattern = i % 2 + 2 * (i // 14 % 2)
    # With few epochs each has a hollow marker: a single epoch would not be visible as a line.
    plotted = [values for curve in curves for values in (curve.train_loss, curve.val_score)]
    few = any(sum(each is not None for each in values) <= FEW for values in plotted)
    line = {"color": COLOURS[i % 7], "linestyle": STYLES[pattern], "linewidth": 1.3, "zorder": 2 + pattern}
    return line | {"marker": MARKS[i % 7] if few else "", "markersize": 5, "markerfacecolor": "none"}
