"""Pretrained weights: download, check, and load them into a detector with other classes."""

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
"""Pattern of the first digits of a file's sha256 in torchvision's file names; digits only would be a date."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel mean and standard deviation that all of torchvision's weights expect."""

RUN = "network.model."
"""Prefix of the names of a detector's weights in a run's checkpoint."""


@dataclass(frozen=True)
class Published:
    """URLs of torchvision's pretrained weights for a detector.

    Attributes:
        coco: URL of the weights of the whole detector, trained on COCO.
        imagenet: URL of the weights of its backbone, trained on ImageNet.
    """

    coco: str
    imagenet: str


@dataclass(frozen=True)
class Weights:
    """Weights read from a file.

    Attributes:
        tensors: tensors by name, of a whole detector or only of a backbone.
        statistics: channel mean and standard deviation that they expect, float32 ``[3]`` each.
    """

    tensors: dict[str, Tensor]
    statistics: tuple[Tensor, Tensor]

    @property
    def whole(self) -> bool:
        """True for the weights of a whole detector, False for those of a backbone."""
        return any(name.startswith("backbone.") for name in self.tensors)


def fetch(url: str) -> Path:
    """Return the file at `url`, downloaded to torch's cache unless it is already there.

    Raises:
        ConfigError: the file cannot be downloaded, or its sha256 does not match its name.
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
            f"{url} cannot be downloaded ({error}). Download it on another machine and copy it to '{path}', or give "
            f"its path: model.weights=<folder>/{name}. For random weights, use model.weights=none"
        ) from error
    return path


def read(path: Path) -> Weights:
    """Read the weights in a file: torchvision's, or a run's checkpoint (its averaged weights, if it has any).

    Raises:
        ConfigError: the file is missing or damaged, its sha256 does not match its name, or it contains anything but
            tensors and plain values.
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
        raise ConfigError(f"model.weights: cannot read the weights in '{path}': {reason}") from error
    tensors = _tensors(state)
    if not tensors:
        raise ConfigError(
            f"model.weights: '{path}' contains no named tensors; expected a state_dict, or a run's checkpoint"
        )
    ours = {name.removeprefix(RUN): each for name, each in tensors.items() if name.startswith(RUN)}
    if ours and {"mean", "std"} <= tensors.keys():
        return Weights(ours, (tensors["mean"].flatten(), tensors["std"].flatten()))
    mean, std = (torch.tensor(each) for each in IMAGENET)
    return Weights(tensors, (mean, std))


def _compare(found: str, begins: str, path: Path) -> None:
    if not found.startswith(begins):
        raise ConfigError(
            f"model.weights: '{path}' is damaged, or is another file than its name states: its sha256 begins with "
            f"{found[: len(begins)]}, expected {begins}. Download it again, or rename it if it is your own"
        )


def _tensors(state: Any) -> dict[str, Tensor]:
    """Return the named tensors of a loaded file: under ``ema`` or ``model``, or at the top level."""
    for key in ("ema", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            return _tensors(state[key])
    return {name: each for name, each in state.items() if isinstance(each, Tensor)} if isinstance(state, dict) else {}


def fit(model: nn.Module, tensors: dict[str, Tensor], path: Path, new: tuple[str, ...] = ()) -> None:
    """Load weights into a model, except for the layers of other classes.

    Args:
        model: the model to load the weights into.
        tensors: tensors by the model's names, or by the names in torchvision's older files.
        path: file that they come from, for the error message.
        new: name prefixes of the layers whose width depends on the number of classes; they are not changed if the
            shapes differ.

    Raises:
        ConfigError: names or shapes of the weights do not match the model's.
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
            f"model.weights: '{path}' is for another model. Missing, unknown or of another shape: {listed}{more}"
        )
