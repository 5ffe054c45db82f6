"""Run graphs of any format on images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Images = NDArray[np.uint8]
"""Images, uint8 ``[batch, height, width, 3]``."""

Outputs = dict[str, NDArray[Any]]
"""Outputs of a graph by name, each ``[batch, ...]``."""

Runner = Callable[[Images], Outputs]
"""Function that runs a graph: from images to its outputs, both in main memory."""


def module_runner(module: Callable[..., Any], names: tuple[str, ...], device: str = "cpu") -> Runner:
    """Return a runner for a torch module, in full float32.

    Args:
        module: module on the device; returns a tensor or a tuple of tensors.
        names: names of its outputs, in order.
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
    """Disable TF32, which rounds the factors of cuDNN's convolutions to 10 bits of mantissa by default."""
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
    """Run images, uint8 ``[n, height, width, 3]``, in batches of `batch`; return the outputs ``[n, ...]`` by name."""
    parts = [run(part.numpy()) for part in images.split(batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
