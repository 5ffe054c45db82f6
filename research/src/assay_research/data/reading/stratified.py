"""Stratified split of images that contain objects of several classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def assign_stratified(present: NDArray[np.bool_], sizes: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Assign images to parts by iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011).

    The class with the fewest unassigned images comes first. Each of its images goes to the part that lacks most of
    the class. Two rules differ from the paper: the first image of a class goes to the first part, so that every class
    can be learned, and a part that has reached its size gets no more images.

    Args:
        present: bool ``[images, classes]``: True where an image contains a class.
        sizes: number of images in each part; their sum is the number of images.
        seed: random seed of the order of a class' images and of choices between equal parts.

    Returns:
        int64 ``[images]``: index of the part of each image.
    """
    images = len(present)
    assert sum(sizes) == images
    random = np.random.default_rng(seed)
    room = np.array(sizes, np.int64)
    lacking = room[:, None] / images * present.sum(0)
    learned = np.zeros(present.shape[1], np.bool_)
    parts = np.full(images, -1, np.int64)
    while (counts := present[parts < 0].sum(0)).any():
        rarest = int(np.argmin(np.where(counts > 0, counts, images + 1)))
        for image in random.permutation(np.flatnonzero((parts < 0) & present[:, rarest])):
            if room[0] and not learned[rarest]:
                part = 0
            else:
                lack = np.where(room > 0, lacking[:, rarest], -np.inf)
                part = int(np.lexsort((random.random(len(room)), room, lack))[-1])
            parts[image] = part
            room[part] -= 1
            lacking[part] -= present[image]
            if part == 0:
                learned |= present[image]
    rest = np.flatnonzero(parts < 0)
    parts[rest] = random.permutation(np.repeat(np.arange(len(room)), room))
    return parts
