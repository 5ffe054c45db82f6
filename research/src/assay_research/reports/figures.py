"""Figures of any run: how it learned, and at which rate it would."""

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
    """Write a figure whole or not at all; the path's suffix chooses the format."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)  # a dollar sign in a name is no formula
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix("."), dpi=DPI)
    write_atomically(drawn.getvalue(), path)


def learning_curves(history: Sequence[dict[str, float]], metric: Metric, path: Path, title: str) -> None:
    """Draw loss and score of training and validation over the epochs, with the best epoch marked.

    Args:
        history: a record an epoch: epoch, train_loss, val_loss, and the metric of validation, and of training where it
            was measured.
        metric: what the best epoch has most of.
        path: the image file to write; its suffix chooses the format.
        title: of the figure.
    """
    best = max(history, key=lambda record: (record[metric.val], -record["val_loss"]))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(f"{title}: best epoch {best['epoch']:.0f}, validation {metric.name} {best[metric.val]:.4f}")
    epochs = [record["epoch"] for record in history]
    # A few epochs get a mark each; one alone would not show as a line at all.
    marker = "o" if len(history) <= 20 else ""
    for axes, key, label in zip(figure.subplots(1, 2), ("loss", metric.key), ("loss", metric.name), strict=True):
        for split, name, colour, style in (("train", "training", BLUE, "--"), ("val", "validation", VERMILION, "-")):
            values = [record[f"{split}_{key}"] for record in history if f"{split}_{key}" in record]
            if not values:  # of a detector, nobody asks how it does while it trains
                continue
            axes.plot(epochs, values, style, color=colour, marker=marker, markersize=3, label=name)
        axes.axvline(best["epoch"], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(best["epoch"], best[f"val_{key}"], "o", color=VERMILION, markersize=7, fillstyle="none")
        over_epochs(axes, label)
        axes.legend(frameon=False)
    save(figure, path)


def rate_range(rates: Sequence[float], losses: Sequence[float], path: Path, title: str) -> None:
    """Draw training loss against a learning rate that rose from step to step.

    Args:
        rates: of each step.
        losses: smoothed, nats, of each step.
        path: the image file to write; its suffix chooses the format.
        title: of the figure.
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
    """Dress a panel whose horizontal axis counts epochs."""
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def short(name: str, length: int) -> str:
    """A name that fits over a small image."""
    return name if len(name) <= length else name[: length - 1] + "…"


def brief(name: str) -> str:
    """A class' name for over a small image; a species' genus by its first letters, as biologists write it.

    They are two, and the whole has as many characters as it takes to tell Gomphonema from Gyrosigma acuminatum and
    Navicula cryptotenella from N. cryptotenelloides.
    """
    genus, _, rest = name.partition(" ")
    return short(name if len(name) <= 16 or not rest else f"{genus[:2]}. {rest}", 18)


def tail(name: str, length: int) -> str:
    """The end of a name, which tells images apart; its beginning is a folder that many share."""
    name = name if len(name) <= length else name.rpartition("/")[2]
    return name if len(name) <= length else "…" + name[1 - length :]
