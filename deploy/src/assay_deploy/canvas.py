"""Put a picture of any size on the model's canvas: the one implementation that training and serving share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CROPS = {
    "center": (0.5, 0.5),
    "top_left": (0.0, 0.0),
    "top_right": (0.0, 1.0),
    "bottom_left": (1.0, 0.0),
    "bottom_right": (1.0, 1.0),
}
"""Where a crop sits, as fractions (vertical, horizontal) of the room there is."""


@dataclass(frozen=True)
class Canvas:
    """The fixed-size picture a model takes.

    Attributes:
        height: pixels.
        width: pixels.
        fit: how a picture of another size is put on it. ``stretch``: the whole picture is resized to the canvas
            with Pillow's antialiased bilinear filter, its aspect ratio given up.
    """

    height: int
    width: int
    fit: str = "stretch"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a canvas needs at least one pixel a side, got {self.height}x{self.width}")
        if self.fit != "stretch":
            raise ValueError(f"canvas fit must be 'stretch', got {self.fit!r}")


@dataclass(frozen=True)
class View:
    """What a model is shown of its canvas: the canvas resized, cropped back to its own size and perhaps mirrored.

    Attributes:
        size: the test size Q of Simonyan and Zisserman (arXiv:1409.1556, section 3.2): the canvas' shorter side
            after the resize, in pixels; at least the canvas' own. None leaves the canvas as it is.
        crop: which canvas-sized part of the resized picture is taken, one of `CROPS`.
        flip: whether the crop is mirrored left to right.
    """

    size: int | None = None
    crop: str = "center"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"a view's size must be at least 1 pixel, got {self.size}")
        if self.crop not in CROPS:
            raise ValueError(f"a view's crop must be one of {', '.join(CROPS)}, got {self.crop!r}")


def place(picture: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:
    """Put one picture on the canvas.

    Args:
        picture: uint8 ``[height, width, 3]``, RGB, any size.
        canvas: where it goes.

    Returns:
        uint8 ``[canvas.height, canvas.width, 3]``; the very same array where the size already fits.

    Raises:
        ValueError: the array is no uint8 RGB picture with at least one pixel.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ValueError(
            f"expected a uint8 array [height, width, 3] with at least one pixel, "
            f"got {picture.dtype} {list(picture.shape)}"
        )
    if picture.shape[:2] == (canvas.height, canvas.width):
        return picture
    resized = Image.fromarray(picture).resize((canvas.width, canvas.height), Image.Resampling.BILINEAR)
    return np.asarray(resized)
