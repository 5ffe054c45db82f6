"""Find images of one and the same scene, be they copies, photographed twice, or shifted against each other."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

SIDE = 32
"""Pixels a side of the thumbnails that are compared."""

PEAK = 0.35
"""Of the correlation over all shifts, from which two images are looked at more closely."""

PARTS = 4
"""A side: what two images have in common is compared in so many rows and columns."""

ALIKE = 0.6
"""Likeness from which two images are named. In BCCD 21 pairs reach it, and all show one field of cells twice. Of the
2,254,626 pairs of the drawn diatoms, whose peak is high where two lie in the same pose, none does. JPEG quality 40
leaves a copy 0.85 or more; one that a crop of 5% scaled up may be missed."""

CLOSER = 50
"""Images that each is compared with closely, at most: of images of one kind, as written digits are, many peak."""

ALL_PAIRS = 4000
"""Images up to which every pair is compared, at some 10 microseconds each. Of more, only pairs whose hashes are near
each other are; that still finds copies, but few shifted images."""

NEAR = 30
"""Of 128 bits of hash, how many may differ. Copies differ in up to 15, unlike images rarely in fewer than 37."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images that look alike, the most alike first.

    Attributes:
        first: int64 ``[pairs]``, an image.
        second: int64 ``[pairs]``, a later one.
        likeness: float64 ``[pairs]``, `ALIKE` to 1.
        exact: bool ``[pairs]``: every pixel is the same.
        everywhere: whether every pair of images was compared, and not only those of similar hashes.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    likeness: NDArray[np.float64]
    exact: NDArray[np.bool_]
    everywhere: bool

    def __len__(self) -> int:
        return len(self.first)

    def take(self, order: NDArray[np.int64]) -> "Pairs":
        """The pairs at these places, in this order."""
        return Pairs(self.first[order], self.second[order], self.likeness[order], self.exact[order], self.everywhere)


def alike(images: Sequence[NDArray[np.uint8]], all_pairs: int = ALL_PAIRS) -> Pairs:
    """The pairs of images that show the same scene.

    Two grey thumbnails are laid over each other where their cross-correlation over all shifts is greatest; their
    likeness is the median of the correlations of the parts they have in common there. So an object in the same pose
    is not enough, what is around it has to agree as well: both whitened, which leaves structure of every size, and
    without what is coarse, where a large object reaches no further than its outline. The lesser of both counts.
    Brightness and contrast do not. Mirrored and rotated copies are not found.

    Args:
        images: n of uint8 ``[height, width, 3]``, of any sizes.
        all_pairs: of more images than these only those with near hashes are compared.
    """
    n = len(images)
    grey = [Image.fromarray(image).convert("L") for image in images]
    thumbnails = np.stack([np.asarray(each.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) for each in grey])
    white, fine, hashes = whitened(thumbnails), without_coarse(thumbnails), gradient_hashes(grey)
    spectra = torch.fft.rfft2(torch.from_numpy(white))
    _, identities = np.unique(np.array([_digest(image) for image in images]), return_inverse=True)
    everywhere = n <= all_pairs
    found: list[tuple[int, int, float]] = []
    for i in tqdm(range(n - 1), desc="comparing images", unit="image", leave=False, disable=None):
        others = np.arange(i + 1, n)
        if not everywhere:
            others = others[np.bitwise_count(hashes[i] ^ hashes[i + 1 :]).sum(1) <= NEAR]
        peaks, shifts = correlate(spectra[i], spectra[others])
        for k in np.argsort(-peaks, kind="stable")[:CLOSER]:
            j = int(others[k])
            if identities[j] == identities[i] or peaks[k] < PEAK:
                continue
            likeness = min(agreement(each[i], each[j], int(shifts[k])) for each in (white, fine))
            if likeness >= ALIKE:
                found.append((i, j, likeness))
        copies = i + 1 + np.flatnonzero(identities[i + 1 :] == identities[i])
        found += [(i, int(j), 1.0) for j in copies]
    found.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    first, second = (np.array([pair[k] for pair in found], np.int64) for k in range(2))
    values = np.array([pair[2] for pair in found], np.float64)
    return Pairs(first, second, values, np.asarray(identities[first] == identities[second]), everywhere)


def whitened(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thumbnails whose Fourier transform was divided by the root of its magnitudes, of mean 0 and unit energy.

    Halfway to phase correlation (Kuglin and Hines, 1975): a common vignette, or one dark object, would otherwise make
    all images alike. Of an image of one colour nothing is left.

    Args:
        thumbnails: float32 ``[n, SIDE, SIDE]``.
    """
    spectra = np.fft.rfft2(thumbnails)
    spectra[:, 0, 0] = 0
    spectra /= np.sqrt(np.maximum(np.abs(spectra), 1e-3))
    flat = np.fft.irfft2(spectra, s=(SIDE, SIDE))
    energy = np.linalg.norm(flat, axis=(1, 2), keepdims=True)
    return np.asarray(flat / np.maximum(energy, 1e-3), np.float32)


def without_coarse(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thumbnails, float32 ``[n, SIDE, SIDE]``, less the mean of the 5x5 pixels around each."""
    padded = np.pad(thumbnails, ((0, 0), (2, 2), (2, 2)), mode="edge")
    return np.asarray(thumbnails - sliding_window_view(padded, (5, 5), axis=(1, 2)).mean(axis=(-2, -1)), np.float32)


def correlate(spectrum: Tensor, spectra: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The greatest correlation over all (circular) shifts, up to 1, of one thumbnail with each of m; and where it is.

    Args:
        spectrum: complex64 ``[SIDE, SIDE // 2 + 1]``.
        spectra: the same of the others, ``[m, SIDE, SIDE // 2 + 1]``.
    """
    peaks, shifts = torch.fft.irfft2(spectrum * spectra.conj(), s=(SIDE, SIDE)).flatten(1).max(1)
    return np.asarray(peaks), np.asarray(shifts)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32], shift: int) -> float:
    """How well two thumbnails agree all over what they have in common once one is shifted onto the other.

    Args:
        one: ``[SIDE, SIDE]``.
        other: the same.
        shift: rows times `SIDE` plus columns by which the other is to be rolled.

    Returns:
        The median correlation of `PARTS` by `PARTS` parts, -1 to 1.
    """
    (top, other_top, height), (left, other_left, width) = (_common(each) for each in divmod(shift, SIDE))
    parts = np.stack(
        [
            one[top : top + height, left : left + width],
            other[other_top : other_top + height, other_left : other_left + width],
        ]
    ).reshape(2, PARTS, height // PARTS, PARTS, width // PARTS)
    parts = parts - parts.mean(axis=(2, 4), keepdims=True)
    product = (parts[0] * parts[1]).sum(axis=(1, 3))
    energy = (parts**2).sum(axis=(2, 4)).prod(axis=0)
    return float(np.median(product / np.sqrt(np.maximum(energy, 1e-18))))


def _common(shift: int) -> tuple[int, int, int]:
    """Where what is common begins in one and in the other, and its length, a multiple of `PARTS`."""
    signed = shift - SIDE if shift > SIDE // 2 else shift
    return max(signed, 0), max(-signed, 0), (SIDE - abs(signed)) // PARTS * PARTS


def gradient_hashes(grey: Sequence[Image.Image]) -> NDArray[np.uint64]:
    """Whether brightness rises from each cell of an 8x8 grid to the next, rightwards and downwards: dHash.

    Args:
        grey: n images of mode L.

    Returns:
        uint64 ``[n, 2]``.
    """

    def bits(size: tuple[int, int], axis: int) -> NDArray[np.bool_]:
        cells = np.stack([np.asarray(each.resize(size, Image.Resampling.BOX), np.int16) for each in grey])
        return (np.diff(cells, axis=axis) > 0).reshape(len(grey), 64)

    rises = np.concatenate([bits((9, 8), 2), bits((8, 9), 1)], axis=1)
    return np.packbits(rises, axis=1).view(np.uint64)


def _digest(image: NDArray[np.uint8]) -> str:
    """Of size and pixels: the same for the same image in another file format, where nothing was lost."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
