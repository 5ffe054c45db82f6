"""What a task is to an export: the graphs that leave, and what their answers to the test split are worth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from assay_deploy.canvas import Canvas
from assay_export.errors import ExportError
from assay_research.data import ClassificationData
from assay_research.data.boxes import DetectionData

Data = ClassificationData | DetectionData
Images = NDArray[np.uint8]
Outputs = dict[str, NDArray[Any]]
Runner = Callable[[Images], Outputs]
"""From uint8 ``[batch, height, width, 3]`` to the outputs by name, both in main memory."""

PROBE_PICTURES = 16
"""Of the test split, in the probe: enough to show all classes of a small data set, few enough to ship."""

WORST = 8
"""Pictures shown for each artifact, those whose answers are farthest apart."""


@dataclass(frozen=True)
class Worst:
    """A test picture whose answers are far apart.

    Attributes:
        index: of the picture in the test split.
        name: of the picture.
        difference: how far, in the unit that the task orders by.
        truth, eager, artifact: in words.
        eager_boxes, artifact_boxes: of detectors: left, top, right, bottom, score and label's index, canvas pixels.
    """

    index: int
    name: str
    difference: float
    truth: str
    eager: str
    artifact: str
    eager_boxes: tuple[tuple[float, ...], ...] = ()
    artifact_boxes: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Weighed:
    """What an artifact's answers to the test split are worth.

    Attributes:
        finding: the task's figures, a dataclass.
        reasons: against the artifact, in words.
        worst: pictures, the worst first.
    """

    finding: Any
    reasons: list[str]
    worst: tuple[Worst, ...]


def task_of(data: Data) -> ModuleType:
    """The task that such data are for: `classification` or `detection`, two modules of the same functions."""
    from assay_export import classification, detection  # which import this module

    return classification if isinstance(data, ClassificationData) else detection


def make_probe(images: Tensor) -> Tensor:
    """A few pictures that show a fault: test pictures from all over the split, black, white and coloured noise.

    Noise matters where the data set is grey: there the channels could be swapped and no test picture would tell.

    Args:
        images: of the test split, uint8 ``[n, height, width, 3]``.

    Returns:
        uint8 ``[pictures, height, width, 3]``, the same for the same split.
    """
    chosen = images[torch.linspace(0, len(images) - 1, min(PROBE_PICTURES, len(images))).long()]
    noise = np.random.default_rng(0).integers(0, 256, images.shape[1:], dtype=np.uint8)
    extremes = [torch.zeros_like(images[0]), torch.full_like(images[0], 255), torch.from_numpy(noise)]
    return torch.cat([chosen, torch.stack(extremes)])


def tiled(probe: Tensor) -> Tensor:
    """A probe for dense graphs: two by three of its pictures in each, uint8 ``[pictures, 2 height, 3 width, 3]``."""
    row = torch.cat([probe.roll(shift, 0) for shift in range(3)], 2)
    return torch.cat([row, row.roll(3, 0)], 1)


def enlarged(run: Runner, dense: int) -> Runner:
    """Show pictures, larger by so many pixels a side, to a dense graph: the smallest it takes."""

    def run_larger(images: Images) -> Outputs:
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        height, width = planes.shape[2:]
        larger = functional.interpolate(planes, (height + dense, width + dense), mode="bilinear")
        return run(larger.round().byte().permute(0, 2, 3, 1).contiguous().numpy())

    return run_larger


def module_runner(module: Callable[..., Any], names: tuple[str, ...], device: str = "cpu") -> Runner:
    """Run what takes and gives torch's tensors, in full float32.

    Args:
        module: on the device; gives a tensor, or a tuple of them.
        names: of what it gives, in order.
        device: ``cpu`` or ``cuda``.
    """

    def run(images: Images) -> Outputs:
        with torch.inference_mode(), _full_float32(device):
            given = module(torch.from_numpy(images).to(device))
        tensors = (given,) if isinstance(given, Tensor) else tuple(given)
        return {name: tensor.cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}

    return run


@contextmanager
def _full_float32(device: str) -> Iterator[None]:
    """Without TF32, which rounds the factors of cuDNN's convolutions to 10 bits of mantissa by default."""
    if device == "cpu":
        yield
        return
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def answers(run: Runner, images: Tensor, batch: int) -> Outputs:
    """The outputs for any number of pictures, uint8 ``[n, height, width, 3]``, so many at a time."""
    parts = [run(part.numpy()) for part in images.split(batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def same_views(build: Callable[[], nn.Module], canvas: Canvas) -> nn.Module:
    """A graph in eval mode.

    Raises:
        ExportError: the run's views do not fit its canvas.
    """
    try:
        return build().eval()
    except ValueError as error:
        raise ExportError(
            f"views on a canvas of {canvas.height}x{canvas.width} pixels: {error}; correct them in the run's "
            "config.yaml"
        ) from error
