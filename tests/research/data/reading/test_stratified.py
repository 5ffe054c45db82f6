"""Splits are dealt so that each has its share of every class."""

import numpy as np
from numpy.typing import NDArray

from assay_research.data.reading.stratified import assign_stratified


def test_dealt_parts_have_their_sizes_and_every_class_is_learned() -> None:
    random = np.random.default_rng(1)
    present = random.random((500, 40)) < 1.5 / np.arange(2, 42) ** 1.5
    present[random.integers(0, 500, 3), [37, 38, 39]] = True
    parts = assign_stratified(present, [350, 50, 100], seed=0)
    assert np.bincount(parts).tolist() == [350, 50, 100]
    assert (present[parts == 0].any(0) >= present.any(0)).all()
    assert np.array_equal(parts, assign_stratified(present, [350, 50, 100], seed=0))
    assert not np.array_equal(parts, assign_stratified(present, [350, 50, 100], seed=1))


def test_every_class_is_learned_even_where_least_is_for_training() -> None:
    present = np.zeros((50, 9), np.bool_)
    present[np.arange(18), np.arange(18) // 2] = True  # two images a class, and 32 without any
    parts = assign_stratified(present, [10, 20, 20], seed=0)
    assert np.bincount(parts).tolist() == [10, 20, 20]
    assert present[parts == 0].sum(0).tolist() == [1] * 9


def test_dealt_parts_share_every_class_more_evenly_than_chance() -> None:
    random = np.random.default_rng(2)
    present = random.random((400, 12)) < np.geomspace(0.5, 0.02, 12)

    def unevenness(parts: NDArray[np.int64]) -> float:
        shares = np.stack([present[parts == part].sum(0) for part in range(3)]) / present.sum(0)
        return float(np.abs(shares - [[0.6], [0.2], [0.2]]).mean())

    sizes = [240, 80, 80]
    by_chance = np.mean([unevenness(random.permutation(np.repeat(np.arange(3), sizes))) for _ in range(20)])
    assert unevenness(assign_stratified(present, sizes, seed=0)) < 0.2 * by_chance


def test_images_without_any_class_are_dealt_too() -> None:
    assert np.bincount(assign_stratified(np.zeros((10, 2), np.bool_), [6, 2, 2], seed=0)).tolist() == [6, 2, 2]
