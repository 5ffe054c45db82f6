"""Read an image file of any kind as RGB."""

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
"""Formats that are read, likeliest first, by Pillow's names for them and for their modules. Not all that it knows:
some of the others start programs (EPS runs Ghostscript), or have no signature and take any file for theirs (TGA)."""


MAX_PIXELS = 89_478_485
"""An image that declares more is refused before it is decoded. It is the size from which Pillow itself warns
of decompression bombs, a quarter of a GiB of RGB; ours because Pillow's is a global any code may lift."""


MAX_FILE_BYTES = 1 << 30
"""A larger file is not read into memory; `MAX_PIXELS` of 16-bit RGBA, uncompressed, are smaller."""


NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Opens a named pipe without waiting for its other end (POSIX), and any file as bytes (Windows)."""


UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the stored pixels upright."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file of any kind as RGB.

    Args:
        path: the file; its content decides what it is, not its suffix.

    Returns:
        uint8 ``[height, width, 3]``, not to be written to; see `decode_image` for what becomes of unusual images.

    Raises:
        ImageError: there is no such file, it may not be read, or it is not an image that can be read; the
            message begins with the path.
    """
    try:
        content = _read_bytes(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{path}: cannot be read ({reason})") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image of any kind to RGB.

    ============================  =====================================================================
    EXIF orientation              turned upright; a damaged EXIF block is ignored
    alpha, transparent colour     composited on white, as a viewer shows it: what lies under full
                                  transparency was never meant to be seen, and is often black or noise
    palette, 1 bit, grey          expanded to RGB
    CMYK, YCCK, LAB, YCbCr        Pillow's conversion; ICC profiles are ignored
    16 bits a channel             the high byte, as Pillow itself takes it of RGB; grey is not clipped
    32-bit integers               taken for 16-bit grey if no pixel is outside 0 to 65535, else refused
    floats                        0 to 1 is black to white; anything outside is refused
    animations, several pages     the first
    ============================  =====================================================================

    Args:
        content: the file's bytes.
        name: what to call it in an error.

    Returns:
        uint8 ``[height, width, 3]``, not to be written to.

    Raises:
        ImageError: empty, truncated, damaged, too many pixels, or no image in any of `FORMATS`.
    """
    if not content:
        raise ImageError(f"{name}: an empty file (0 bytes), not an image")
    try:
        with Image.open(BytesIO(content), formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(_oversized(name, f"{image.width}x{image.height} pixels"))
            image.load()
            turn = UPRIGHT.get(_orientation(image))
            return _rgb(image if turn is None else image.transpose(turn), name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(_formats())
        raise ImageError(f"{name}: not an image ({known}); it begins with {content[:8]!r}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_oversized(name, str(error))) from error
    except Exception as error:  # damage makes decoders raise anything: OSError, SyntaxError, MemoryError, ...
        raise ImageError(f"{name}: damaged or truncated ({str(error) or type(error).__name__})") from error


def _read_bytes(path: Path) -> bytes:
    """The file's content by four system calls: of a small image, the opening is a good part of the work."""
    descriptor = os.open(path, os.O_RDONLY | NO_WAITING)
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path}: a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a regular file")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path}: {size:,} bytes; the limit is {MAX_FILE_BYTES:,}")
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more
        return content
    finally:
        os.close(descriptor)


@cache
def suffixes() -> frozenset[str]:
    """File name endings, in lower case with their dot, of the formats that are read."""
    _formats()
    return frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in FORMATS)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow opens; naming another to it would be a KeyError."""
    for module in FORMATS.values():
        with suppress(ImportError):  # Pillow has AVIF since 11.3
            import_module(f"PIL.{module}")
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _oversized(name: str, found: str) -> str:
    return f"{name}: too large to decode: {found}; the limit is {MAX_PIXELS:,} pixels"


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the parser raises whatever a damaged block leads it to, and the pixels are still good
        return None


def _rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """The loaded image as uint8 ``[height, width, 3]``."""
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
    """Scale grey ``[height, width]`` of a deeper kind, full range to full range."""
    floats = grey.dtype.kind == "f"
    limit = 1 if floats else 65535
    low, high = grey.min(), grey.max()
    if not (low >= 0 and high <= limit):  # put so that NaN is refused too
        raise ImageError(
            f"{name}: {grey.dtype} pixels from {low:g} to {high:g}, where 0 to {limit} were expected; "
            "scale them, or save the image with 8 or 16 bits"
        )
    scaled: NDArray[Any] = np.rint(grey * 255) if floats else grey >> 8
    return scaled.astype(np.uint8)
