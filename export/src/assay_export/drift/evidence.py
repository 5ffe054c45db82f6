"""Describe how a tensor of an artifact differs from the model's: channels reordered, mirrored, scaled or shifted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Array = NDArray[Any]

EXPLAINED = 0.01
"""A relation explains a difference if less than this fraction of the difference remains."""

CHANNELS = 1
"""Axis of the channels in ``[batch, channels, height, width]``, and in a kernel, ``[out, in, height, width]``."""

POINTS = 8
"""Least number of elements per channel for a fit of scale and shift, since a line fits any two points."""


def relation(expected: Array, found: Array) -> str | None:
    """Describe how `found` was made from `expected`, or return None if no relation explains it.

    Args:
        expected: tensor of the model.
        found: tensor of the artifact, of the same shape.
    """
    finite = np.isfinite(found)
    if not finite.all():
        return f"{(~finite).sum()} of its {found.size} values are not finite"
    if (text := rearrangement(expected, found)) is not None:
        return text
    if (fit := affine(expected, found)) is not None:
        scale, shift = fit
        scaled = f"scaled by {_span(scale)}" if np.abs(scale - 1).max() > 1e-4 else ""
        shifted = f"shifted by {_span(shift)}" if np.abs(shift).max() > 1e-4 * np.abs(expected).max() else ""
        return f"each channel is {' and '.join(filter(None, (scaled, shifted))) or 'almost the same'}"
    return None


def rearrangement(expected: Array, found: Array) -> str | None:
    """Describe how the pixels or channels of `expected` were rearranged to `found`; None if they were not."""
    candidates = _rearranged(expected, found)
    return next((text for text, each in candidates if _explains(expected, each, found)), None)


def affine(expected: Array, found: Array) -> tuple[Array, Array] | None:
    """Return the scale and shift of each channel, float64 ``[channels]``, that map `expected` to `found`; else None."""
    if expected.ndim < 2 or expected.size < POINTS * expected.shape[CHANNELS]:
        return None
    one, other = (np.moveaxis(each, CHANNELS, 0).reshape(each.shape[CHANNELS], -1) for each in (expected, found))
    one, other = one.astype(np.float64), other.astype(np.float64)
    means = one.mean(1), other.mean(1)
    centred = one - means[0][:, None]
    spread = (centred**2).sum(1)
    scale = np.where(spread > 0, (centred * other).sum(1) / np.where(spread > 0, spread, 1), 1)
    shift = means[1] - scale * means[0]
    return (scale, shift) if _explains(one, one * scale[:, None] + shift[:, None], other) else None


def epsilon(norm: nn.Module, expected: Array, found: Array) -> str | None:
    """Describe the other epsilon of a BatchNorm that gives `found` instead of `expected`; None if there is none.

    BatchNorm scales a channel by ``weight / sqrt(variance + eps)``, so the ratio of two outputs without bias gives the
    other eps, which must be the same in every channel.
    """
    fit = affine(expected, found)
    if fit is None or not isinstance(norm, _BatchNorm) or norm.running_var is None:
        return None
    variance, scale = norm.running_var.double().numpy(), fit[0]
    each = (variance + norm.eps) / scale**2 - variance
    # Where the variance is small, eps has most effect and rounding least.
    eps = float(each[variance.argmin()])
    if not variance.min() + eps > 0:
        return None
    predicted = np.sqrt((variance + norm.eps) / (variance + eps))
    bias = 0.0 if norm.bias is None else norm.bias.detach().double().numpy()
    unexplained = np.abs(predicted - scale).max(), np.abs(bias * (1 - scale) - fit[1]).max()
    limits = np.abs(scale - 1).max(), np.abs(scale - 1).max() * np.abs(expected).max()
    if not all(rest <= 0.05 * limit for rest, limit in zip(unexplained, limits, strict=True)):
        return None
    return f"in every channel it is what eps={eps:.3g} would give; the model has eps={norm.eps:g}"


def folded(kernel: Array, norm: nn.Module) -> Array:
    """Return a kernel with the following BatchNorm folded in; unchanged if that layer has no running statistics."""
    if not isinstance(norm, _BatchNorm) or norm.running_var is None:
        return kernel
    factor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.detach()
    whole: Array = kernel * factor.numpy().reshape(-1, *[1] * (kernel.ndim - 1))
    return whole


def constants(expected: Mapping[str, Array], found: Sequence[Array]) -> list[str]:
    """Describe which weights of a layer differ in the artifact.

    Args:
        expected: the model's weights, by name.
        found: the weights that the artifact uses in that layer.
    """
    messages = []
    for name, array in expected.items():
        alike = [each for each in found if each.size == array.size]
        alike += [each.swapaxes(-1, -2) for each in alike if each.ndim > 1]
        gaps = [float(np.abs(each.reshape(array.shape) - array).max(initial=0)) for each in alike]
        if not gaps or min(gaps) <= 1e-5 * np.abs(array).max(initial=0):
            continue
        nearest = alike[int(np.argmin(gaps))].reshape(array.shape)
        what = relation(array, nearest) if array.ndim == 4 else None
        messages.append(f"the artifact has another '{name}': {what or f'it differs by up to {min(gaps):.3g}'}")
    return messages


def _rearranged(expected: Array, found: Array) -> list[tuple[str, Array]]:
    if expected.ndim != 4:
        return []
    order = _order(expected, found)
    by_channel = [(f"its channels are in the order {', '.join(map(str, order[:8]))}", expected[:, order])]
    return [
        *(by_channel if len(set(order)) == len(order) > 1 else []),
        ("it is mirrored", expected[..., ::-1]),
        ("it is upside down", expected[..., ::-1, :]),
        *([("its rows and columns are swapped", expected.swapaxes(-1, -2))] if _square(expected) else []),
    ]


def _square(array: Array) -> bool:
    height, width = array.shape[-2:]
    return bool(height == width > 1)


def _order(expected: Array, found: Array) -> list[int]:
    """Return for each channel found the index of the nearest expected channel."""
    one, other = (np.moveaxis(each, CHANNELS, 0).reshape(each.shape[CHANNELS], -1) for each in (expected, found))
    one, other = (each.astype(np.float64) for each in (one, other))
    distances = (other**2).sum(1)[:, None] + (one**2).sum(1) - 2 * other @ one.T
    return [int(each) for each in distances.argmin(1)]


def _explains(expected: Array, candidate: Array, found: Array) -> bool:
    before, after = (float(np.abs(each - found).max(initial=0)) for each in (expected, candidate))
    return after < EXPLAINED * before


def _span(values: Array) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"
