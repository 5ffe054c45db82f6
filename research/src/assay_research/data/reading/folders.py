"""The files of an annotated data set, found without leaving its folder and read without trust."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from assay_research.errors import DataError

IMAGES = ("jpegimages", "images", "imgs", "pictures")
"""Folders that images usually lie in, in lower case, likeliest first."""


def data_folder(root: str, expected: str) -> Path:
    """The data set's folder, absolute.

    Args:
        root: as the user gave it.
        expected: what should be in it, for the error.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"no folder '{folder}': data.root must be {expected}")
    return Path(
        os.path.normpath(folder.absolute())
    )  # not resolved: what names in annotations lead to is compared with it


def subfolder(root: Path, given: str | None, usual: Sequence[str], argument: str) -> Path | None:
    """A folder within the data set: the given one, or the first of those usual, in whatever case, that is there.

    Raises:
        DataError: the given one is not there.
    """
    if given is not None:
        if not (root / given).is_dir():
            raise DataError(f"no folder '{root / given}': data.{argument} must be a folder within data.root")
        return root / given
    there = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    return next((there[name] for name in usual if name in there), None)


def files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files in a folder, at any depth, that end in one of these, sorted; hidden ones and folders left out."""
    known = frozenset(suffixes)
    found = (path for path in folder.rglob("*") if path.suffix.lower() in known)
    return sorted(
        path for path in found if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def within(folder: Path, name: str, *roots: Path) -> Path | None:
    """Where a name written in an annotation leads from `folder`; None if that is outside all of the roots.

    Both kinds of slashes part folders. Links are not followed: those in a data set are its owner's.
    """
    if PureWindowsPath(name).drive:
        return None
    path = Path(os.path.normpath(folder / name.replace("\\", "/")))
    return path if any(path.is_relative_to(root) for root in roots) else None


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is one that none has."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def content(path: Path, limit: int) -> bytes:
    """What is in an annotation file.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `limit` bytes.
    """
    if not path.is_file():
        raise OSError("not a regular file")
    if (size := path.stat().st_size) > limit:
        raise OSError(f"{size:,} bytes; the limit is {limit:,}")
    return path.read_bytes()


def relative(path: Path, root: Path) -> str:
    """What reports call a file: the path from the data set's folder, or the whole one if it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
