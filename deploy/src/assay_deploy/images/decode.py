"""Read image files of the common formats as RGB arrays."""

import os
import stat
from contextlib import suppress
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from assay_deploy.errors import ImageError

FORMATS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "MPO": "MpoImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "AVIF": "AvifImagePlugin",
}
"""Supported formats, most likely first: Pillow's name of the format -> name of its module. Other formats of Pillow are
left out: some start programs (EPS runs Ghostscript), or have no signature and accept any file (TGA)."""


MAX_PIXELS = 89_478_485
"""Maximum number of pixels of an image; a larger one is rejected before it is decoded. This is Pillow's own limit for
decompression bomb warnings, a quarter of a GiB of RGB; defined here because any code can change Pillow's global."""


MAX_FILE_BYTES = 1 << 30
"""Maximum size of an image file; `MAX_PIXELS` of uncompressed 16-bit RGBA are smaller."""


OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags for `os.open`: do not wait for the other end of a named pipe (POSIX); read bytes unchanged (Windows)."""


ORIENTATIONS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transpose that turns the stored image upright."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as RGB.

    Args:
        path: the file; its format is detected from the content, not the suffix.

    Returns:
        uint8 ``[height, width, 3]``, read-only; see `decode_image` for the conversion of unusual images.

    Raises:
        ImageError: the file does not exist, cannot be read, or is not a readable image; the message begins with the
            path.
    """
    try:
        content = _read_bytes(path)
    except (OSError, ValueError) as error:  # ValueError: the name contains NUL
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{path}: cannot be read ({reason})") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the content of an image file to RGB.

    ============================  =====================================================================
    EXIF orientation              turned upright; a damaged EXIF block is ignored
    alpha, transparent colour     composited on white, as image viewers do: pixels under full
                                  transparency are often black or noise
    palette, 1 bit, grey          expanded to RGB
    CMYK, YCCK, LAB, YCbCr        Pillow's conversion; ICC profiles are ignored
    16 bits per channel           the high byte, as Pillow converts RGB; grey is not clipped
    32-bit integers               read as 16-bit grey if all pixels are in 0 to 65535, else an error
    floats                        0 to 1 is black to white; values outside are an error
    animations, several pages     the first frame or page
    ============================  =====================================================================

    Args:
        content: the file's bytes.
        name: name of the image in error messages.

    Returns:
        uint8 ``[height, width, 3]``, read-only.

    Raises:
        ImageError: the content is empty, truncated, damaged, has too many pixels, or is not in one of `FORMATS`.
    """
    if not content:
        raise ImageError(f"{name}: an empty file (0 bytes), not an image")
    try:
        with Image.open(BytesIO(content), formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(_oversized(name, f"{image.width}x{image.height} pixels"))
            image.load()
            turn = ORIENTATIONS.get(_orientation(image))
            return _rgb(image if turn is None else image.transpose(turn), name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(_formats())
        raise ImageError(
            f"{name}: not an image in a supported format ({known}); it begins with {content[:8]!r}"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_oversized(name, str(error))) from error
    except Exception as error:  # decoders raise any error on damaged files: OSError, SyntaxError, MemoryError, ...
        raise ImageError(f"{name}: damaged or truncated ({str(error) or type(error).__name__})") from error


def _read_bytes(path: Path) -> bytes:
    """Read a regular file with four system calls: for small images, opening the file is a large part of the time."""
    descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a regular file")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path}: {size:,} bytes; the limit is {MAX_FILE_BYTES:,} bytes")
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


@cache
def suffixes() -> frozenset[str]:
    """File name suffixes of the supported formats, lower case with the dot."""
    _formats()
    return frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in FORMATS)


@cache
def _formats() -> tuple[str, ...]:
    """Formats among `FORMATS` that the installed Pillow supports; others would raise KeyError when opening."""
    for module in FORMATS.values():
        with suppress(ImportError):  # Pillow has AVIF since 11.3
            import_module(f"PIL.{module}")
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _oversized(name: str, found: str) -> str:
    return f"{name}: too large to decode: {found}; the limit is {MAX_PIXELS:,} pixels"


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged block can raise any error, but the pixels are still valid
        return None


def _rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Convert a loaded image to RGB, uint8 ``[height, width, 3]``."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode == "F" or image.mode.startswith("I"):
        grey = _eight_bits(np.asarray(image), name)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("RGB"))


def _eight_bits(grey: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Scale a grey image ``[height, width]`` of floats or wider integers from its full range to 0 to 255."""
    floats = grey.dtype.kind == "f"
    limit = 1 if floats else 65535
    low, high = grey.min(), grey.max()
    if not (low >= 0 and high <= limit):  # written so that NaN is rejected too
        raise ImageError(
            f"{name}: {grey.dtype} pixels from {low:g} to {high:g}, expected 0 to {limit}; "
            "scale them, or save the image with 8 or 16 bits"
        )
    scaled: NDArray[Any] = np.rint(grey * 255) if floats else grey >> 8
    return scaled.astype(np.uint8)
