"""How near a training step comes to what its device can do: FLOPs and bytes counted, ceilings measured."""

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
Roofline: FLOPs are those of convolutions and matrix products, forward and backward, two a multiply-add. Bytes are the
fewest that have to move: each output of a convolution or linear layer written once and read once by the backward pass,
in the training precision (whatever follows it up to the next such layer, and the gradients on the way back, are taken
to stay on the chip); each weight, its gradient and its optimizer state read once and written once; each image read
once, as uint8. The two ceilings were measured in the same run: the fastest of ten products of two large square matrices
in the training precision, and the fastest of ten copies of a large tensor, bytes read and written. A step cannot be
faster than either allows.
"""

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices whose product is timed."""

COPIED = {"cpu": 256 << 20, "cuda": 1 << 30}
"""Bytes of the tensor whose copy is timed: more than the caches hold."""

REPEATS = 10


@dataclass(frozen=True)
class Work:
    """What one training step takes at the least, as `RULE` counts it."""

    flops: int
    bytes: int


@dataclass(frozen=True)
class Ceilings:
    """What a device does in a second at the most."""

    flops: float
    bytes: float


def count(
    model: nn.Module, images: tuple[int, int, int, int], optimizer: torch.optim.Optimizer, dtype: torch.dtype
) -> Work:
    """The work of a step, as `RULE` counts it.

    Args:
        model: from float32 images to anything; it is copied, and nothing is computed.
        images: ``[batch, channels, height, width]`` of them.
        optimizer: over the model's parameters; it has taken a step, or it has no state to count.
        dtype: what layers put out.
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
    kept = sum(value.nbytes for value in states if isinstance(value, Tensor))
    # Of weights, gradients, state and activations alike: one read and one write.
    return Work(counter.get_total_flops(), 2 * (weights + weights + kept + sum(outputs)) + batch.numel())


def measure(device: torch.device, dtype: torch.dtype, side: int | None = None, copied: int | None = None) -> Ceilings:
    """Measure both ceilings.

    Args:
        device: where.
        dtype: of the matrices.
        side: of the matrices; `SIDE` by default.
        copied: bytes of the tensor; `COPIED` by default.
    """
    side, copied = side or SIDE[device.type], copied or COPIED[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    multiplied = _fastest(lambda: torch.mm(left, right, out=product), device)
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    moved = _fastest(lambda: target.copy_(source), device)
    return Ceilings(flops=2 * side**3 / multiplied, bytes=2 * copied / moved)


class Rooflines:
    """Where trainings stand, a row each; the ceilings of a device and precision are measured once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.ceilings: dict[tuple[torch.device, torch.dtype], Ceilings] = {}

    def add(self, named: dict[str, str], trainer: ClassifierTrainer, images_per_second: float) -> None:
        """Note a speed, unless the same training at the same batch size has its row.

        Args:
            named: ``target`` and ``device``, in words.
            trainer: has trained; its images are on the canvas of its data.
            images_per_second: as measured.
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
        self.rows.append(row | standing(work, self.ceilings[place], batch, images_per_second))


def _fastest(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest call."""

    def once() -> float:
        start = now(device)
        action()
        return now(device) - start

    return min(once() for _ in range(REPEATS))


def now(device: torch.device) -> float:
    """Seconds on a clock that starts anywhere, once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def standing(work: Work, ceilings: Ceilings, batch: int, images_per_second: float) -> dict[str, Any]:
    """Where a measured speed stands under its roofline, ready for JSON.

    Args:
        work: of a step.
        ceilings: of the device it ran on.
        batch: images a step.
        images_per_second: as measured.

    Returns:
        ``mflop`` and ``kb`` an image; ``tflops`` and ``gbs``, the ceilings; ``by_flops`` and ``by_bytes``, the
        images a second that each allows; ``images_per_second``; ``fraction`` of the lower of the two.
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
