"""A checkpoint on disk is always whole: written beside its name, flushed, then renamed over it."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay_research.errors import CheckpointError
from assay_research.runs.disk import BESIDES, replacing


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of tensors and plain values, atomically.

    Args:
        state: nested dicts and lists of tensors, numbers, strings and None.
        path: where; its folder exists.

    Raises:
        DiskError: the disk is full or cannot be written to; the checkpoint that stood there still does.
    """
    with replacing(path) as file:
        torch.save(state, file)


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
