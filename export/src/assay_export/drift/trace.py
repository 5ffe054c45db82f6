"""Traces: all tensors that a graph computes, in order, as small sketches, and some of them as whole arrays."""

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
"""Largest number of elements in the sketch of a tensor. The sketches of a detector's thousand tensors take 64 MB."""


@dataclass(frozen=True)
class Location:
    """Location in the code that computes a tensor: the innermost module and the source line.

    Attributes:
        name: qualified name of the module, for example ``model.network.3``; empty for the graph itself.
        kind: the module's class.
        where: innermost source line outside of torch, as ``package/module.py:line, in function``.
    """

    name: str
    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})" if self.name else f"{self.kind}.forward"


@dataclass(frozen=True)
class Ref:
    """Reference to an argument that depends on the images, by the index of its value."""

    index: int


@dataclass(frozen=True, eq=False)
class ConstantValue:
    """Tensor argument that does not depend on the images, and the name of its parameter or buffer, if any."""

    tensor: Tensor
    name: str | None


@dataclass(frozen=True)
class Call:
    """Call of an ATen operator, with `Ref` and `ConstantValue` for tensors, and the index of the output or None."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: int | None


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images.

    Attributes:
        name: name in the file, or number of the operation.
        op: name of the operator.
        parents: indices of the values it is computed from.
        shape: shape of the tensor.
        sketch: see `sketch`; None for integers, which may stay the same where the values behind them have drifted.
        place: location in the code, for torch modules.
        call: the operator's call, for torch modules; None if it cannot be repeated separately.
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
        """Return the number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.name} ({self.op})"


@dataclass(frozen=True)
class Trace:
    """Record of one run of a graph.

    Attributes:
        values: all values in the order of their computation; the first one is the images.
        outputs: indices of the outputs.
        retained: whole arrays of the requested values, by index.
    """

    values: list[Value]
    outputs: list[int]
    retained: dict[int, Array]

    def children(self) -> list[list[int]]:
        """Return for each value the indices of the values computed from it."""
        children: list[list[int]] = [[] for _ in self.values]
        for index, value in enumerate(self.values):
            for parent in value.parents:
                children[parent].append(index)
        return children


class TensorSource(Protocol):
    """Protocol of a graph that can be run and traced."""

    def run(self, images: Tensor) -> list[Array]:
        """Return the outputs for uint8 images ``[batch, height, width, 3]``."""

    def trace(self, images: Tensor, keep: Collection[int] = ()) -> Trace:
        """Trace all values, and retain the whole arrays of those in `keep`; indices are the same in every call."""

    def weights(self, trace: Trace, inside: Collection[int]) -> dict[str, Array]:
        """Return the weights that the given values are computed with, by name."""


def sketch(array: Array) -> NDArray[np.float32]:
    """Return the least, largest and mean element, then up to `SAMPLES` elements at fixed indices of the flat array.

    Arrays with the same number of elements have sketches of the same length, whatever their shapes.
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
    """Return the largest absolute difference, relative to the largest expected magnitude; infinite for NaN."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - found).max(initial=0)
    scale = np.abs(expected).max(initial=0)
    return float(difference / scale) if np.isfinite(difference) and scale else float("inf")
