"""Seeded, stratified split of labelled images into two parts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from assay_research.errors import DataError


def split_off(
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    count: int,
    seed: int,
    what: str,
    classes: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices in two parts, stratified by label.

    Args:
        indices: int64 ``[n]``: indices into `labels`.
        labels: int64: class of every image.
        count: number of `indices` in the second part.
        seed: random seed; the same seed gives the same split.
        what: name of the second part, for error messages.
        classes: class names, for error messages.

    Returns:
        The first and the second part, each in ascending order.

    Raises:
        DataError: a part would be empty, the seed is out of range, or a class is too small to be in both parts.
    """
    if not 0 < count < len(indices):
        raise DataError(f"{what}: expected 1 to {len(indices) - 1} of the {len(indices)} images, got {count}")
    if not 0 <= seed < 2**32:
        raise DataError(f"data.seed must be from 0 to {2**32 - 1}, got {seed}")
    try:
        rest, off = train_test_split(indices, test_size=count, random_state=seed, stratify=labels[indices])
    except ValueError:
        rest, off = indices, indices[:0]
    if set(labels[rest]) != set(labels[off]):
        counts = np.bincount(labels[indices], minlength=len(classes))
        fewest = int(np.argmin(counts))
        has = f"{counts[fewest]} image{'s' * int(counts[fewest] != 1)}"
        raise DataError(
            f"{what}: cannot split off {count} of {len(indices)} images so that each of {len(classes)} classes is in "
            f"both parts; the smallest class, '{classes[fewest]}', has {has}. Add images, remove "
            "small classes, or change the size of the split"
        )
    return np.sort(rest), np.sort(off)
