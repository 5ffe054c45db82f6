"""Any folder of pictures sorted into a folder for each class, in the layout torchvision calls ImageFolder."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from assay_deploy.canvas import Canvas, PictureError, place, read_picture
from assay_research.data import ClassificationData, Split
from assay_research.data.splits import cut
from assay_research.errors import DataError

CHUNK = 64
"""Pictures that a thread reads in one go: small pictures cost less to decode than to hand over."""


@dataclass(frozen=True)
class Listing:
    """Files of one split: `paths`, and int64 ``[n]`` `labels` that index the class names."""

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]

    def pick(self, chosen: NDArray[np.int64]) -> "Listing":
        """Some of the files."""
        return Listing(tuple(self.paths[i] for i in chosen), self.labels[chosen])


def load(
    root: str,
    name: str | None = None,
    size: int = 32,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> ClassificationData:
    """Read pictures, put each on a square canvas and keep them in memory.

    ``<root>/train/<class>/...`` with ``test`` and perhaps ``val`` beside it: these splits as they are; a missing
    ``val`` is cut from ``train``. ``<root>/<class>/...``: ``test`` and ``val`` are cut from all of it. Cuts are
    stratified by class.

    Args:
        root: the folder.
        name: what tables call the data set; the folder's own name by default.
        size: of the canvas, pixels.
        val_fraction: of what it is cut from.
        test_fraction: of all pictures, where there is no ``test`` folder.
        seed: of the cuts.

    Raises:
        DataError: no such folder, fewer than two classes, an empty class, splits with different classes, a class too
            small to cut, or files that are no pictures.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.root: no folder '{root}'; expected one with a folder of pictures for each class")
    parts = [part for part in ("train", "val", "test") if (folder / part).is_dir()]
    if parts and not {"train", "test"} <= set(parts):
        missing = "test" if "train" in parts else "train"
        raise DataError(
            f"'{folder}' has {' and '.join(parts)} but no {missing}; expected train and test, or class folders"
        )
    classes = _classes(folder / "train" if parts else folder)
    listings = {part: _list(folder / part, classes) for part in parts} or {"train": _list(folder, classes)}
    if "test" not in listings:
        listings["train"], listings["test"] = _cut(listings["train"], test_fraction, seed, "test")
        val_fraction /= 1 - test_fraction
    if "val" not in listings:
        listings["train"], listings["val"] = _cut(listings["train"], val_fraction, seed, "val")
    canvas = Canvas(size, size)
    splits = _read([listings[part] for part in ("train", "val", "test")], folder, canvas)
    return ClassificationData(name or folder.resolve().name, classes, canvas, *splits)


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in _visible(folder) if path.is_dir()))
    if len(names) < 2:
        found = f"only '{names[0]}'" if names else "none"
        raise DataError(f"'{folder}': expected at least two class folders, found {found}")
    return names


def _list(folder: Path, classes: tuple[str, ...]) -> Listing:
    found = _classes(folder)
    if found != classes:
        odd = sorted(set(found) ^ set(classes))
        raise DataError(f"'{folder}' has other classes than train: {', '.join(odd[:5])} not in both")
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise DataError(f"'{folder / name}' has no pictures; remove the empty class or fill it")
        paths += files
        labels += [label] * len(files)
    return Listing(tuple(paths), np.array(labels, dtype=np.int64))


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _cut(listing: Listing, fraction: float, seed: int, what: str) -> tuple[Listing, Listing]:
    rest, off = cut(np.arange(len(listing.paths)), listing.labels, fraction, seed, what)
    return listing.pick(rest), listing.pick(off)


def _read(listings: list[Listing], root: Path, canvas: Canvas) -> list[Split]:
    """Read every file of the splits, all problems before any error."""
    problems: list[str] = []

    def read(job: tuple[tuple[Path, ...], NDArray[np.uint8]]) -> int:
        paths, target = job
        for i, path in enumerate(paths):
            try:
                target[i] = place(read_picture(path), canvas)
            except PictureError as error:
                problems.append(str(error))
        return len(paths)

    splits = []
    total = sum(len(listing.paths) for listing in listings)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, desc=f"read {root.name}", unit=" pictures", disable=None, leave=False) as bar,
    ):
        for listing in listings:
            images = np.empty((len(listing.paths), canvas.height, canvas.width, 3), dtype=np.uint8)
            starts = range(0, len(images), CHUNK)
            jobs = [(listing.paths[i : i + CHUNK], images[i : i + CHUNK]) for i in starts]
            for count in pool.map(read, jobs):
                bar.update(count)
            names = tuple(path.relative_to(root).as_posix() for path in listing.paths)
            splits.append(Split(torch.from_numpy(images), torch.from_numpy(listing.labels), names))
    if problems:
        more = f"\nand {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(
            f"{len(problems)} of {total} files cannot be read as pictures; remove or mend them:\n"
            + "\n".join(sorted(problems)[:5])
            + more
        )
    return splits
