"""A checkpoint on disk is always whole: written beside its name, flushed, then renamed over it."""

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from assay_research.errors import CheckpointError


def write_atomically(content: bytes, path: Path) -> None:
    """Replace the file at `path` with these bytes, or, killed at any instant, leave it as it was."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of tensors and plain values, atomically.

    Args:
        state: nested dicts and lists of tensors, numbers, strings and None.
        path: where; its folder exists.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


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
        raise CheckpointError(f"no checkpoint at '{path}'") from error
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
