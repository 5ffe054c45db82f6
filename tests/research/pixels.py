"""Pixels of figures, and the number of pixels of one colour."""

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """uint8 ``[height, width, 3]``."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def ink(path: Path, colour: str = "#d55e00") -> int:
    """Number of pixels of exactly this colour."""
    return int((pixels(path) == tuple(bytes.fromhex(colour[1:]))).all(-1).sum())


def differ(one: Path, other: Path) -> bool:
    """True if two figures show different things."""
    return not np.array_equal(pixels(one), pixels(other))
