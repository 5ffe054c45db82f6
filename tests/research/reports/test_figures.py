"""Figures are written for the histories that runs really have."""

from pathlib import Path

import pytest

from assay_research.reports.figures import learning_curves
from assay_research.reports.palette import BLUE, VERMILION
from assay_research.runs.score import TOP1
from tests.research.pixels import differ, ink


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "lr": 0.1,
            "train_loss": 2 / epoch,
            "train_top1": 1 - 1 / (epoch + 1),
            "val_loss": 2.2 / epoch,
            "val_top1": 0.9 - 1 / (epoch + 1),
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 3, 60])
def test_learning_curves_are_drawn_for_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    learning_curves(history(epochs), TOP1, tmp_path / "curves.png", "digits")
    assert ink(tmp_path / "curves.png", BLUE) > 20
    assert ink(tmp_path / "curves.png", VERMILION) > 20
    worse = history(epochs)
    worse[-1]["val_loss"] += 1
    learning_curves(worse, TOP1, tmp_path / "worse.png", "digits")
    assert differ(tmp_path / "curves.png", tmp_path / "worse.png")


def test_learning_curves_survive_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    diverged = [*history(3), history(4)[-1] | {"train_loss": float("nan"), "val_loss": float("inf")}]
    learning_curves(diverged, TOP1, tmp_path / "curves.png", "diverged")
    learning_curves([*history(3), history(4)[-1]], TOP1, tmp_path / "finite.png", "diverged")
    assert differ(tmp_path / "curves.png", tmp_path / "finite.png")
    assert ink(tmp_path / "curves.png", VERMILION) > 20  # what is finite is still shown


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    from matplotlib import pyplot

    learning_curves(history(2), TOP1, tmp_path / "curves.png", "digits")
    assert pyplot.get_fignums() == []
