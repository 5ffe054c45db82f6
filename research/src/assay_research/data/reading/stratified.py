"""Deal images that hold objects of several classes into parts, with the same share of every class in each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def deal(present: NDArray[np.bool_], sizes: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Part images by iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011).

    The class with the fewest images left is dealt first, each of its images to the part that lacks most of the
    class. Unlike there, a class' first image goes to the first part, so that one that can be learned is, and a part
    that has its size gets no more.

    Args:
        present: bool ``[images, classes]``: which image holds which class.
        sizes: images in each part; their sum is the number of images.
        seed: of the order in which a class' images are dealt, and of choices between equals.

    Returns:
        int64 ``[images]``: the part of each image.
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
