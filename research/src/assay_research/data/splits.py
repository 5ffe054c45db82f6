"""Cut a split from labelled pictures: seeded, and with the same share of every class."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from assay_research.errors import DataError


def cut(
    indices: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, seed: int, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part indices in two, stratified by label.

    Args:
        indices: int64 ``[n]``, into `labels`.
        labels: int64, the class of every picture.
        fraction: what part of `indices` is cut off, in (0, 1).
        seed: the same seed gives the same cut.
        what: the name of the split that is cut off, for errors.

    Returns:
        What is left and what was cut off, each in rising order.

    Raises:
        DataError: the fraction is impossible, or a class has too few pictures for both parts.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the {what} fraction must be between 0 and 1, got {fraction}")
    try:
        rest, off = train_test_split(indices, test_size=fraction, random_state=seed, stratify=labels[indices])
    except ValueError as error:
        raise DataError(
            f"cannot cut {fraction:.0%} of {len(indices)} pictures for {what} so that every class is in both parts: "
            f"{error}"
        ) from error
    return np.sort(rest), np.sort(off)
