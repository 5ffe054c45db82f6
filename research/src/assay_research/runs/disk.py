"""Know before a training starts whether the disk holds what it will write, and write whole files or none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from assay_deploy.errors import AssayError

BESIDES = 4 * 2**20
"""Bytes for everything but checkpoints: config, metrics, summary, loggers' files and two figures."""


class DiskError(AssayError, OSError):
    """A disk that is full, or will be, or refuses to be written to."""


def check(folder: Path, needed: int) -> None:
    """Refuse to start what the disk cannot hold.

    Args:
        folder: where it will be written; it need not exist yet.
        needed: bytes.

    Raises:
        DiskError: less is free.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DiskError(
            f"this training will write about {readable(needed)} to '{folder}', and {readable(free)} are free there. "
            "Write to another disk (runs=<folder>), keep fewer checkpoints (save_every=0), or free space (`assay-runs "
            "prune` deletes old runs)"
        )


def checkpoints_to_write(done: int, epochs: int, save_every: int) -> int:
    """How many checkpoints a training adds to its folder.

    Args:
        done: epochs, whose checkpoints are there already.
        epochs: in all.
        save_every: keep the checkpoint of every n-th epoch as well; 0 keeps none.

    Returns:
        One that is being written beside those it will replace; `best` and `last` where they are not there yet; those
        of the epochs to come.
    """
    kept = epochs // save_every - done // save_every if save_every else 0
    return 1 + (0 if done else 2) + kept


def readable(size: int) -> str:
    """A number of bytes in words: ``1.5 MB``, powers of 1000."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{size} B"


def write_atomically(content: bytes, path: Path) -> None:
    """Replace the file at `path` with these bytes, or, killed at any instant, leave it as it was.

    Raises:
        DiskError: the disk is full or cannot be written to; the file is as it was.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of the one at `path` once it is whole.

    Raises:
        DiskError: the disk is full or cannot be written to; what stood at `path` still does.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch's writer hides what stopped it
        if not isinstance(reason, OSError):
            raise
        with suppress(OSError):
            partial.unlink()  # it may be what fills the disk
        raise DiskError(
            f"'{path}' cannot be written ({reason.strerror}); what stood there before is untouched. Make it writable, "
            "or free space (`assay-runs prune` deletes old runs); a training goes on from what it saved last with "
            "assay-train resume=<run>"
        ) from error
