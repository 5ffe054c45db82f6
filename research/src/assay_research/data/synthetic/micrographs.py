"""Images of diatoms under a light microscope, each drawn from a seed and its number alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assay_research.data.synthetic.flora import Species
from assay_research.data.synthetic.frustules import Floats, Specimen, collect, draw, window

TAIL = (2.0, -1.4)
"""Objects of the species of rank r, from 1, are in proportion to (r + 2) ** -1.4. That is within the scatter of what
the Kaggle data set's validation split holds: 91, 63, 37, 39, 36 of ranks 1 to 5, 16 of 9, 6 of 17, 1 of 68."""

OBJECTS = (0.03, 0.68, 0.21, 0.06, 0.02)
"""Shares of the images with 0, 1, ... objects; 1.36 on average, 1.40 where there are any."""

CROWDING = 0.3
"""Boxes that overlap by more (IoU) are placed again, and stay after `TRIES`."""

TRIES = 10

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Slide:
    """What lies in an image, before it is drawn.

    Attributes:
        ranks: of the species, from 0.
        specimens: as many.
        centres: x and y of each in the image, pixels.
    """

    ranks: tuple[int, ...]
    specimens: tuple[Specimen, ...]
    centres: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Micrograph:
    """An image and the bounds of what lies in it.

    Attributes:
        image: uint8 ``[height, width, 3]``, RGB.
        boxes: float32 ``[objects, 4]``: left, top, right, bottom in pixels, around all pixels within the outline.
    """

    image: NDArray[np.uint8]
    boxes: Floats


def prepare(index: int, seed: int, flora: tuple[Species, ...], image: tuple[int, int], scale: float) -> Slide:
    """Decide what lies in an image.

    The first object of successive images walks through the species with steps of the golden ratio, so that even a
    small set holds all of them in about their shares; the others are drawn by chance.

    Args:
        index: of the image.
        seed: of the set.
        flora: the species, the most frequent first.
        image: height and width, pixels.
        scale: pixels a micrometre.
    """
    random = np.random.default_rng([seed, index])
    shares = np.cumsum((np.arange(1, len(flora) + 1) + TAIL[0]) ** TAIL[1])
    count = int(np.searchsorted(np.cumsum(OBJECTS), random.random()))
    points = random.random(count)
    points[:1] = (np.random.default_rng(seed).random() + index * GOLDEN) % 1
    ranks = [int(rank) for rank in np.searchsorted(shares, points * shares[-1])]
    specimens = tuple(collect(flora[rank], random) for rank in ranks)
    bounds: list[NDArray[np.float64]] = []
    for specimen in specimens:
        reach = np.array(specimen.reach) * scale
        for _ in range(TRIES):
            box = np.stack([_centre(reach, image, random), reach])
            if all(_overlap(box, other) < CROWDING for other in bounds):
                break
        bounds.append(box)
    return Slide(tuple(ranks), specimens, tuple((float(each[0, 0]), float(each[0, 1])) for each in bounds))


def take(slide: Slide, index: int, seed: int, image: tuple[int, int], scale: float) -> Micrograph:
    """Draw a slide.

    Args:
        slide: what lies in the image.
        index: of the image.
        seed: of the set.
        image: height and width, pixels.
        scale: pixels a micrometre.
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
    """Where a box of half that width and height lies: in the image if it fits, and rather in the middle of it."""
    size = np.array(image[::-1])
    edge = np.where(reach + 2 < size / 2, reach + 2, size / 4)
    return np.asarray(edge + (size - 2 * edge) * random.beta(1.7, 1.7, 2))


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes, each its centre above half its width and height."""
    low, high = np.maximum(one[0] - one[1], other[0] - other[1]), np.minimum(one[0] + one[1], other[0] + other[1])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (4 * np.prod(one[1]) + 4 * np.prod(other[1]) - common))


def _background(random: np.random.Generator, image: tuple[int, int], scale: float) -> Floats:
    """Light that passes the empty slide, 1 on average: uneven lamp, mounting medium, what lies far out of focus."""
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
    """A field at another height and width, smooth between its points."""
    return np.asarray(Image.fromarray(field).resize(size[::-1], Image.Resampling.BICUBIC))


def _litter(light: Floats, random: np.random.Generator, scale: float) -> None:
    """Lay what is no diatom on the slide: specks, mineral grains, fibres, and dust out of focus."""
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
    """The camera's image: grey to yellowish, with its noise.

    Noise is a sum of random bytes, the first two common to the channels: near enough to normal once it is rounded, and
    ten times as fast to draw.
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
