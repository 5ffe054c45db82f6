"""Every tensor that a graph computes, in order: small sketches of all of them, and whole arrays of a few."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

SAMPLES = 16_384
"""Elements of a tensor that its sketch holds; of a smaller tensor all. So a detector's thousand tensors take 64 MB."""


@dataclass(frozen=True)
class Location:
    """Where a tensor is computed: the innermost module's qualified ``name`` and class, and the line that runs it.

    Attributes:
        name: ``model.network.3``; empty for the graph itself.
        kind: the module's class.
        where: ``package/module.py:line, in function``, of the innermost frame that is not torch's.
    """

    name: str
    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})" if self.name else f"{self.kind}.forward"


@dataclass(frozen=True)
class Ref:
    """An argument that depends on the images: the value of that index."""

    index: int


@dataclass(frozen=True, eq=False)
class ConstantValue:
    """A tensor argument that does not depend on the images, and the parameter or buffer it was made from, if any."""

    tensor: Tensor
    name: str | None


@dataclass(frozen=True)
class Call:
    """A call of an ATen operator, with `Ref` and `ConstantValue` for tensors, and which of its outputs a value is."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: int | None


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images.

    Attributes:
        name: in the file, or the operation's number.
        op: operator.
        parents: indices of the values it is computed from.
        shape: of the tensor.
        sketch: see `sketch`; None of integers, which stay as they are where what they count has drifted.
        place: of eager modules.
        call: of what torch runs; None where it cannot be repeated alone.
    """

    name: str
    op: str
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    sketch: NDArray[np.float32] | None
    place: Location | None = None
    call: Call | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name} ({self.op})"


@dataclass(frozen=True)
class Trace:
    """Values in the order they are computed, the first of them the images; indices of the outputs; whole arrays."""

    values: list[Value]
    outputs: list[int]
    kept: dict[int, Array]

    def children(self) -> list[list[int]]:
        """Of each value those computed from it."""
        children: list[list[int]] = [[] for _ in self.values]
        for index, value in enumerate(self.values):
            for parent in value.parents:
                children[parent].append(index)
        return children


class TensorSource(Protocol):
    """Something that can be run and watched."""

    def run(self, images: Tensor) -> list[Array]:
        """The outputs."""

    def trace(self, images: Tensor, keep: Collection[int] = ()) -> Trace:
        """All values, and the whole arrays of those in `keep`; indices are the same each time."""

    def weights(self, trace: Trace, inside: Collection[int]) -> dict[str, Array]:
        """By name, the weights that some values are computed with."""


def sketch(array: Array) -> NDArray[np.float32]:
    """Least, largest and mean element, then `SAMPLES` elements from fixed places of the flattened array.

    Two arrays with the same number of elements have sketches of one length, whatever their shapes.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if not flat.size:
        return np.zeros(0, np.float32)
    ends = [flat.min(), flat.max(), flat.mean(dtype=np.float64)]
    if flat.size > SAMPLES:
        flat = flat[_places(flat.size)]
    return np.concatenate([np.array(ends), flat]).astype(np.float32)


@lru_cache(maxsize=256)
def _places(size: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(size, size=SAMPLES)


def error(expected: Array, found: Array) -> float:
    """Largest absolute difference, as a part of the largest expected magnitude; infinite where one is no number."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - found).max(initial=0)
    scale = np.abs(expected).max(initial=0)
    return float(difference / scale) if np.isfinite(difference) and scale else float("inf")
