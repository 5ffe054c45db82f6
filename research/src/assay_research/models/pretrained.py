"""Weights that were trained before: fetched, checked, and put into a detector of other classes."""

import hashlib
import re
import sys
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from assay_research.errors import ConfigError

HASH = re.compile(r"-(?=\d*[a-f])([0-9a-f]{8,64})\.\w+$")
"""The beginning of a file's sha256 as torchvision writes it into the name. One of digits alone would be a date."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the channels that all of torchvision's weights expect."""

RUN = "network.model."
"""What the names of a detector's weights begin with in a run's checkpoint."""


@dataclass(frozen=True)
class Published:
    """Where torchvision publishes what a detector can begin with.

    Attributes:
        coco: URL of the whole detector, trained on COCO.
        imagenet: URL of its backbone, trained on ImageNet.
    """

    coco: str
    imagenet: str


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        tensors: by name; of a whole detector, or of a backbone alone.
        statistics: mean and standard deviation of the channels they expect, float32 ``[3]`` each.
    """

    tensors: dict[str, Tensor]
    statistics: tuple[Tensor, Tensor]

    @property
    def whole(self) -> bool:
        """Whether they are a whole detector's."""
        return any(name.startswith("backbone.") for name in self.tensors)


def fetch(url: str) -> Path:
    """The file at `url`, downloaded to torch's cache unless it is there.

    Raises:
        ConfigError: it cannot be downloaded, or is not the file that its name says.
    """
    name = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if path.is_file():
        return path
    published = HASH.search(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), published and published[1], progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:
        raise ConfigError(
            f"{url} cannot be downloaded ({error}). Fetch it on a machine that can, and put it at '{path}' or say "
            f"where it is: model.weights=<folder>/{name}. model.weights=none begins with random weights"
        ) from error
    return path


def read(path: Path) -> Weights:
    """The weights in a file: torchvision's, or those of a run's checkpoint, the averaged ones where it has any.

    Raises:
        ConfigError: missing, damaged, not the file that its name says, or holding more than tensors and plain values.
    """
    try:
        if named := HASH.search(path.name):
            with path.open("rb") as file:
                _compare(hashlib.file_digest(file, "sha256").hexdigest(), named[1], path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"model.weights: expected none, backbone, coco or a file; there is no '{path}'") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnicodeDecodeError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"model.weights: '{path}' holds no weights that can be read: {reason}") from error
    tensors = _tensors(state)
    if not tensors:
        raise ConfigError(
            f"model.weights: '{path}' holds no tensors by name; expected a state_dict, or a run's checkpoint"
        )
    ours = {name.removeprefix(RUN): each for name, each in tensors.items() if name.startswith(RUN)}
    if ours and {"mean", "std"} <= tensors.keys():
        return Weights(ours, (tensors["mean"].flatten(), tensors["std"].flatten()))
    mean, std = (torch.tensor(each) for each in IMAGENET)
    return Weights(tensors, (mean, std))


def _compare(found: str, begins: str, path: Path) -> None:
    if not found.startswith(begins):
        raise ConfigError(
            f"model.weights: '{path}' is damaged, or not what its name says: its sha256 begins with "
            f"{found[: len(begins)]} and not with {begins}. Fetch it again, or rename it if it is your own"
        )


def _tensors(state: Any) -> dict[str, Tensor]:
    """The tensors by name in what a file held, wherever checkpoints keep them."""
    for key in ("ema", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            return _tensors(state[key])
    return {name: each for name, each in state.items() if isinstance(each, Tensor)} if isinstance(state, dict) else {}


def fit(model: nn.Module, tensors: dict[str, Tensor], path: Path, new: tuple[str, ...] = ()) -> None:
    """Put weights into a model, all but those of other classes.

    Args:
        model: what they are for.
        tensors: by the model's names, or by those of torchvision's older files.
        path: where they come from, for the error.
        new: beginnings of the names of layers that are as wide as there are classes; they are left as they are
            where the shapes differ.

    Raises:
        ConfigError: the model has others; it says which.
    """
    left = {
        name
        for name, each in model.state_dict().items()
        if name.startswith(new) and name in tensors and tensors[name].shape != each.shape
    }
    try:
        kept = {name: each for name, each in tensors.items() if name not in left}
        missing, unknown = model.load_state_dict(kept, strict=False)
        wrong = sorted({*missing, *unknown} - left)
    except RuntimeError as error:
        wrong = re.findall(r"size mismatch for (\S+):", str(error))
        if not wrong:
            raise
    if wrong:
        listed = ", ".join(wrong[:5])
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ConfigError(
            f"model.weights: '{path}' is of another model: missing, unknown or of another shape are {listed}{more}"
        )
