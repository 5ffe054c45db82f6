"""A cut is seeded, keeps every class's share, and says why when it cannot."""

import numpy as np
import pytest

from assay_research.data.reading.splits import split_off
from assay_research.errors import DataError

CLASSES = ("cat", "dog", "emu")
LABELS = np.repeat([0, 1, 2], [100, 60, 20])
ALL = np.arange(len(LABELS))


def test_parts_are_disjoint_sorted_and_complete() -> None:
    rest, off = split_off(ALL, LABELS, 36, 0, "val", CLASSES)
    assert np.array_equal(np.sort(np.concatenate([rest, off])), ALL)
    assert np.array_equal(rest, np.sort(rest))
    assert np.array_equal(off, np.sort(off))


def test_each_class_keeps_its_share() -> None:
    _, off = split_off(ALL, LABELS, 36, 0, "val", CLASSES)
    assert np.bincount(LABELS[off]).tolist() == [20, 12, 4]


def test_seed_decides() -> None:
    first, again, other = (split_off(ALL, LABELS, 36, seed, "val", CLASSES)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_cut_of_a_cut_takes_only_what_is_left() -> None:
    rest, test = split_off(ALL, LABELS, 36, 0, "test", CLASSES)
    train, val = split_off(rest, LABELS, 36, 0, "val", CLASSES)
    assert np.array_equal(np.sort(np.concatenate([train, val, test])), ALL)


@pytest.mark.parametrize("counts", [(50, 50, 1), (500, 500, 2), (2, 2, 2)])
def test_a_class_too_small_for_both_parts_is_named(counts: tuple[int, ...]) -> None:
    labels = np.repeat([0, 1, 2], counts)
    smallest, count = CLASSES[int(np.argmin(counts))], len(labels) // 10 or 1
    words = f"val: cannot split off {count} of .* the smallest class, '{smallest}', has {min(counts)}"
    with pytest.raises(DataError, match=words):
        split_off(np.arange(len(labels)), labels, count, 0, "val", CLASSES)


@pytest.mark.parametrize("count", [0, -3, 180, 500])
def test_a_cut_of_nothing_or_everything_is_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"val: expected 1 to 179 of the 180 images, got {count}"):
        split_off(ALL, LABELS, count, 0, "val", CLASSES)
