"""Images put on a canvas once: a second training finds them on disk, as they are trained on, and maps the file."""

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
"""Of the cache: another one reads every image anew."""

CHUNK = 64
"""Images that are decoded ahead of being written: enough for all threads, few enough for any memory."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""


def read_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | ImageError]:
    """Height and width of upright images, or why there are none, by their headers alone."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_size, paths))


def read_placed(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], canvas: Canvas, name: str, cache: Path | None
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode images and put them on a canvas, or map the file in which that was left.

    What is mapped takes memory only while it is used, and writing to it does not reach the file.

    Args:
        paths: of the images.
        sizes: height and width that their headers gave, pixels.
        canvas: where they go.
        name: of the data set, for the progress bar and the cache's files.
        cache: the folder of caches; None keeps the images in memory, and so does a folder that cannot be
            written to, which is said on stderr.

    Returns:
        uint8 ``[n, height, width, 3]``, and for each image that cannot be decoded, by its index, why not.
    """
    failed: dict[int, str] = {}
    if cache is not None:
        try:
            return _cached(paths, sizes, canvas, name, cache)
        except OSError as error:
            sys.stderr.write(
                f"{name}: images cannot be cached in '{cache}' ({error}), so they take memory and are decoded anew "
                "each time. Name another folder (data.cache=<folder>), or none (data.cache=null)\n"
            )
    images = np.empty((len(paths), canvas.height, canvas.width, 3), np.uint8)
    for i, image in enumerate(_decoded(paths, sizes, canvas, name, failed)):
        images[i] = image
    return images, failed


def _size(path: Path) -> tuple[int, int] | ImageError:
    suffixes()  # has Pillow register the formats
    try:
        with Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
            width, height = image.size
            turned = _orientation(image) in TURNED and image.format != "TIFF"  # whose size Pillow turns itself
    except Exception as error:  # a damaged header makes parsers raise anything
        return ImageError(f"{path}: not an image, or damaged ({str(error) or type(error).__name__})")
    if width * height > MAX_PIXELS:
        return ImageError(f"{path}: too large to decode: {width}x{height}; the limit is {MAX_PIXELS:,} pixels")
    return (width, height) if turned else (height, width)


def _orientation(image: Image.Image) -> object:
    # Not image.getexif(): a PNG's decodes all pixels first, in case its EXIF block comes after them.
    try:
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # damaged, and the pixels are still good: as assay_deploy.images.canvas has it
        return None


def _decoded(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]], canvas: Canvas, name: str, failed: dict[int, str]
) -> Iterator[NDArray[np.uint8]]:
    """The images on the canvas, in order; where one cannot be decoded, an empty canvas and an entry in `failed`."""

    def read(i: int) -> NDArray[np.uint8]:
        try:
            image = read_image(paths[i])
            if image.shape[:2] != sizes[i]:
                (tall, wide), (height, width) = image.shape[:2], sizes[i]
                raise ImageError(f"{paths[i]}: {wide}x{tall} pixels, but {width}x{height} by its header; save it anew")
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
    """The cache's file, mapped, once it is there and whole."""
    label = "".join(each if each.isalnum() else "_" for each in name)[:40]
    file = cache / f"{label}-{_key(paths, canvas)}.npy"
    shape = (len(paths), canvas.height, canvas.width, 3)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # of the processes of one training, one decodes
        found = _mapped(file, shape)
        if found is None:
            failed: dict[int, str] = {}
            _write(file, shape, _decoded(paths, sizes, canvas, name, failed), failed)
            found = _mapped(file, shape)
    if found is None:
        raise OSError("what was written there reads back differently")
    return found


def _key(paths: Sequence[Path], canvas: Canvas) -> str:
    """What the cache's content depends on: which images, in which order, when written, and how they are placed."""
    digest = hashlib.sha256(f"{VERSION} {PIL.__version__} {canvas}".encode())
    for path in paths:
        status = path.stat()
        digest.update(os.fsencode(path) + f"\0{status.st_size} {status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _mapped(file: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], dict[int, str]] | None:
    """The images and what could not be decoded of them; None if a file is missing or damaged."""
    try:
        facts = json.loads(file.with_suffix(".json").read_bytes())
        failed = {int(i): str(what) for i, what in facts["failed"].items()}
        images = np.load(file, mmap_mode="c")
        whole = images.shape == shape and images.dtype == np.uint8 and zlib.crc32(images) == facts["crc32"]
    except Exception:  # damage makes parsers raise anything
        return None
    return (images, failed) if whole else None


def _write(file: Path, shape: tuple[int, ...], images: Iterator[NDArray[np.uint8]], failed: Mapping[int, str]) -> None:
    """Write both files of the cache, each whole or not at all; `failed` is complete once `images` has ended."""
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
