"""Rendering of one diatom valve under a light microscope: outline, striae, raphe and halo."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay_research.data.synthetic.flora import Outline, Species

Floats: TypeAlias = NDArray[np.float32]

MARGIN = 2.0
"""Width of the halo around a valve in micrometres."""

RESOLUTION = 0.11
"""Standard deviation of the objective's blur in focus, micrometres: numerical aperture 1.3, green light."""

TIP = 0.2
"""Half the breadth near a pointed end, in half-breadths of the valve."""


@dataclass(frozen=True)
class Specimen:
    """One valve on a slide.

    Attributes:
        species: the species.
        length: length along the apical axis in micrometres.
        breadth: breadth across the apical axis in micrometres.
        angle: angle of the apical axis to the image's rows in radians.
        mirrored: True if the other face is up.
        raphe: True if the visible face has a raphe.
        focus: distance from the focal plane in micrometres.
        contrast: relative thickness of the silica, about 1.
        phases: phases of the striae on each side, of their irregularity and of the ribs, in radians.
    """

    species: Species
    length: float
    breadth: float
    angle: float
    mirrored: bool
    raphe: bool
    focus: float
    contrast: float
    phases: tuple[float, float, float, float]

    @property
    def reach(self) -> tuple[float, float]:
        """Half the width and half the height of an upright box that contains the valve, in micrometres."""
        outline = self.species.outline
        along = self.length / 2
        across = self.breadth / 2 * (1 + abs(outline.bend) + abs(outline.sigmoid) + abs(outline.dorsal))
        cos, sin = abs(np.cos(self.angle)), abs(np.sin(self.angle))
        return float(along * cos + across * sin), float(along * sin + across * cos)


@dataclass(frozen=True)
class Drawing:
    """Rendered valve in a window of an image.

    Attributes:
        top: first row of the window.
        left: first column of the window.
        contrast: float32 ``[height, width]``: relative change of the background light; negative is darker.
        mask: bool ``[height, width]``: True for pixels whose centre is within the outline.
    """

    top: int
    left: int
    contrast: Floats
    mask: NDArray[np.bool_]


def sample_specimen(species: Species, random: np.random.Generator) -> Specimen:
    """Draw a random valve of a species: cells shorten from one division to the next, and narrow less."""
    youth, stout = random.beta(2, 2), random.random()
    (shortest, longest), (narrowest, broadest) = species.length, species.breadth
    length = shortest + (longest - shortest) * youth
    breadth = narrowest + (broadest - narrowest) * (0.7 * youth + 0.3 * stout)
    genus = species.genus
    first, second, third, fourth = (float(phase) for phase in random.uniform(0, 2 * np.pi, 4))
    return Specimen(
        species,
        float(length),
        float(length if genus.family == "disc" else breadth),
        angle=float(random.uniform(-np.pi, np.pi)),
        mirrored=bool(random.random() < 0.5),
        raphe=genus.raphe in ("median", "ventral") and not (genus.heterovalvar and random.random() < 0.5),
        focus=float(random.normal(0, 0.4)),
        contrast=float(random.uniform(0.75, 1.2)),
        phases=(first, second, third, fourth),
    )


def half_breadth(position: Floats, outline: Outline, heads: float) -> Floats:
    """Return the squared half-breadth along the apical axis: at most about 1, and negative beyond the ends.

    Args:
        position: position on the axis, with the ends at -1 and 1.
        outline: outline of the genus.
        heads: relative widening of the ends of the species.
    """
    inside = np.minimum(np.abs(position), 1)
    profile = outline.apex + (1 - outline.apex) * (1 - inside**outline.shoulder)
    profile += heads * np.exp(-(((inside - 0.9) / 0.11) ** 2))
    profile *= 1 + outline.club * np.clip(position, -1, 1)
    profile *= 1 - outline.waist * np.exp(-((inside / 0.3) ** 2))
    rounding = np.where(inside < 1, 1 - inside**outline.fullness, outline.fullness * (1 - np.abs(position)))
    return np.asarray(rounding * profile**2, np.float32)


def window(
    centre: tuple[float, float], reach: tuple[float, float], scale: float, image: tuple[int, int]
) -> tuple[int, int, Floats, Floats]:
    """Return the window of an image that an object and its halo can cover.

    Args:
        centre: x and y of the object's centre in the image, in pixels.
        reach: half the width and half the height of the object in micrometres.
        scale: pixels per micrometre.
        image: height and width of the image in pixels; the window is clipped to it.

    Returns:
        The top row; the left column; the offsets of the pixel centres from the object's centre in micrometres, to the
        right float32 ``[1, width]`` and down float32 ``[height, 1]``.
    """
    firsts, offsets = [], []
    for middle, half, size in zip(centre, reach, image[::-1], strict=True):
        room = (half + MARGIN) * scale
        first, end = max(0, int(np.floor(middle - room))), min(size, int(np.ceil(middle + room)))
        firsts.append(first)
        offsets.append(((np.arange(first, end) + 0.5 - middle) / scale).astype(np.float32))
    return firsts[1], firsts[0], offsets[0][None, :], offsets[1][:, None]


class Valve:
    """Coordinates of a specimen at the pixels of its window; the arrays are float32 ``[height, width]``.

    Attributes:
        specimen: the specimen.
        blur: standard deviation of the total blur in micrometres.
        top: first row of the window in the image.
        left: first column of the window in the image.
        x: position along the apical axis from its middle, in micrometres.
        u: position along the apical axis, with the ends at -1 and 1.
        v: position across the axis, with the margins of the broadest place at -1 and 1.
        distance: distance to the outline in micrometres, negative inside; accurate near the outline.
        normal: components to the right and down of the outward normal of the outline.
        mask: bool: True within the outline.
        away: distance from the line of the raphe, or from the middle of a disc, in micrometres.
        margin: position between the apical axis, 0, and the outline, 1.
    """

    def __init__(self, specimen: Specimen, centre: tuple[float, float], scale: float, image: tuple[int, int]) -> None:
        """Compute the coordinates.

        Args:
            specimen: the specimen.
            centre: x and y of its centre in the image, in pixels.
            scale: pixels per micrometre.
            image: height and width of the image in pixels; the window is clipped to it.
        """
        outline, disc = specimen.species.outline, specimen.species.genus.family == "disc"
        self.specimen = specimen
        self.blur = float(np.hypot(np.hypot(RESOLUTION, 0.25 * specimen.focus), 0.3 / scale))
        self.top, self.left, across, down = window(centre, specimen.reach, scale, image)
        cos, sin = np.float32(np.cos(specimen.angle)), np.float32(np.sin(specimen.angle))
        self.x: Floats = across * cos + down * sin
        y: Floats = (down * cos - across * sin) * np.float32(-1 if specimen.mirrored else 1)
        half = specimen.breadth / 2
        self.u: Floats = self.x / np.float32(specimen.length / 2)
        bent = np.clip(self.u, -1.2, 1.2)
        axis = outline.bend * (0.5 - bent**2) + outline.sigmoid * np.sin(np.float32(2.8) * bent)
        v = y / np.float32(half) - axis
        self.v: Floats = v / (1 + np.float32(outline.dorsal) * np.sign(v))
        heads = specimen.species.heads
        squared = half_breadth(self.u, outline, heads)
        squared /= half_breadth(np.linspace(-1, 1, 201, dtype=np.float32), outline, heads).max()
        ahead = np.maximum(np.abs(self.u) - 1, 0) * np.float32(specimen.length / specimen.breadth)
        implicit = self.v**2 + ahead**2 - squared
        self.mask: NDArray[np.bool_] = implicit < 0
        by_row, by_column = np.gradient(implicit, np.float32(1 / scale))
        steepness = np.sqrt(by_column**2 + by_row**2) + np.float32(1e-4)
        # Outside, `implicit` grows as the square of the distance: take a root, offset by the square of a narrow tip.
        root = np.sqrt(np.maximum(implicit, 0) + np.float32(TIP**2))
        self.distance: Floats = np.where(self.mask, implicit, 2 * root * (root - np.float32(TIP))) / steepness
        self.normal: tuple[Floats, Floats] = by_column / steepness, by_row / steepness
        width = np.sqrt(np.maximum(squared, np.float32(1e-3)))
        ventral = np.float32(-0.3 if specimen.species.genus.raphe == "ventral" else 0)
        self.away: Floats = (np.hypot(self.u, self.v) if disc else np.abs(self.v - ventral * width)) * np.float32(half)
        self.margin: Floats = np.minimum(np.abs(self.v) / width, 1)

    def wave(self, along: Floats, density: float, phase: Floats | float) -> Floats:
        """Return a blurred grating of `density` lines per 10 micrometres, with values from -1 to 1."""
        frequency = np.float32(2 * np.pi * density / 10)
        left = np.exp(-((frequency * self.blur) ** 2) / 2)
        return np.asarray(left * np.cos(frequency * along + phase), np.float32)

    def bump(self, distance: Floats, width: float) -> Floats:
        """Return a line or dot of a width in micrometres, broadened and weakened by the blur."""
        broad = float(np.hypot(width, self.blur))
        return np.asarray(np.exp(-((distance / np.float32(broad)) ** 2) / 2) * (width / broad), np.float32)

    def beyond(self, distance: Floats) -> Floats:
        """Return a blurred step: 0 where a distance in micrometres is well below 0, 1 where it is well above."""
        return np.asarray(np.clip(distance / np.float32(3 * self.blur) + np.float32(0.5), 0, 1), np.float32)


def draw(
    specimen: Specimen,
    centre: tuple[float, float],
    scale: float,
    image: tuple[int, int],
    light: tuple[float, float] = (0.0, 0.0),
) -> Drawing:
    """Render one valve.

    Args:
        specimen: the valve.
        centre: x and y of its centre in the image, in pixels.
        scale: pixels per micrometre.
        image: height and width of the image in pixels.
        light: direction of oblique light, to the right and down; the length of the vector is the strength.
    """
    valve = Valve(specimen, centre, scale, image)
    inner = valve.beyond(-valve.distance - 2 * valve.blur)
    contrast = _rim(valve, light) + inner * _ornament(valve)
    return Drawing(valve.top, valve.left, contrast * np.float32(specimen.contrast), valve.mask)


def _rim(valve: Valve, light: tuple[float, float]) -> Floats:
    """Contrast of the dark margin, of the bright lines next to it, and of the shading by oblique light."""
    distance, line = valve.distance, valve.blur + 0.1
    side = float(np.clip(valve.specimen.focus, -1, 1))
    dark = np.exp(-(((distance + line) / line) ** 2) / 2)
    outside = np.exp(-(((distance - 1.7 * line) / (1.2 * line)) ** 2) / 2)
    inside = np.exp(-(((distance + 3.6 * line) / (1.3 * line)) ** 2) / 2) * valve.mask
    slope = np.exp(-(((distance + line) / (2.5 * line)) ** 2) / 2)
    relief = slope * (valve.normal[0] * light[0] + valve.normal[1] * light[1])
    thick = valve.beyond(-distance) * (0.03 + 0.09 * valve.margin**4)
    contrast = -0.5 * dark + (0.17 + 0.09 * side) * outside + (0.12 - 0.08 * side) * inside + relief - thick
    return np.asarray(contrast, np.float32)


def _ornament(valve: Valve) -> Floats:
    """Contrast within the margin: raphe, clear areas, striae and ribs."""
    specimen, genus = valve.specimen, valve.specimen.species.genus
    half = specimen.breadth / 2
    clear = 1 - valve.beyond(valve.away - genus.axial * half)
    if genus.central[0]:
        length, breadth = genus.central[0] * specimen.length / 2, genus.central[1]
        round_middle = np.hypot(valve.x / length, valve.v / breadth) - 1
        central = valve.beyond(-round_middle * length)
        clear = np.maximum(clear, central * (valve.v > 0) if genus.one_sided else central)
    contrast = 0.06 * clear
    if specimen.raphe:
        contrast = contrast + _raphe(valve)
    if genus.sinus and not specimen.raphe:
        horseshoe = np.hypot(valve.x / 1.7, (valve.v - 0.5) * half / 1.9)
        clear = np.maximum(clear, np.exp(-(horseshoe**4)))
        contrast = contrast + 0.16 * np.exp(-(horseshoe**4)) - 0.28 * valve.bump((horseshoe - 1.1) * 1.8, 0.25)
    if genus.stigma:
        contrast = contrast - 0.35 * valve.bump(np.hypot(valve.x - 0.2, (valve.v - 0.32) * half), 0.22)
    lines = _striae(valve) - _ribs(valve) if genus.costae else _striae(valve)
    return np.asarray(contrast + (1 - clear) * lines, np.float32)


def _striae(valve: Valve) -> Floats:
    """Contrast of the striae: fine lines across the valve, with a phase of their own on each side of the axis."""
    species, genus = valve.specimen.species, valve.specimen.species.genus
    first, second, irregular, _ = valve.specimen.phases
    density = species.striae
    if genus.family == "disc":
        around = np.pi * valve.specimen.breadth
        density = round(density * around / 10) * 10 / around  # a whole number of striae, so that no seam shows
        along, phase = np.arctan2(valve.v, valve.u) * (valve.specimen.breadth / 2), np.asarray(first)
    else:
        lean = 0.5 * genus.radiate * np.abs(valve.v) * (1 - 1.7 * np.minimum(valve.u**2, 1))
        along, phase = valve.x * (1 - lean), np.where(valve.v > 0, first, second)
    wander = 0.5 * np.sin(0.8 * valve.x + irregular)
    contrast = 0.24 * valve.wave(along.astype(np.float32), density, (phase + wander).astype(np.float32))
    if genus.puncta:
        contrast = contrast * (0.8 + 0.5 * valve.wave(valve.away, genus.puncta, irregular))
    return np.asarray(contrast - 0.05, np.float32)


def _ribs(valve: Valve) -> Floats:
    """Contrast of the costae from the axis to both margins, or of the fibulae under a keel."""
    genus = valve.specimen.species.genus
    _, _, irregular, phase = valve.specimen.phases
    frequency = np.float32(np.pi * genus.costae / 10)
    uneven = 0.7 * np.sin(0.31 * valve.x + irregular)
    ribs = valve.bump((np.sin(frequency * valve.x + uneven + phase) / frequency).astype(np.float32), 0.24)
    if genus.raphe == "keel":
        keel = np.exp(-(((np.sign(valve.v) * valve.margin + 0.82) / 0.16) ** 2))
        return np.asarray(keel * (0.12 + 0.4 * ribs), np.float32)
    return np.asarray(0.4 * ribs, np.float32)


def _raphe(valve: Valve) -> Floats:
    """Contrast of the raphe: two slits from the ends to the middle, each with nodules at its ends."""
    half = valve.specimen.length / 2
    gap = np.float32(0.6 + 0.35 * valve.specimen.species.genus.central[0] * half)
    end = np.float32(half - min(1.2, 0.12 * half))
    offset = np.abs(valve.x)
    slits = valve.beyond(offset - gap) * valve.beyond(end - offset)
    nodules = valve.bump(np.hypot(offset - gap, valve.away), 0.2) + valve.bump(np.hypot(offset - end, valve.away), 0.25)
    line = -0.55 * valve.bump(valve.away, 0.09) + 0.18 * valve.bump(valve.away, 0.4)
    return np.asarray(slits * line - 0.35 * nodules, np.float32)
