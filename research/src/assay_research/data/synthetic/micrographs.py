"""Synthetic light micrographs of diatoms; each depends only on a seed, its index and the settings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assay_research.data.synthetic.flora import Species
from assay_research.data.synthetic.frustules import Floats, Specimen, draw, sample_specimen, window

TAIL = (2.0, -1.4)
"""The frequency of the species of rank r, from 1, is proportional to (r + 2) ** -1.4. This is within the scatter of the
Kaggle data set's validation split: 91, 63, 37, 39, 36 objects of ranks 1 to 5, 16 of 9, 6 of 17, 1 of 68."""

OBJECTS = (0.03, 0.68, 0.21, 0.06, 0.02)
"""Fractions of the images with 0, 1, ... objects: 1.36 on average, 1.40 in images with objects."""

CROWDING = 0.3
"""Boxes with a larger overlap (IoU) are placed again, up to `TRIES` times."""

TRIES = 10

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Slide:
    """Plan of one image: its specimens and their positions.

    Attributes:
        ranks: rank of the species of each specimen, from 0.
        specimens: the specimens.
        centres: x and y of each specimen's centre in the image, in pixels.
    """

    ranks: tuple[int, ...]
    specimens: tuple[Specimen, ...]
    centres: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Micrograph:
    """Rendered image and the boxes of its objects.

    Attributes:
        image: uint8 ``[height, width, 3]``, RGB.
        boxes: float32 ``[objects, 4]``: left, top, right, bottom in pixels, around all pixels within the outline.
    """

    image: NDArray[np.uint8]
    boxes: Floats


def sample_slide(index: int, seed: int, flora: tuple[Species, ...], image: tuple[int, int], scale: float) -> Slide:
    """Draw the random specimens of an image and their positions.

    The species of the first object in successive images follows a golden-ratio sequence, so that even a small set
    contains all species in about the right proportions. The species of further objects are random.

    Args:
        index: index of the image.
        seed: random seed of the data set.
        flora: the species, the most frequent first.
        image: height and width of the image in pixels.
        scale: pixels per micrometre.
    """
    random = np.random.default_rng([seed, index])
    shares = np.cumsum((np.arange(1, len(flora) + 1) + TAIL[0]) ** TAIL[1])
    count = int(np.searchsorted(np.cumsum(OBJECTS), random.random()))
    points = random.random(count)
    points[:1] = (np.random.default_rng(seed).random() + index * GOLDEN) % 1
    ranks = [int(rank) for rank in np.searchsorted(shares, points * shares[-1])]
    specimens = tuple(sample_specimen(flora[rank], random) for rank in ranks)
    bounds: list[NDArray[np.float64]] = []
    for specimen in specimens:
        reach = np.array(specimen.reach) * scale
        for _ in range(TRIES):
            box = np.stack([_centre(reach, image, random), reach])
            if all(_overlap(box, other) < CROWDING for other in bounds):
                break
        bounds.append(box)
    return Slide(tuple(ranks), specimens, tuple((float(each[0, 0]), float(each[0, 1])) for each in bounds))


def render(slide: Slide, index: int, seed: int, image: tuple[int, int], scale: float) -> Micrograph:
    """Render a slide as a micrograph.

    Args:
        slide: the specimens and their positions.
        index: index of the image.
        seed: random seed of the data set.
        image: height and width of the image in pixels.
        scale: pixels per micrometre.
    """
    random = np.random.default_rng([seed, index, 1])
    direction, strength = random.uniform(0, 2 * np.pi), random.uniform(0, 0.14)
    light = (float(strength * np.cos(direction)), float(strength * np.sin(direction)))
    passed = _background(random, image, scale)
    _litter(passed, random, scale)
    boxes = np.zeros((len(slide.specimens), 4), np.float32)
    for specimen, centre, box in zip(slide.specimens, slide.centres, boxes, strict=True):
        drawing = draw(specimen, centre, scale, image, light)
        height, width = drawing.contrast.shape
        passed[drawing.top : drawing.top + height, drawing.left : drawing.left + width] *= 1 + drawing.contrast
        rows, columns = (np.flatnonzero(drawing.mask.any(axis)) for axis in (1, 0))
        box[:] = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        box += (drawing.left, drawing.top, drawing.left, drawing.top)
    return Micrograph(_expose(passed, random), boxes)


def _centre(reach: NDArray[np.float64], image: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw a random centre for a box of this half-size: inside the image if it fits, and more often near the middle."""
    size = np.array(image[::-1])
    edge = np.where(reach + 2 < size / 2, reach + 2, size / 4)
    return np.asarray(edge + (size - 2 * edge) * random.beta(1.7, 1.7, 2))


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes, each given as rows of its centre and of its half-size."""
    low, high = np.maximum(one[0] - one[1], other[0] - other[1]), np.minimum(one[0] + one[1], other[0] + other[1])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (4 * np.prod(one[1]) + 4 * np.prod(other[1]) - common))


def _background(random: np.random.Generator, image: tuple[int, int], scale: float) -> Floats:
    """Light through the empty slide, 1 on average: uneven lamp, mounting medium, objects far out of focus."""
    height, width = image
    across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    tilt, fall = random.uniform(-0.06, 0.06, 2).astype(np.float32), np.float32(random.uniform(0.02, 0.1))
    light: Floats = 1 + tilt[0] * across + tilt[1] * down - fall * (across**2 + down**2 - np.float32(0.67))
    texture = np.zeros((2, 2), np.float32)
    for grain, strength in ((14.0, 0.02), (4.0, 0.012), (1.3, 0.009)):
        rows, columns = (max(2, round(length / scale / grain)) for length in image)
        finer = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(strength)
        texture = _enlarged(texture, (rows, columns)) + finer
    light += _enlarged(texture, image)
    return light


def _enlarged(field: Floats, size: tuple[int, int]) -> Floats:
    """Resize a field to another height and width by bicubic interpolation."""
    return np.asarray(Image.fromarray(field).resize(size[::-1], Image.Resampling.BICUBIC))


def _litter(light: Floats, random: np.random.Generator, scale: float) -> None:
    """Add objects that are no diatoms to the light: specks, mineral grains, fibres and dust out of focus."""
    height, width = light.shape
    area = height * width / scale**2
    for draw_one, density in ((_speck, 8e-4), (_grain, 4e-4), (_fibre, 6e-5), (_dust, 2e-4)):
        for _ in range(random.poisson(density * area)):
            centre = float(random.uniform(0, width)), float(random.uniform(0, height))
            top, left, contrast = draw_one(random, centre, scale, (height, width))
            light[top : top + contrast.shape[0], left : left + contrast.shape[1]] *= 1 + contrast


def _speck(
    random: np.random.Generator, centre: tuple[float, float], scale: float, image: tuple[int, int]
) -> tuple[int, int, Floats]:
    size = random.gamma(2.0, 0.18) + 0.5 / scale
    top, left, across, down = window(centre, (3 * size, 3 * size), scale, image)
    squared = (across**2 + down**2) / np.float32(size**2)
    depth = np.float32(random.uniform(0.1, 0.5))
    return top, left, depth * (np.float32(0.45) * np.exp(-squared / 5) - np.exp(-squared / 2))


def _grain(
    random: np.random.Generator, centre: tuple[float, float], scale: float, image: tuple[int, int]
) -> tuple[int, int, Floats]:
    size, sides = 0.5 + random.gamma(1.6, 0.55), int(random.integers(5, 10))
    top, left, across, down = window(centre, (1.3 * size, 1.3 * size), scale, image)
    turns = (np.arange(sides) + random.uniform(-0.4, 0.4, sides)) * (2 * np.pi / sides)
    long, narrow = random.uniform(0, np.pi), random.uniform(0.4, 1)
    faces = random.uniform(0.75, 1.0, sides) * np.hypot(np.cos(turns - long), narrow * np.sin(turns - long)) * size
    corner = np.float32(random.uniform(0.03, 0.25) * size)
    total = np.zeros(np.broadcast_shapes(across.shape, down.shape), np.float32)
    for turn, face in zip(turns.astype(np.float32), faces.astype(np.float32), strict=True):
        total += np.exp(np.minimum((across * np.cos(turn) + down * np.sin(turn) - face) / corner, 60))
    distance = corner * np.log(total)
    line = np.float32(random.uniform(0.12, 0.35) + 0.3 / scale)
    facet = np.sin(np.float32(random.uniform(1, 3) / size) * across + np.float32(random.uniform(1, 3) / size) * down)
    inside = np.clip(0.5 - distance / line, 0, 1) * (random.uniform(-0.25, 0.08) + 0.08 * facet)
    bright = np.exp(-(((distance - 1.8 * line) / (1.3 * line)) ** 2) / 2)
    contrast = inside - random.uniform(0.25, 0.5) * np.exp(-((distance / line) ** 2) / 2) + 0.13 * bright
    return top, left, np.asarray(random.uniform(0.4, 1) * contrast, np.float32)


def _fibre(
    random: np.random.Generator, centre: tuple[float, float], scale: float, image: tuple[int, int]
) -> tuple[int, int, Floats]:
    half, turn = random.uniform(5, 25), random.uniform(0, np.pi)
    top, left, across, down = window(centre, (half, half), scale, image)
    x = across * np.float32(np.cos(turn)) + down * np.float32(np.sin(turn))
    y = down * np.float32(np.cos(turn)) - across * np.float32(np.sin(turn))
    curve = np.float32(random.uniform(-0.6, 0.6) / half)
    distance = np.abs(y - curve * x**2) / np.sqrt(1 + (2 * curve * x) ** 2)
    thick = np.float32(random.uniform(0.25, 0.7) + 0.3 / scale)
    ends = np.clip((half - np.hypot(x, y)) / 2, 0, 1)
    profile = np.float32(0.4) * np.exp(-((distance / thick - 2.2) ** 2)) - np.exp(-((distance / thick) ** 2) / 2)
    return top, left, np.asarray(random.uniform(0.08, 0.3) * ends * profile, np.float32)


def _dust(
    random: np.random.Generator, centre: tuple[float, float], scale: float, image: tuple[int, int]
) -> tuple[int, int, Floats]:
    size = random.uniform(2.5, 9)
    top, left, across, down = window(centre, (1.6 * size, 1.6 * size), scale, image)
    distance = np.sqrt(across**2 + down**2) / np.float32(size)
    ring = np.exp(-(((distance - 1) / 0.16) ** 2))
    disc = np.exp(-(distance**6))
    return top, left, np.asarray(random.uniform(0.02, 0.07) * (0.6 * ring - disc), np.float32)


def _expose(light: Floats, random: np.random.Generator) -> NDArray[np.uint8]:
    """Convert light to the camera's image, grey to yellowish, with noise.

    The noise is a sum of random bytes, two of them common to the channels. After rounding it is close enough to normal
    noise, and ten times as fast to draw.
    """
    level, warmth, noise = random.uniform(140, 205), random.beta(1.6, 1.6), random.uniform(1.2, 3.4)
    raw = np.frombuffer(random.bytes(5 * light.size), np.int8).reshape(5, *light.shape)
    common = np.add(raw[0], raw[1], dtype=np.float32)
    image = np.empty((*light.shape, 3), np.uint8)
    for channel, tint in enumerate((1 + 0.03 * warmth, 1.0, 0.97 - 0.16 * warmth)):
        plane = light * np.float32(level * tint)
        plane += (common + raw[2 + channel]) * np.float32(noise / 105)
        np.clip(plane, 0, 255, out=plane)
        image[:, :, channel] = plane
    return image
