"""Find the images that files, folders and globs stand for."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from assay_deploy.errors import AssayError
from assay_deploy.images.decode import suffixes


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Resolve files, folders and globs to images.

    A file is taken whatever its suffix, also one that a glob matches or that does not exist: reading it will tell.
    A folder stands for all files under it, in sorted order, whose suffix is that of an image; names that begin
    with a dot are left out, links to folders are followed. A glob may hold ``**``.

    Raises:
        AssayError: a glob or folder yields nothing, or a folder cannot be listed.
    """
    found: list[Path] = []
    for argument in arguments:
        # os.path answers False where Path raises: no permission, a circle of links
        if os.path.isdir(argument):  # noqa: PTH112
            paths = list(_images_under(argument, set()))
            problem = f"no images under '{argument}'; looked for {' '.join(sorted(suffixes()))}"
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            # Path.glob takes no absolute pattern
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
    """Image files in sorted order; each real folder is visited once, for links may form a circle."""
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
