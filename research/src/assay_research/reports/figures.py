"""Figures of a run, its learning curves and learning-rate range test, and helpers for other figures."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from assay_research.reports.palette import BLUE, GREY, VERMILION
from assay_research.runs.disk import write_atomically
from assay_research.runs.score import Metric

DPI = 150


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically; the path's suffix selects the format."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)  # a dollar sign in a name does not start a formula
    image = BytesIO()
    figure.savefig(image, format=path.suffix.removeprefix("."), dpi=DPI)
    write_atomically(image.getvalue(), path)


def learning_curves(history: Sequence[dict[str, float]], metric: Metric, path: Path, title: str) -> None:
    """Plot loss and score of training and validation over the epochs, with the best epoch marked.

    Args:
        history: one record per epoch with epoch, train_loss, val_loss, the validation metric and, if it was measured,
            the training metric.
        metric: the metric that is largest in the best epoch.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    best = max(history, key=lambda record: (record[metric.val], -record["val_loss"]))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(f"{title}: best epoch {best['epoch']:.0f}, validation {metric.name} {best[metric.val]:.4f}")
    epochs = [record["epoch"] for record in history]
    # With few epochs each has a marker: a single epoch would not be visible as a line.
    marker = "o" if len(history) <= 20 else ""
    for axes, key, label in zip(figure.subplots(1, 2), ("loss", metric.key), ("loss", metric.name), strict=True):
        for split, name, colour, style in (("train", "training", BLUE, "--"), ("val", "validation", VERMILION, "-")):
            values = [record[f"{split}_{key}"] for record in history if f"{split}_{key}" in record]
            if not values:  # the training score of a detector is not measured
                continue
            axes.plot(epochs, values, style, color=colour, marker=marker, markersize=3, label=name)
        axes.axvline(best["epoch"], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(best["epoch"], best[f"val_{key}"], "o", color=VERMILION, markersize=7, fillstyle="none")
        over_epochs(axes, label)
        axes.legend(frameon=False)
    save(figure, path)


def rate_range(rates: Sequence[float], losses: Sequence[float], path: Path, title: str) -> None:
    """Plot training loss against the learning rate of a learning-rate range test.

    Args:
        rates: learning rate of each step, in ascending order.
        losses: smoothed training loss of each step in nats.
        path: the image file to write; its suffix selects the format.
        title: title of the figure.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color=BLUE)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, nats, smoothed", title=title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def over_epochs(axes: Axes, label: str) -> None:
    """Format axes with epochs on the x axis."""
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def short(name: str, length: int) -> str:
    """Shorten a name to at most `length` characters."""
    return name if len(name) <= length else name[: length - 1] + "…"


def brief(name: str) -> str:
    """Shorten a class name to at most 18 characters; the genus of a species name is abbreviated to two letters.

    Two letters distinguish Gomphonema from Gyrosigma acuminatum, and 18 characters distinguish Navicula cryptotenella
    from N. cryptotenelloides.
    """
    genus, _, rest = name.partition(" ")
    return short(name if len(name) <= 16 or not rest else f"{genus[:2]}. {rest}", 18)


def tail(name: str, length: int) -> str:
    """Shorten an image name to its end, which is unique; its beginning is usually a shared folder."""
    name = name if len(name) <= length else name.rpartition("/")[2]
    return name if len(name) <= length else "…" + name[1 - length :]
