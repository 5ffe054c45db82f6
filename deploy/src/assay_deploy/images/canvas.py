"""Resize images to a model's input size, stretched or letterboxed, and map boxes accordingly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assay_deploy.images.decode import MAX_PIXELS

CROPS = {
    "center": (0.5, 0.5),
    "top_left": (0.0, 0.0),
    "top_right": (0.0, 1.0),
    "bottom_left": (1.0, 0.0),
    "bottom_right": (1.0, 1.0),
}
"""Position of each crop as fractions (vertical, horizontal) of the free space."""

FITS = ("stretch", "letterbox")

GREY = 114
"""Padding value of a letterbox in every channel: the grey used for detectors since YOLOv3's PyTorch ports, near the
mean of natural images."""


@dataclass(frozen=True)
class Canvas:
    """Fixed-size input image of a model.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        fit: how an image of another size is placed on the canvas. The whole image is resized with Pillow's antialiased
            bilinear filter. ``stretch``: to the canvas size, without keeping the aspect ratio. ``letterbox``: to the
            largest size that fits, keeping the aspect ratio to the nearest pixel, centred on a canvas of `GREY`.
    """

    height: int
    width: int
    fit: str = "stretch"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a canvas needs at least one pixel on each side, got {self.height}x{self.width}")
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(f"a canvas has at most {MAX_PIXELS:,} pixels, got {self.height}x{self.width}")
        if self.fit not in FITS:
            raise ValueError(f"canvas fit must be {' or '.join(FITS)}, got {self.fit!r}")

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Position of an image of the given size on the canvas: top, left, height and width in canvas pixels."""
        if self.fit == "stretch":
            return 0, 0, self.height, self.width
        scale = min(self.height / height, self.width / width)
        tall, wide = (max(1, round(length * scale)) for length in (height, width))
        return (self.height - tall) // 2, (self.width - wide) // 2, tall, wide


@dataclass(frozen=True)
class View:
    """Test-time view of the canvas: resized, cropped to the canvas size, and optionally mirrored.

    Attributes:
        size: the test size Q of Simonyan and Zisserman (arXiv:1409.1556, section 3.2): the canvas' shorter
            side after the resize, in pixels; at least the canvas' own. None: no resize.
        crop: position of the canvas-sized crop of the resized image, a key of `CROPS`.
        flip: whether the crop is mirrored left to right.
    """

    size: int | None = None
    crop: str = "center"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and (not isinstance(self.size, int) or self.size < 1):
            raise ValueError(f"a view's size must be a whole number of at least 1 pixel, got {self.size!r}")
        if self.crop not in CROPS:
            raise ValueError(f"a view's crop must be one of {', '.join(CROPS)}, got {self.crop!r}")
        if not isinstance(self.flip, bool):
            raise ValueError(f"a view's flip must be true or false, got {self.flip!r}")


def place(image: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:
    """Resize one image to the canvas.

    Args:
        image: uint8 ``[height, width, 3]``, RGB, any size.
        canvas: the target canvas.

    Returns:
        uint8 ``[canvas.height, canvas.width, 3]``; the same array, not a copy, if the image already has this size.

    Raises:
        ValueError: the array is not a uint8 RGB image with at least one pixel.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"expected a uint8 array [height, width, 3] with at least one pixel, got {image.dtype} {list(image.shape)}"
        )
    if image.shape[:2] == (canvas.height, canvas.width):
        return image
    top, left, height, width = canvas.window(*image.shape[:2])
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    if (height, width) == (canvas.height, canvas.width):
        return resized
    placed = np.full((canvas.height, canvas.width, 3), GREY, np.uint8)
    placed[top : top + height, left : left + width] = resized
    return placed


def boxes_to_canvas(boxes: NDArray[Any], size: tuple[int, int], canvas: Canvas) -> NDArray[np.float32]:
    """Convert boxes from image pixels to canvas pixels.

    Args:
        boxes: ``[n, 4]``, left, top, right, bottom in pixels of the original image.
        size: height and width of the image in pixels.
        canvas: the canvas on which the image is placed.

    Returns:
        float32 ``[n, 4]``, in canvas pixels.
    """
    scale, offset = _mapping(size, canvas)
    return (boxes * scale + offset).astype(np.float32)


def boxes_from_canvas(boxes: NDArray[Any], size: tuple[int, int], canvas: Canvas) -> NDArray[np.float32]:
    """Convert boxes from canvas pixels to image pixels, clipped to the image.

    Args:
        boxes: ``[n, 4]``, left, top, right, bottom in canvas pixels.
        size: height and width of the image in pixels.
        canvas: the canvas on which the image was placed.

    Returns:
        float32 ``[n, 4]``, in pixels of the original image.
    """
    scale, offset = _mapping(size, canvas)
    height, width = size
    return np.clip((boxes - offset) / scale, 0, [width, height, width, height]).astype(np.float32)


def _mapping(size: tuple[int, int], canvas: Canvas) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and offset, ``[4]`` each, that map x, y, x, y from image pixels to canvas pixels."""
    top, left, height, width = canvas.window(*size)
    return np.array([width / size[1], height / size[0]] * 2), np.array([left, top] * 2, np.float64)
