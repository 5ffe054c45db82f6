"""Detection of near-duplicate images: copies, and images of the same scene, also if shifted against each other."""

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
"""Smallest peak of the correlation over all shifts for which two images are compared by parts."""

PARTS = 4
"""Number of rows, and of columns, into which the common area of two images is divided for the comparison."""

MIN_SIMILARITY = 0.6
"""Smallest similarity of a near-duplicate pair. In BCCD 21 pairs reach it, and all show one field of cells twice. Of
the 2,254,626 pairs of the synthetic diatoms, whose peak is high where two lie in the same pose, none does. A copy at
JPEG quality 40 has 0.85 or more; a copy that was cropped by 5% and scaled up may be missed."""

MAX_CANDIDATES = 50
"""Largest number of images that an image is compared with by parts; images of one kind, like digits, peak often."""

ALL_PAIRS = 4000
"""Largest number of images for which every pair is compared, at about 10 microseconds each. For more images, only pairs
with similar hashes are compared, which still finds copies, but few shifted images."""

MAX_DIFFERENT_BITS = 30
"""Largest number of different bits of two similar hashes, of 128. Copies differ in up to 15 bits, different images
rarely in fewer than 37."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Near-duplicate pairs of images, the most similar first.

    Attributes:
        first: int64 ``[pairs]``: index of one image.
        second: int64 ``[pairs]``: index of the other image, larger than the first.
        similarity: float64 ``[pairs]``, `MIN_SIMILARITY` to 1.
        exact: bool ``[pairs]``: True if all pixels are equal.
        exhaustive: True if every pair of images was compared; False if only pairs with similar hashes were.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]
    exact: NDArray[np.bool_]
    exhaustive: bool

    def __len__(self) -> int:
        return len(self.first)

    def take(self, order: NDArray[np.int64]) -> "Pairs":
        """Select pairs by index, in the given order."""
        return Pairs(self.first[order], self.second[order], self.similarity[order], self.exact[order], self.exhaustive)


def find_near_duplicates(images: Sequence[NDArray[np.uint8]], all_pairs: int = ALL_PAIRS) -> Pairs:
    """Find the pairs of images that show the same scene.

    Two grey thumbnails are aligned at the shift with the largest cross-correlation. Their similarity is the median
    correlation of the parts of their common area, so that one object in the same pose is not enough: its surroundings
    have to agree too. It is computed twice, and the smaller value is used: on whitened thumbnails, which keep structure
    of every size, and on thumbnails without coarse structure, where a large object has no effect beyond its outline.
    Brightness and contrast have no effect. Mirrored and rotated copies are not found.

    Args:
        images: n images uint8 ``[height, width, 3]`` of any size.
        all_pairs: largest number of images for which every pair is compared; for more images, only pairs with similar
            hashes are.
    """
    n = len(images)
    grey = [Image.fromarray(image).convert("L") for image in images]
    thumbnails = np.stack([np.asarray(each.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) for each in grey])
    white, fine, hashes = whitened(thumbnails), without_coarse(thumbnails), gradient_hashes(grey)
    spectra = torch.fft.rfft2(torch.from_numpy(white))
    _, identities = np.unique(np.array([_digest(image) for image in images]), return_inverse=True)
    exhaustive = n <= all_pairs
    found: list[tuple[int, int, float]] = []
    for i in tqdm(range(n - 1), desc="comparing images", unit="image", leave=False, disable=None):
        others = np.arange(i + 1, n)
        if not exhaustive:
            others = others[np.bitwise_count(hashes[i] ^ hashes[i + 1 :]).sum(1) <= MAX_DIFFERENT_BITS]
        peaks, shifts = correlate(spectra[i], spectra[others])
        for k in np.argsort(-peaks, kind="stable")[:MAX_CANDIDATES]:
            j = int(others[k])
            if identities[j] == identities[i] or peaks[k] < PEAK:
                continue
            similarity = min(agreement(each[i], each[j], int(shifts[k])) for each in (white, fine))
            if similarity >= MIN_SIMILARITY:
                found.append((i, j, similarity))
        copies = i + 1 + np.flatnonzero(identities[i + 1 :] == identities[i])
        found += [(i, int(j), 1.0) for j in copies]
    found.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    first, second = (np.array([pair[k] for pair in found], np.int64) for k in range(2))
    values = np.array([pair[2] for pair in found], np.float64)
    return Pairs(first, second, values, np.asarray(identities[first] == identities[second]), exhaustive)


def whitened(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide the Fourier transform of thumbnails by the square root of its magnitudes; return mean 0 and unit energy.

    This is halfway to phase correlation (Kuglin and Hines, 1975). Without it, a common vignette or one dark object
    would make all images similar. An image of one colour becomes zero.

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
    """Subtract the mean of the surrounding 5x5 pixels from each pixel of thumbnails, float32 ``[n, SIDE, SIDE]``."""
    padded = np.pad(thumbnails, ((0, 0), (2, 2), (2, 2)), mode="edge")
    return np.asarray(thumbnails - sliding_window_view(padded, (5, 5), axis=(1, 2)).mean(axis=(-2, -1)), np.float32)


def correlate(spectrum: Tensor, spectra: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the largest correlation over all circular shifts of one thumbnail with each of m others, and its shift.

    Args:
        spectrum: Fourier transform of the thumbnail, complex64 ``[SIDE, SIDE // 2 + 1]``.
        spectra: Fourier transforms of the others, complex64 ``[m, SIDE, SIDE // 2 + 1]``.

    Returns:
        float32 ``[m]``: correlations, at most 1; int64 ``[m]``: shifts, rows times `SIDE` plus columns.
    """
    peaks, shifts = torch.fft.irfft2(spectrum * spectra.conj(), s=(SIDE, SIDE)).flatten(1).max(1)
    return np.asarray(peaks), np.asarray(shifts)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32], shift: int) -> float:
    """Return the median correlation of the parts of two thumbnails' common area after a shift.

    Args:
        one: ``[SIDE, SIDE]``.
        other: ``[SIDE, SIDE]``.
        shift: circular shift of `other`, rows times `SIDE` plus columns.

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
    """Return the start of the common range in one and in the other axis, and its length, a multiple of `PARTS`."""
    signed = shift - SIDE if shift > SIDE // 2 else shift
    return max(signed, 0), max(-signed, 0), (SIDE - abs(signed)) // PARTS * PARTS


def gradient_hashes(grey: Sequence[Image.Image]) -> NDArray[np.uint64]:
    """Return the dHash of images: one bit for each brightness increase between neighbours of an 8x8 grid.

    Args:
        grey: n images of mode L.

    Returns:
        uint64 ``[n, 2]``: 64 bits for neighbours to the right, then 64 bits for neighbours below.
    """

    def bits(size: tuple[int, int], axis: int) -> NDArray[np.bool_]:
        cells = np.stack([np.asarray(each.resize(size, Image.Resampling.BOX), np.int16) for each in grey])
        return (np.diff(cells, axis=axis) > 0).reshape(len(grey), 64)

    rises = np.concatenate([bits((9, 8), 2), bits((8, 9), 1)], axis=1)
    return np.packbits(rises, axis=1).view(np.uint64)


def _digest(image: NDArray[np.uint8]) -> str:
    """Hash of size and pixels, which is equal for equal images in different lossless file formats."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
