"""Any folder of images whose class is the name of the folder they lie in."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from assay_deploy.errors import ImageError
from assay_deploy.images.canvas import Canvas, place
from assay_deploy.images.decode import read_image, suffixes
from assay_research.data.classification import ClassificationData, Split
from assay_research.data.reading.splits import cut
from assay_research.errors import DataError

SPLITS = ("train", "val", "test")
CHUNK = 64
"""Images a thread reads before it reports: few enough for a moving progress bar."""

NAMED = 100
"""Images that cannot be read are named, so that one reading finds all there is to repair; more than these are only
counted."""


def load(
    root: str,
    name: str | None = None,
    size: int = 32,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> ClassificationData:
    """Read a folder of class folders, or one of ``train/``, ``val/`` and ``test/`` that each hold the class folders.

    A split that has no folder is cut from the training images, stratified by class; without ``train/`` all images
    are training images. So ``train/`` and ``test/`` keep their test images and only `val` is cut; with class
    folders alone both are. Cuts depend on `seed` and the sorted file names. Class folders are searched to any depth;
    hidden files, and files whose suffix is no image's, are left alone.

    Every image is decoded here, before the first epoch: one that is damaged ends the reading, once all are tried, and
    never a training. What becomes of the files later, a training does not notice.

    Args:
        root: the folder.
        name: what tables call the data set; the folder's own name by default.
        size: of the square canvas every image is put on, pixels.
        val_fraction: part of the training images, before anything is cut, that become `val` if it has no folder.
        test_fraction: the same for `test`.
        seed: of the cuts.

    Raises:
        DataError: no such folder, no class folders, an empty class, fewer than two classes, splits with different
            classes, names that are not UTF-8, a class too small to be cut, or images that cannot be read.
    """
    folder = Path(root).expanduser()
    canvas = Canvas(size, size)
    try:
        found = _find(folder)
    except OSError as error:
        raise DataError(f"'{folder}' cannot be searched: {error}") from error
    classes = _classes(found, folder)
    paths: list[Path] = []
    classed: list[int] = []
    indices = {}
    for split, by_class in found.items():
        first = len(paths)
        for label, each in enumerate(classes):
            paths += by_class[each]
            classed += [label] * len(by_class[each])
        indices[split] = np.arange(first, len(paths))
    _check_names(paths)
    labels = np.array(classed, dtype=np.int64)
    pool = len(indices["train"])
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if split not in found:
            count = round(fraction * pool)
            indices["train"], indices[split] = cut(indices["train"], labels, count, seed, split, classes)
    name = name or folder.resolve().name
    images = _read(paths, canvas, name)
    splits = (
        Split(
            torch.from_numpy(images[indices[split]]),
            torch.from_numpy(labels[indices[split]]),
            tuple(paths[i].relative_to(folder).as_posix() for i in indices[split]),
        )
        for split in SPLITS
    )
    return ClassificationData(name, classes, canvas, *splits)


def _find(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The splits that have a folder, ``train`` always: class name -> its images, sorted."""
    if not folder.is_dir():
        raise DataError(
            f"no folder '{folder}': data.root must be a folder of class folders, "
            "or of train/, val/ and test/ with class folders in each"
        )
    names = [path.name for path in _folders(folder)]
    splits = [split for split in SPLITS if split in names]
    # A class may be called train as well; a split holds class folders, a class holds images.
    if not any(_folders(folder / split) for split in splits):
        return {"train": {name: _images(folder / name) for name in names}}
    odd = sorted(set(names) - set(SPLITS))
    if "train" not in splits or odd:
        raise DataError(
            f"'{folder}' holds {', '.join(names)}: expected train/ with class folders, and beside it at most val/ and "
            "test/. Rename what is a split, and move away what is not"
        )
    return {split: {path.name: _images(path) for path in _folders(folder / split)} for split in splits}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    known = suffixes()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and not path.name.startswith("."))


def _classes(found: dict[str, dict[str, list[Path]]], folder: Path) -> tuple[str, ...]:
    """The class names, sorted, once they are known to be the same in every split and to have images."""
    classes = sorted(found["train"])
    if len(classes) < 2:
        raise DataError(
            f"class folders in '{folder}': {len(classes)}, and a classifier needs two or more. Put the images of "
            f"each class into a folder of its name, such as '{folder / 'cat'}' and '{folder / 'dog'}'"
        )
    for split, by_class in found.items():
        if set(by_class) != set(classes):
            one, other = sorted(set(classes) - set(by_class)), sorted(set(by_class) - set(classes))
            raise DataError(
                f"'{folder}': the class folders of train/ and {split}/ differ: {len(one)} in train/ alone {one[:5]}, "
                f"{len(other)} in {split}/ alone {other[:5]}"
            )
        empty = [each for each in classes if not by_class[each]]
        if empty:
            raise DataError(
                f"'{folder}': no images in the class folder '{empty[0]}' of {split}: add some, or remove the folder"
            )
    return tuple(classes)


def _check_names(paths: list[Path]) -> None:
    """Refuse names that are no text: they can stand in no checkpoint, table or figure."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            name = ascii(str(path))
            raise DataError(f"{name}: expected names of folders and images in UTF-8; rename this one") from error


def _read(paths: list[Path], canvas: Canvas, name: str) -> NDArray[np.uint8]:
    """Every image on the canvas, uint8 ``[n, height, width, 3]``."""
    images = np.empty((len(paths), canvas.height, canvas.width, 3), np.uint8)

    def read(first: int) -> list[ImageError]:
        errors = []
        for i in range(first, min(first + CHUNK, len(paths))):
            try:
                images[i] = place(read_image(paths[i]), canvas)
            except ImageError as error:
                errors.append(error)
        return errors

    errors: list[ImageError] = []
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(paths), desc=f"reading {name}", unit="image", leave=False, disable=None) as bar,
    ):
        for first, failed in zip(starts := range(0, len(paths), CHUNK), pool.map(read, starts), strict=True):
            errors += failed
            bar.update(min(CHUNK, len(paths) - first))
    if errors:
        listed = "\n".join(f"  {error}" for error in errors[:NAMED])
        more = f"\n  and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
        raise DataError(f"{len(errors)} of {len(paths)} images cannot be read; repair or remove them:\n{listed}{more}")
    return images
