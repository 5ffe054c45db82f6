"""Look for every tensor of a model among an artifact's, and for the first one that is lost.

Exporters fold and fuse, so a correct export lacks many of the model's tensors: a convolution whose BatchNorm went into
its weights has no output of its own any more. What is lost so reappears further on. A drift begins at the first tensor
that is not there, and nothing computed from it either, though all it is computed from is.
"""

from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np
from numpy.typing import NDArray

from assay_export.drift.trace import Trace, Value, error

TOLERANCE = 3e-5
"""Two tensors are the same if no element differs by more than this part of the largest. Rounding alone makes 3e-6 of it
(ResNet-56 in ONNX Runtime, after 55 convolutions)."""

NEARER = 0.1
"""The artifact's next tensor is the counterpart if it is this much nearer: a product whose bias is added after it."""

RESHAPING = ("alias", "clone", "detach", "expand", "view", "_unsafe_view", "squeeze", "unsqueeze")
"""ATen operators that change no value; an artifact broadcasts without them."""


@dataclass(frozen=True)
class TensorMatch:
    """Which tensors are the same.

    Attributes:
        found: of each of the model's tensors those of the artifact that equal it, the best first.
        errors: their least relative difference; infinite where there is none.
        informative: whether finding it means something: integers and decisions, zeros and ones, stay as they are
            where what they count has drifted, and all zeros are alike.
    """

    found: list[list[int]]
    errors: list[float]
    informative: list[bool]

    @property
    def known(self) -> set[int]:
        """The artifact's tensors that the model has too, of those that mean something."""
        return {0}.union(*(each for each, telling in zip(self.found, self.informative, strict=True) if telling))


def match(one: Trace, other: Trace) -> TensorMatch:
    """Compare every tensor of the model with every one of the artifact that has as many elements."""
    by_size: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    for index, value in enumerate(other.values):
        if value.sketch is not None:
            by_size.setdefault(value.size, []).append((index, value.sketch))
    found, errors, informative = [], [], []
    for value in one.values:
        drawn = np.zeros(0, np.float32) if value.sketch is None else value.sketch
        near = {}
        for index, candidate in by_size.get(value.size, ()) if drawn.size else ():
            # Their ends and mean first, which cost nothing.
            if error(drawn[:3], candidate[:3]) <= TOLERANCE and (gap := error(drawn, candidate)) <= TOLERANCE:
                near[index] = gap
        found.append(sorted(near, key=lambda index: (other.values[index].shape != value.shape, index)))
        errors.append(min(near.values(), default=np.inf))
        informative.append(bool(drawn.size and drawn[0] < drawn[1] and not np.isin(drawn[3:], (0, 1)).all()))
    return TensorMatch(found, errors, informative)


def first_lost(one: Trace, found: TensorMatch) -> int:
    """The first tensor that is lost for good, of those that the outputs are computed from; an output if there is none.

    Args:
        one: the model's.
        found: what the artifact has of it.
    """
    children, used = one.children(), set(one.outputs)
    there: list[bool] = []
    for index, value in enumerate(one.values):
        telling = found.informative[index]
        same = not telling or value.op.removeprefix("aten.") in RESHAPING
        there.append(bool(telling and found.found[index]) or (same and all(there[each] for each in value.parents)))
    good = list(there)
    for index in reversed(range(len(one.values))):
        if index in used:
            used.update(one.values[index].parents)
        good[index] = there[index] or any(good[child] for child in children[index] if child in used)
    for index, value in enumerate(one.values):
        if index in used and not good[index] and all(good[parent] for parent in value.parents):
            return index
    return one.outputs[0]


def has_norms(trace: Trace) -> bool:
    """Whether there is a BatchNorm that was not folded."""
    return any("batch_norm" in value.op or value.op == "BatchNormalization" for value in trace.values)


def norm_after(one: Trace, index: int) -> int:
    """The BatchNorm that an exporter folds into this layer, or the layer itself."""
    return next((child for child in one.children()[index] if "batch_norm" in one.values[child].op), index)


def counterpart(value: Value, other: Trace, known: set[int]) -> int | None:
    """The artifact's first lost tensor that has the shape of the model's, or else one that flattens to the same.

    Args:
        value: the model's.
        other: the artifact's trace.
        known: those of its tensors that the model has too.
    """
    if value.sketch is None:
        return None
    children, lives = other.children(), [index in known for index in range(len(other.values))]
    for index in reversed(range(len(lives))):
        lives[index] = lives[index] or any(lives[child] for child in children[index])
    sketches = {
        index: each.sketch
        for index, each in enumerate(other.values)
        if not lives[index] and each.sketch is not None and _flattened(each.shape, value.shape)
    }
    alike = [index for index in sketches if other.values[index].shape == value.shape] or list(sketches)
    if not alike:
        return None
    gaps = {index: error(value.sketch, sketches[index]) for index in (alike[0], *children[alike[0]]) if index in alike}
    nearest = min(gaps, key=lambda index: gaps[index])
    return nearest if gaps[nearest] < NEARER * gaps[alike[0]] else alike[0]


def _flattened(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one shape is the other with neighbouring axes made one: ``[12, 32, 32]`` and ``[2, 2, 3, 32, 32]``."""
    products = [set(accumulate(shape, mul, initial=1)) for shape in (one, other)]
    return max(products[0]) == max(products[1]) and (products[0] <= products[1] or products[1] <= products[0])
