"""Save and load checkpoints; a checkpoint is written atomically, so a file on disk is always complete."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay_research.errors import CheckpointError
from assay_research.runs.disk import OTHER_FILES, replacing


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of tensors and plain values, atomically.

    Args:
        state: nested dicts and lists of tensors, numbers, strings and None.
        path: path of the file; its folder must exist.

    Raises:
        DiskError: the disk is full or cannot be written to; an existing checkpoint at the path is unchanged.
    """
    with replacing(path) as file:
        torch.save(state, file)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint, tensors and plain values only: a pickle that would run code is refused.

    Args:
        path: path of the checkpoint.
        device: device of its tensors.

    Raises:
        CheckpointError: the file is missing or damaged, or contains anything but tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of a foreign file, which is refused below
            state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        there = ", ".join(sorted(each.stem for each in path.parent.glob("*.pt"))) or "none"
        raise CheckpointError(f"no checkpoint at '{path}'; checkpoints in its folder: {there}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"'{path}' refused: it contains more than tensors and plain values, and loading it could run code. "
            "Only load checkpoints that `assay-train` wrote"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise CheckpointError(f"'{path}' is not a readable checkpoint ({error})") from error
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"'{path}' is not a checkpoint of Assay: expected a dictionary with the key 'model'")
    return state


def needed(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoints: int, average: nn.Module | None = None
) -> int:
    """Estimate the number of bytes that a training will write.

    Args:
        model: the model, whose parameters and buffers are in every checkpoint.
        optimizer: the optimizer, whose state is in every checkpoint too. Before its first step the size of the state
            is estimated from its settings: two tensors per parameter with betas, one with momentum.
        checkpoints: number of checkpoints, as counted by `checkpoints_to_write`.
        average: model with averaged weights, if there is one.
    """
    weights = sum(_bytes(module.state_dict()) for module in (model, average) if module is not None)
    slots = _bytes(optimizer.state_dict()["state"]) or sum(
        _slots(group) * _bytes(list(group["params"])) for group in optimizer.param_groups
    )
    return checkpoints * (weights + slots) + OTHER_FILES


def _slots(group: Mapping[str, Any]) -> int:
    if "betas" in group or not group.get("orthogonal", True):  # the latter: the parameters Muon leaves to AdamW
        return 2
    return 1 if group.get("momentum") else 0


def _bytes(state: Any) -> int:
    """Return the number of bytes of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(_bytes(value) for value in state.values())
    return sum(_bytes(value) for value in state) if isinstance(state, list) else 0
