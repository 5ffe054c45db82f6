"""Cut a split from labelled images: seeded, and with the same share of every class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from assay_research.errors import DataError


def cut(
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    count: int,
    seed: int,
    what: str,
    classes: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part indices in two, stratified by label.

    Args:
        indices: int64 ``[n]``, into `labels`.
        labels: int64, the class of every image.
        count: how many of `indices` are cut off.
        seed: the same seed gives the same cut.
        what: the name of the split that is cut off, for errors.
        classes: names of the labels, for errors.

    Returns:
        What is left and what was cut off, each in rising order.

    Raises:
        DataError: none or all would be cut off, a seed that cannot be, or a class too small to be in both parts.
    """
    if not 0 < count < len(indices):
        raise DataError(f"{what}: expected 1 to {len(indices) - 1} of {len(indices)} images to cut off, got {count}")
    if not 0 <= seed < 2**32:
        raise DataError(f"data.seed must be from 0 to {2**32 - 1}, got {seed}")
    try:
        rest, off = train_test_split(indices, test_size=count, random_state=seed, stratify=labels[indices])
    except ValueError:
        rest, off = indices, indices[:0]
    if set(labels[rest]) != set(labels[off]):
        counts = np.bincount(labels[indices], minlength=len(classes))
        fewest = int(np.argmin(counts))
        raise DataError(
            f"{what}: cannot cut {count} of {len(indices)} images so that each of {len(classes)} classes is in "
            f"both parts; the smallest, '{classes[fewest]}', has {counts[fewest]}. Add images, leave small classes "
            "out, or cut off another number"
        )
    return np.sort(rest), np.sort(off)
