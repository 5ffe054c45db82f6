"""Figures are written for the histories that runs really have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay_research.reports.figures import learning_curves
from assay_research.runs.score import TOP1


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


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("epochs", [1, 3, 60])
def test_learning_curves_are_drawn_for_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    learning_curves(history(epochs), TOP1, tmp_path / "curves.png", "digits")
    assert pixels(tmp_path / "curves.png").std() > 5


def test_learning_curves_survive_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    diverged = [*history(3), history(4)[-1] | {"train_loss": float("nan"), "val_loss": float("inf")}]
    learning_curves(diverged, TOP1, tmp_path / "curves.png", "diverged")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    from matplotlib import pyplot

    learning_curves(history(2), TOP1, tmp_path / "curves.png", "digits")
    assert pyplot.get_fignums() == []
