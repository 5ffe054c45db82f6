"""A checkpoint on disk is always whole: written beside its name, flushed, then renamed over it."""

import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from assay_research.errors import CheckpointError
from assay_research.runs.disk import DiskError


def write_atomically(content: bytes, path: Path) -> None:
    """Replace the file at `path` with these bytes, or, killed at any instant, leave it as it was.

    Raises:
        DiskError: the disk is full or cannot be written to; the file is as it was.
    """
    with _replacing(path) as file:
        file.write(content)


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of tensors and plain values, atomically.

    Args:
        state: nested dicts and lists of tensors, numbers, strings and None.
        path: where; its folder exists.

    Raises:
        DiskError: the disk is full or cannot be written to; the checkpoint that stood there still does.
    """
    with _replacing(path) as file:
        torch.save(state, file)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
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


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, tensors and plain values only: a pickle that would run code is refused.

    Args:
        path: the checkpoint.
        device: where its tensors go.

    Raises:
        CheckpointError: missing, damaged, or holding anything but tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of a foreign file, which is refused below
            state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        there = ", ".join(sorted(each.stem for each in path.parent.glob("*.pt"))) or "none"
        raise CheckpointError(f"no checkpoint at '{path}'; there: {there}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"'{path}' refused: it holds more than tensors and plain values, and loading it could run code. "
            "Only load checkpoints that `assay-train` wrote"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise CheckpointError(f"'{path}' is no readable checkpoint ({error})") from error
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"'{path}' is no checkpoint of ours: expected a dictionary with a 'model'")
    return state
