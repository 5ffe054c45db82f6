"""Decoding of images onto a canvas, with a cache on disk that later trainings memory-map."""

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock
from numpy.typing import NDArray
from PIL import ExifTags, Image
from tqdm import tqdm

from assay_deploy.errors import ImageError
from assay_deploy.images.canvas import GREY, Canvas, place
from assay_deploy.images.decode import FORMATS, MAX_PIXELS, read_image, suffixes

VERSION = 1
"""Version of the cache format; a cache of another version is not used."""

CHUNK = 64
"""Number of images decoded before they are written: enough for all threads, and little memory."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""


def read_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | ImageError]:
    """Read height and width of the upright images from their headers; an ImageError where that fails."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_size, paths))


def read_placed(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], canvas: Canvas, name: str, cache: Path | None
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode images and place them on a canvas, or memory-map the cached result.

    A mapped array takes memory only while it is used. Writing to it does not change the file.

    Args:
        paths: paths of the images.
        sizes: height and width of each image in pixels, from its header.
        canvas: the canvas to place the images on.
        name: name of the data set, for the progress bar and the cache's file names.
        cache: the cache folder; None keeps the images in memory. If the folder cannot be written to, a warning on
            stderr says so and the images are kept in memory.

    Returns:
        uint8 ``[n, height, width, 3]``; index -> error message of each image that cannot be decoded.
    """
    failed: dict[int, str] = {}
    if cache is not None:
        try:
            return _cached(paths, sizes, canvas, name, cache)
        except OSError as error:
            sys.stderr.write(
                f"{name}: images cannot be cached in '{cache}' ({error}). They are kept in memory and decoded again in "
                "each training. Set another folder (data.cache=<folder>) or no cache (data.cache=null)\n"
            )
    images = np.empty((len(paths), canvas.height, canvas.width, 3), np.uint8)
    for i, image in enumerate(_decoded(paths, sizes, canvas, name, failed)):
        images[i] = image
    return images, failed


def _size(path: Path) -> tuple[int, int] | ImageError:
    suffixes()  # makes Pillow register the formats
    try:
        with Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
            width, height = image.size
            turned = _orientation(image) in TURNED and image.format != "TIFF"  # Pillow turns the size of a TIFF itself
    except Exception as error:  # a damaged header makes parsers raise anything
        return ImageError(f"{path}: not an image, or damaged ({str(error) or type(error).__name__})")
    if width * height > MAX_PIXELS:
        return ImageError(f"{path}: too large to decode: {width}x{height} pixels; the limit is {MAX_PIXELS:,} pixels")
    return (width, height) if turned else (height, width)


def _orientation(image: Image.Image) -> object:
    # Not image.getexif(): that of a PNG decodes all pixels first, in case its EXIF block comes after them.
    try:
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF, but good pixels: ignored, as in assay_deploy.images.canvas
        return None


def _decoded(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], canvas: Canvas, name: str, failed: dict[int, str]
) -> Iterator[NDArray[np.uint8]]:
    """Yield each image on the canvas; for a damaged one, yield an empty canvas and add its error to `failed`."""

    def read(i: int) -> NDArray[np.uint8]:
        try:
            image = read_image(paths[i])
            if image.shape[:2] != sizes[i]:
                (tall, wide), (height, width) = image.shape[:2], sizes[i]
                raise ImageError(f"{paths[i]}: {wide}x{tall} pixels, but {width}x{height} in its header; save it again")
            return place(image, canvas)
        except ImageError as error:
            failed[i] = str(error).removeprefix(f"{paths[i]}: ")
            return np.full((canvas.height, canvas.width, 3), GREY, np.uint8)

    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), desc=f"reading {name}", unit="image", leave=False, disable=None) as bar,
    ):
        for first in range(0, len(paths), CHUNK):
            for image in pool.map(read, range(first, min(first + CHUNK, len(paths)))):
                yield image
                bar.update()


def _cached(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], canvas: Canvas, name: str, cache: Path
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Memory-map the cached images; write the cache first if it is missing or damaged."""
    label = "".join(each if each.isalnum() else "_" for each in name)[:40]
    file = cache / f"{label}-{_key(paths, canvas)}.npy"
    shape = (len(paths), canvas.height, canvas.width, 3)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # only one process of a training decodes
        found = _mapped(file, shape)
        if found is None:
            failed: dict[int, str] = {}
            _write(file, shape, _decoded(paths, sizes, canvas, name, failed), failed)
            found = _mapped(file, shape)
    if found is None:
        raise OSError(
            f"{file}: the image cache was written but is damaged when read back; check the disk, or set data.cache"
        )
    return found


def _key(paths: Sequence[Path], canvas: Canvas) -> str:
    """Hash of all that the cache depends on: paths, their order, sizes, modification times, canvas and versions."""
    digest = hashlib.sha256(f"{VERSION} {PIL.__version__} {canvas}".encode())
    for path in paths:
        status = path.stat()
        digest.update(os.fsencode(path) + f"\0{status.st_size} {status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _mapped(file: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """Memory-map the images and read their decoding errors; None if a file is missing or damaged."""
    try:
        facts = json.loads(file.with_suffix(".json").read_bytes())
        failed = {int(i): str(what) for i, what in facts["failed"].items()}
        images = np.load(file, mmap_mode="c")
        whole = images.shape == shape and images.dtype == np.uint8 and zlib.crc32(images) == facts["crc32"]
    except Exception:  # damage makes parsers raise anything
        return None
    return (images, failed) if whole else None


def _write(file: Path, shape: tuple[int, ...], images: Iterator[NDArray[np.uint8]], failed: Mapping[int, str]) -> None:
    """Write both cache files atomically; `failed` is complete once `images` is exhausted."""
    temporary, facts = file.with_suffix(".npy.tmp"), file.with_suffix(".json.tmp")
    checksum = 0
    try:
        with temporary.open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for image in images:
                content = image.tobytes()
                out.write(content)
                checksum = zlib.crc32(content, checksum)
        facts.write_text(json.dumps({"crc32": checksum, "failed": failed}), encoding="utf-8")
        facts.replace(file.with_suffix(".json"))
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
        facts.unlink(missing_ok=True)
