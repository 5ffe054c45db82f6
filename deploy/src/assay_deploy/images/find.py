"""Find image files given as files, folders and globs."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from assay_deploy.errors import AssayError
from assay_deploy.images.decode import suffixes


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Resolve files, folders and globs to the paths of image files.

    A file is accepted with any suffix, also if a glob matches it or if it does not exist: reading it reports the error.
    A folder stands for all files in it and its subfolders with the suffix of a supported format, in sorted order;
    names that begin with a dot are skipped, links to folders are followed. A glob may contain ``**``.

    Args:
        arguments: paths of files and folders, and glob patterns.

    Raises:
        AssayError: a glob or folder contains no image, or a folder cannot be listed.
    """
    found: list[Path] = []
    for argument in arguments:
        # os.path returns False where Path raises: no permission, circular links
        if os.path.isdir(argument):  # noqa: PTH112
            paths = list(_images_under(argument, set()))
            problem = (
                f"no images under '{argument}'; searched for files with the suffixes {' '.join(sorted(suffixes()))}"
            )
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            # Path.glob does not accept absolute patterns
            paths = sorted(map(Path, glob.iglob(argument, recursive=True)))  # noqa: PTH207
            paths = [path for path in paths if not path.is_dir()]
            problem = f"no file matches '{argument}'"
        else:
            paths, problem = [Path(argument)], ""
        if not paths:
            raise AssayError(problem)
        found += paths
    return found


def _images_under(folder: str, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the image files under a folder in sorted order; visit each real folder once, as links may be circular."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda e: e.name)
        folders = {entry.name for entry in entries if entry.is_dir()}
        status = Path(folder).stat()
    except OSError as error:
        raise AssayError(f"{folder}: cannot be listed ({error.strerror})") from error
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name in folders:
            yield from _images_under(entry.path, visited)
        elif Path(entry.name).suffix.lower() in suffixes():
            yield Path(entry.path)
