"""Roofline of a training step: counted FLOPs and bytes, measured ceilings of the device."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from assay_research.tasks.classification.trainer import ClassifierTrainer

RULE = """\
Roofline: FLOPs are those of convolutions and matrix products, forward and backward, two per multiply-add. Bytes are the
minimum that has to be moved: each output of a convolution or linear layer is written once and read once by the backward
pass, in the training precision (other layers' outputs and the gradients are assumed to stay on the chip); each weight,
its gradient and its optimizer state are read once and written once; each image is read once, as uint8. The two ceilings
were measured in the same run: the fastest of ten products of two large square matrices in the training precision, and
the fastest of ten copies of a large tensor, counting bytes read and written. A step cannot be faster than either
ceiling allows.
"""

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices whose product is timed, by device."""

COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
"""Bytes of the tensor whose copy is timed, by device: larger than the caches."""

REPEATS = 10


@dataclass(frozen=True)
class Work:
    """FLOPs and bytes that a training step needs at least, counted as described in `RULE`."""

    flops: int
    bytes: int


@dataclass(frozen=True)
class Ceilings:
    """Maximum FLOPs and bytes per second of a device, as measured."""

    flops: float
    bytes: float


def count(
    model: nn.Module, images: tuple[int, int, int, int], optimizer: torch.optim.Optimizer, dtype: torch.dtype
) -> Work:
    """Count the work of a training step as described in `RULE`.

    Args:
        model: the model, which takes float32 images; a copy without data is used, so nothing is computed.
        images: shape of the images, ``[batch, channels, height, width]``.
        optimizer: optimizer of the model's parameters; its state exists only after its first step.
        dtype: dtype of the layers' outputs.
    """
    twin = copy.deepcopy(model).to("meta").train()
    outputs: list[int] = []

    def note(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output.numel() * dtype.itemsize)

    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    batch = torch.empty(images, device="meta")
    with FlopCounterMode(display=False) as counter:
        twin(batch).sum().backward()
    weights = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    states = (value for state in optimizer.state.values() for value in state.values())
    state = sum(value.nbytes for value in states if isinstance(value, Tensor))
    # Weights, gradients, optimizer state and activations: one read and one write each.
    return Work(counter.get_total_flops(), 2 * (weights + weights + state + sum(outputs)) + batch.numel())


def measure(device: torch.device, dtype: torch.dtype, side: int | None = None, copied: int | None = None) -> Ceilings:
    """Measure both ceilings of a device.

    Args:
        device: the device to measure.
        dtype: dtype of the matrices.
        side: side of the matrices; None for `MATRIX_SIDE`.
        copied: bytes of the copied tensor; None for `COPY_BYTES`.
    """
    side, copied = side or MATRIX_SIDE[device.type], copied or COPY_BYTES[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    multiplied = _fastest(lambda: torch.mm(left, right, out=product), device)
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    moved = _fastest(lambda: target.copy_(source), device)
    return Ceilings(flops=2 * side**3 / multiplied, bytes=2 * copied / moved)


class Rooflines:
    """Collector of roofline rows, one per training; the ceilings of a device and precision are measured once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.ceilings: dict[tuple[torch.device, torch.dtype], Ceilings] = {}

    def add(self, named: dict[str, str], trainer: ClassifierTrainer, images_per_second: float) -> None:
        """Add a row for a measured speed, unless the same training at the same batch size already has one.

        Args:
            named: names for the report: ``target`` and ``device``.
            trainer: the trainer, after at least one training step.
            images_per_second: measured training speed.
        """
        canvas, batch = trainer.data.canvas, trainer.batch_size
        named = {**named, "precision": str(trainer.dtype).removeprefix("torch.")}
        row = {**named, "batch": batch}
        if any(row.items() <= other.items() for other in self.rows):
            return
        place = (trainer.device, trainer.dtype)
        if place not in self.ceilings:
            self.ceilings[place] = measure(*place)
        work = count(trainer.model, (batch, 3, canvas.height, canvas.width), trainer.optimizer, trainer.dtype)
        self.rows.append(row | roofline_row(work, self.ceilings[place], batch, images_per_second))


def _fastest(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of `REPEATS` calls."""

    def once() -> float:
        start = now(device)
        action()
        return now(device) - start

    return min(once() for _ in range(REPEATS))


def now(device: torch.device) -> float:
    """Wait until the device has finished its work, then return the time of a monotonic clock in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def roofline_row(work: Work, ceilings: Ceilings, batch: int, images_per_second: float) -> dict[str, Any]:
    """Compare a measured speed with its roofline, ready for JSON.

    Args:
        work: work of a training step.
        ceilings: ceilings of the device.
        batch: images per step.
        images_per_second: measured training speed.

    Returns:
        ``mflop`` and ``kb``: work per image; ``tflops`` and ``gbs``: the ceilings; ``by_flops`` and ``by_bytes``:
        images per second that each ceiling allows; ``images_per_second``; ``fraction``: the measured speed divided by
        the lower of the two.
    """
    by_flops, by_bytes = batch * ceilings.flops / work.flops, batch * ceilings.bytes / work.bytes
    return {
        "mflop": work.flops / batch / 1e6,
        "kb": work.bytes / batch / 1e3,
        "tflops": ceilings.flops / 1e12,
        "gbs": ceilings.bytes / 1e9,
        "by_flops": by_flops,
        "by_bytes": by_bytes,
        "images_per_second": images_per_second,
        "fraction": images_per_second / min(by_flops, by_bytes),
    }
