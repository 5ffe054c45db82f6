"""Safe access to the files of an annotated data set: none outside its folder, none of unlimited size."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from assay_research.errors import DataError

IMAGES = ("jpegimages", "images", "imgs", "pictures")
"""Usual names of image folders in lower case, in the order they are tried."""


def data_folder(root: str, expected: str) -> Path:
    """Return the absolute path of the data set's folder.

    Args:
        root: the path given by the user.
        expected: description of the expected folder, for the error message.

    Raises:
        DataError: there is no such folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"no folder '{folder}': data.root must be {expected}")
    return Path(
        os.path.normpath(folder.absolute())
    )  # links are not resolved: paths from names in annotations are compared with it


def subfolder(root: Path, given: str | None, usual: Sequence[str], argument: str) -> Path | None:
    """Return a folder within the data set: the given one, or the first usual one that exists.

    Args:
        root: the data set's folder.
        given: path of the folder within `root`; None to search.
        usual: usual names in lower case; the case of the folder's name does not matter.
        argument: name of the setting under ``data.``, for the error message.

    Returns:
        The folder; None if none is given and no usual one exists.

    Raises:
        DataError: the given folder does not exist.
    """
    if given is not None:
        if not (root / given).is_dir():
            raise DataError(f"no folder '{root / given}': data.{argument} must be a folder within data.root")
        return root / given
    there = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    return next((there[name] for name in usual if name in there), None)


def files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the files with these suffixes in a folder, at any depth, sorted; hidden files and folders are skipped."""
    known = frozenset(suffixes)
    found = (path for path in folder.rglob("*") if path.suffix.lower() in known)
    return sorted(
        path for path in found if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def within(folder: Path, name: str, *roots: Path) -> Path | None:
    """Path of a file named in an annotation, relative to `folder`; None if it is outside all of the roots.

    Slashes and backslashes both separate folders. Links are not resolved: links in a data set are trusted.
    """
    if PureWindowsPath(name).drive:
        return None
    path = Path(os.path.normpath(folder / name.replace("\\", "/")))
    return path if any(path.is_relative_to(root) for root in roots) else None


def is_file(path: Path) -> bool:
    """Return True if the file exists; False also for names that are not valid for a file."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def content(path: Path, limit: int) -> bytes:
    """Read an annotation file.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `limit` bytes.
    """
    if not path.is_file():
        raise OSError("not a regular file")
    if (size := path.stat().st_size) > limit:
        raise OSError(f"the file has {size:,} bytes; the limit is {limit:,}")
    return path.read_bytes()


def relative(path: Path, root: Path) -> str:
    """Name of a file in reports: its path relative to the data set's folder, or its full path if it is elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
