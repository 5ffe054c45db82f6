"""An image as callers give it: a path, the bytes of an image file, or an array."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay_deploy.images.decode import decode_image, read_image

Source = str | Path | bytes | NDArray[np.uint8]
"""A path, the bytes of an image file, or a uint8 ``[height, width, 3]`` RGB array."""


def pixels(source: Source) -> NDArray[np.uint8]:
    """Return an image as uint8 ``[height, width, 3]``, RGB.

    Raises:
        ImageError: the file or the bytes are not an image that can be read.
        ValueError: an array of another dtype or shape.
    """
    if isinstance(source, bytes):
        return decode_image(source, "image bytes")
    if isinstance(source, str | Path):
        return read_image(Path(source))
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
        raise ValueError(f"expected a uint8 [height, width, 3] RGB array, got {source.dtype} {list(source.shape)}")
    return source


def path_of(source: Source) -> Path | None:
    """Return the path of an image file; None for bytes and arrays."""
    return Path(source) if isinstance(source, str | Path) else None
