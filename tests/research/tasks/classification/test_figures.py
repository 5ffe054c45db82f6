"""Figures are written for the samples that runs really have, and differ when what they show does."""

from pathlib import Path

import numpy as np
import pytest

from assay_research.tasks.classification.figures import sample_predictions
from tests.research.pixels import differ, ink


def sample(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    scores = random.random((n, 3)).astype(np.float32)
    images = random.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    return images, scores.argmax(1), scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("n", [1, 8, 11, 32])
def test_sample_predictions_are_drawn_for_any_number_of_images(tmp_path: Path, n: int) -> None:
    classes = ("cat", "dog", "an uncommonly long name")
    images, labels, probabilities = sample(n)
    sample_predictions(images, labels, probabilities, classes, tmp_path / "samples.png", "pets")
    images[-1] = 255 - images[-1]
    sample_predictions(images, labels, probabilities, classes, tmp_path / "last.png", "pets")
    assert differ(tmp_path / "samples.png", tmp_path / "last.png")


def test_a_mistake_is_marked(tmp_path: Path) -> None:
    images, labels, probabilities = sample(8)
    drawn = []
    for name, truth in (("right", labels), ("wrong", (labels + 1) % 3)):
        sample_predictions(images, truth, probabilities, ("cat", "dog", "emu"), tmp_path / f"{name}.png", "pets")
        drawn.append(ink(tmp_path / f"{name}.png"))
    assert drawn[0] == 0
    assert drawn[1] > 1000
