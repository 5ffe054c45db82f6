"""Match every tensor of a model with the tensors of an artifact, and find the first one that is missing.

Exporters fold and fuse, so a correct export lacks many of the model's tensors: a convolution with a folded BatchNorm
has no output of its own. After such a gap, later tensors are found again. A drift begins at the first tensor that is
missing together with all tensors computed from it, while all tensors that it is computed from are found.
"""

from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np
from numpy.typing import NDArray

from assay_export.drift.trace import Trace, Value, error

TOLERANCE = 3e-5
"""Two tensors are equal if no element differs by more than this fraction of the largest. Rounding gives 3e-6 (ResNet-56
in ONNX Runtime, after 55 convolutions)."""

NEARER = 0.1
"""The artifact's next tensor is the counterpart if its difference is below this fraction, as after adding a bias."""

RESHAPING = ("alias", "clone", "detach", "expand", "view", "_unsafe_view", "squeeze", "unsqueeze")
"""ATen operators that change no values, and which an artifact may not have."""


@dataclass(frozen=True)
class TensorMatch:
    """Equal tensors of a model and an artifact; all lists are indexed by the model's tensors.

    Attributes:
        found: indices of the artifact's tensors that equal the model's tensor, the best first.
        errors: least relative difference of these; infinite if there is none.
        informative: whether a match is evidence. Integers and decisions (only zeros and ones) are not, as they may stay
            the same where the values behind them have drifted, nor are constant tensors.
    """

    found: list[list[int]]
    errors: list[float]
    informative: list[bool]

    @property
    def known(self) -> set[int]:
        """Return the indices of the artifact's tensors that equal an informative tensor of the model."""
        return {0}.union(*(each for each, telling in zip(self.found, self.informative, strict=True) if telling))


def match(one: Trace, other: Trace) -> TensorMatch:
    """Compare every tensor of the model with the artifact's tensors that have the same number of elements."""
    by_size: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    for index, value in enumerate(other.values):
        if value.sketch is not None:
            by_size.setdefault(value.size, []).append((index, value.sketch))
    found, errors, informative = [], [], []
    for value in one.values:
        drawn = np.zeros(0, np.float32) if value.sketch is None else value.sketch
        near = {}
        for index, candidate in by_size.get(value.size, ()) if drawn.size else ():
            # Least, largest and mean element first, which is cheap.
            if error(drawn[:3], candidate[:3]) <= TOLERANCE and (gap := error(drawn, candidate)) <= TOLERANCE:
                near[index] = gap
        found.append(sorted(near, key=lambda index: (other.values[index].shape != value.shape, index)))
        errors.append(min(near.values(), default=np.inf))
        informative.append(bool(drawn.size and drawn[0] < drawn[1] and not np.isin(drawn[3:], (0, 1)).all()))
    return TensorMatch(found, errors, informative)


def first_missing(one: Trace, found: TensorMatch) -> int:
    """Return the index of the model's first missing tensor, among those that the outputs depend on.

    It is the first output if no tensor is missing.

    Args:
        one: the model's trace.
        found: the match of its tensors with the artifact's.
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
    """Return whether a trace has a BatchNorm that was not folded."""
    return any("batch_norm" in value.op or value.op == "BatchNormalization" for value in trace.values)


def norm_after(one: Trace, index: int) -> int:
    """Return the index of the BatchNorm that an exporter folds into this layer, or the layer's own index."""
    return next((child for child in one.children()[index] if "batch_norm" in one.values[child].op), index)


def counterpart(value: Value, other: Trace, known: set[int]) -> int | None:
    """Return the index of the artifact's counterpart of a missing tensor; None if there is none.

    It is the artifact's first unmatched tensor of the same shape, or else of a shape that flattens to the same.

    Args:
        value: the model's tensor.
        other: the artifact's trace.
        known: indices of the artifact's tensors that the model has too.
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
    """Return whether merging axes turns one shape into the other, as ``[2, 2, 3, 32, 32]`` into ``[12, 32, 32]``."""
    products = [set(accumulate(shape, mul, initial=1)) for shape in (one, other)]
    return max(products[0]) == max(products[1]) and (products[0] <= products[1] or products[1] <= products[0])
