"""Data sets of class folders: the class of an image is the name of its folder."""

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
from assay_research.data.reading.splits import split_off
from assay_research.errors import DataError

SPLITS = ("train", "val", "test")
CHUNK = 64
"""Images that a thread reads between two updates of the progress bar."""

NAMED = 100
"""Number of unreadable images that an error lists, so that they can all be repaired at once; more are only counted."""


def load(
    root: str,
    name: str | None = None,
    size: int = 32,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> ClassificationData:
    """Load a folder of class folders, or a folder of ``train/``, ``val/`` and ``test/`` with class folders in each.

    A split without a folder is split off the training images, stratified by class; without ``train/`` all images are
    training images. So with ``train/`` and ``test/`` only `val` is split off; with class folders only, both are.
    These splits depend on `seed` and the sorted file names. Class folders are searched to any depth; hidden files, and
    files without the suffix of an image, are ignored.

    Every image is decoded here, before the first epoch. A damaged image is an error here, after all images were tried,
    and never during training. Later changes of the files do not affect a training.

    Args:
        root: path of the folder.
        name: name of the data set in tables; None uses the name of the folder.
        size: side in pixels of the square canvas that every image is placed on.
        val_fraction: fraction of all training images for the validation split, if it has no folder.
        test_fraction: fraction of all training images for the test split, if it has no folder.
        seed: random seed of the splits that are made here.

    Raises:
        DataError: the folder does not exist or has fewer than two class folders, a class is empty or too small to be
            split, the splits have different classes, a name is not UTF-8, or images cannot be read.
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
            indices["train"], indices[split] = split_off(indices["train"], labels, count, seed, split, classes)
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
    """Return the splits that have a folder, and always ``train``: split -> class name -> sorted image paths."""
    if not folder.is_dir():
        raise DataError(
            f"no folder '{folder}': data.root must be a folder of class folders, "
            "or of train/, val/ and test/ with class folders in each"
        )
    names = [path.name for path in _folders(folder)]
    splits = [split for split in SPLITS if split in names]
    # A class may also be named train: a split folder contains class folders, a class folder contains images.
    if not any(_folders(folder / split) for split in splits):
        return {"train": {name: _images(folder / name) for name in names}}
    odd = sorted(set(names) - set(SPLITS))
    if "train" not in splits or odd:
        raise DataError(
            f"'{folder}' contains {', '.join(names)}: expected train/ with class folders and, optionally, "
            "val/ and test/. Rename folders of splits to these names, and move other folders away"
        )
    return {split: {path.name: _images(path) for path in _folders(folder / split)} for split in splits}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    known = suffixes()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known and not path.name.startswith("."))


def _classes(found: dict[str, dict[str, list[Path]]], folder: Path) -> tuple[str, ...]:
    """Return the sorted class names; check that every split has the same classes and that none is empty."""
    classes = sorted(found["train"])
    if len(classes) < 2:
        raise DataError(
            f"class folders in '{folder}': {len(classes)}; a classifier needs two or more. Put the images of "
            f"each class into a folder with its name, such as '{folder / 'cat'}' and '{folder / 'dog'}'"
        )
    for split, by_class in found.items():
        if set(by_class) != set(classes):
            one, other = sorted(set(classes) - set(by_class)), sorted(set(by_class) - set(classes))
            raise DataError(
                f"'{folder}': the class folders of train/ and {split}/ differ: {len(one)} only in train/ {one[:5]}, "
                f"{len(other)} only in {split}/ {other[:5]}"
            )
        empty = [each for each in classes if not by_class[each]]
        if empty:
            raise DataError(
                f"'{folder}': no images in the class folder '{empty[0]}' of {split}: add some, or remove the folder"
            )
    return tuple(classes)


def _check_names(paths: list[Path]) -> None:
    """Raise DataError for names that are not valid UTF-8, which checkpoints, tables and figures cannot contain."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            name = ascii(str(path))
            raise DataError(f"{name}: names of folders and images must be UTF-8; rename this one") from error


def _read(paths: list[Path], canvas: Canvas, name: str) -> NDArray[np.uint8]:
    """Decode every image onto the canvas, uint8 ``[n, height, width, 3]``."""
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
