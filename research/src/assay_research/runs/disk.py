"""Check free disk space before a training, and write files atomically."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from assay_deploy.errors import AssayError

OTHER_FILES = 4 * 2**20
"""Estimated bytes of everything but checkpoints: config, metrics, summary, loggers' files and two figures."""


class DiskError(AssayError, OSError):
    """Disk that is full, has too little free space, or cannot be written to."""


def check(folder: Path, needed: int) -> None:
    """Raise DiskError if the disk has less free space than needed.

    Args:
        folder: folder to be written to; it need not exist yet.
        needed: number of bytes.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DiskError(
            f"this training will write about {readable(needed)} to '{folder}', but only {readable(free)} are free. "
            "Write to another disk (runs=<folder>), keep fewer checkpoints (save_every=0), or free space (`assay-runs "
            "prune` deletes old runs)"
        )


def checkpoints_to_write(done: int, epochs: int, save_every: int) -> int:
    """Return the number of checkpoints that a training adds to its folder.

    Args:
        done: number of finished epochs, whose checkpoints exist already.
        epochs: total number of epochs.
        save_every: the checkpoint of every n-th epoch is saved; 0 for none.

    Returns:
        The sum of one temporary file for atomic writes, `best` and `last` if they do not exist yet, and the
        checkpoints of the remaining epochs.
    """
    kept = epochs // save_every - done // save_every if save_every else 0
    return 1 + (0 if done else 2) + kept


def readable(size: int) -> str:
    """Format a number of bytes as text with a decimal unit (powers of 1000): ``1.5 MB``."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{size} B"


def write_atomically(content: bytes, path: Path) -> None:
    """Replace the file at `path` atomically: if the process is killed, the old file is unchanged.

    Raises:
        DiskError: the disk is full or cannot be written to; the old file is unchanged.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file for writing that replaces the one at `path` once it is complete.

    Raises:
        DiskError: the disk is full or cannot be written to; an existing file at `path` is unchanged.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch's writer hides the cause
        if not isinstance(reason, OSError):
            raise
        with suppress(OSError):
            partial.unlink()  # it may be the file that fills the disk
        raise DiskError(
            f"'{path}' cannot be written ({reason.strerror}); an existing file there is unchanged. Make it writable, "
            "or free space (`assay-runs prune` deletes old runs); resume a training from its last checkpoint with "
            "assay-train resume=<run>"
        ) from error
