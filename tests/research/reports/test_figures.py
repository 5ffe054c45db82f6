"""Figures are written for the histories and samples that runs really have, and differ when what they show does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay_research.reports.figures import learning_curves, sample_predictions
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


def sample(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    scores = random.random((n, 3)).astype(np.float32)
    images = random.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return images, scores.argmax(1), scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("epochs", [1, 3, 60])
def test_learning_curves_are_drawn_for_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    learning_curves(history(epochs), TOP1, tmp_path / "curves.png", "digits")
    assert pixels(tmp_path / "curves.png").std() > 5


def test_learning_curves_survive_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    diverged = [*history(3), history(4)[-1] | {"train_loss": float("nan"), "val_loss": float("inf")}]
    learning_curves(diverged, TOP1, tmp_path / "curves.png", "diverged")
    assert (tmp_path / "curves.png").stat().st_size > 0


@pytest.mark.parametrize("n", [1, 8, 11, 32])
def test_sample_predictions_are_drawn_for_any_number_of_pictures(tmp_path: Path, n: int) -> None:
    sample_predictions(*sample(n), ("cat", "dog", "an uncommonly long name"), tmp_path / "samples.png", "pets")
    assert pixels(tmp_path / "samples.png").std() > 5


def test_a_mistake_is_marked(tmp_path: Path) -> None:
    images, labels, probabilities = sample(8)
    drawn = []
    for name, truth in (("right", labels), ("wrong", (labels + 1) % 3)):
        sample_predictions(images, truth, probabilities, ("cat", "dog", "emu"), tmp_path / f"{name}.png", "pets")
        vermilion = (pixels(tmp_path / f"{name}.png") == (0xD5, 0x5E, 0x00)).all(-1)
        drawn.append(int(vermilion.sum()))
    assert drawn[0] == 0
    assert drawn[1] > 1000


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    from matplotlib import pyplot

    learning_curves(history(2), TOP1, tmp_path / "curves.png", "digits")
    assert pyplot.get_fignums() == []
