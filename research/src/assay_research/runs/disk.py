"""Know before a training starts whether the disk holds what it will write."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


def needed(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoints: int, average: nn.Module | None = None
) -> int:
    """Estimate the bytes a training will write.

    Args:
        model: its parameters and buffers are in every checkpoint.
        optimizer: what it remembers of each parameter is too. Before its first step that is taken from its settings:
            two tensors a parameter where it has betas, one where it has momentum.
        checkpoints: how many it will write, as `checkpoints_to_write` counts them.
        average: the averaged weights, where they are kept.
    """
    weights = sum(_bytes(module.state_dict()) for module in (model, average) if module is not None)
    slots = _bytes(optimizer.state_dict()["state"]) or sum(
        _slots(group) * _bytes(list(group["params"])) for group in optimizer.param_groups
    )
    return checkpoints * (weights + slots) + BESIDES


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


def _slots(group: Mapping[str, Any]) -> int:
    if "betas" in group or not group.get("orthogonal", True):  # the latter: the parameters Muon leaves to AdamW
        return 2
    return 1 if group.get("momentum") else 0


def _bytes(state: Any) -> int:
    """Of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(_bytes(value) for value in state.values())
    return sum(_bytes(value) for value in state) if isinstance(state, list) else 0
