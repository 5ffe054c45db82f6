"""A training's fit is judged by its curves and by training images from all over the split."""

import math
from itertools import pairwise

import pytest

from assay_research.tasks.classification.task import FIT
from assay_research.training.diagnosis import evenly_spaced, fit


def history(losses: list[float], scores: list[float]) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "val_loss": loss, "val_top1": score}
        for epoch, (loss, score) in enumerate(zip(losses, scores, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "scores", "train", "verdict"),
    [
        ([1.0, 0.5, 0.9], [0.5, 0.7, 0.7], 0.95, "overfitting: 0.950 of training images correct, 0.700 of validation"),
        ([1.0, 0.5, 0.5], [0.5, 0.7, 0.7], 0.95, "a gap between training and validation"),
        ([1.0, 0.8, 0.6], [0.5, 0.6, 0.7], 0.70, "not yet converged: validation accuracy gained 0.100"),
        ([1.0, 0.5, 0.5], [0.5, 0.7, 0.7], 0.72, "no overfitting"),
        ([1.0, math.nan], [0.3, 0.1], 0.3, "training diverged (0.300 of training"),
    ],
)
def test_the_verdict_follows_from_the_curves(losses, scores, train, verdict):
    assert fit(history(losses, scores), train, FIT).startswith(verdict)


@pytest.mark.parametrize(("n", "most"), [(10, 3), (45_000, 5_000), (3, 5), (1, 1)])
def test_scored_images_are_from_all_over_the_split(n, most):
    chosen = evenly_spaced(n, most).tolist()
    assert len(set(chosen)) == len(chosen) == min(n, most)
    assert chosen[0] == 0
    assert chosen[-1] == (n - 1 if most > 1 else 0)
    distances = {after - before for before, after in pairwise(chosen)}
    assert len(distances) <= 2, "as even as whole numbers allow"
