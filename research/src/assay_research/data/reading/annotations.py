"""Annotations of images with boxes, independent of the file format: validation, and a list of all problems."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay_deploy.errors import ImageError
from assay_research.data.reading.folders import relative
from assay_research.data.reading.images import read_sizes
from assay_research.errors import DataError

ROUNDING = 0.01
"""Pixels by which a box may reach over its image's edge without a problem: sums of rounded decimals do."""


class Kind(StrEnum):
    """Kinds of problems, each with its consequence, in the order of reports."""

    BROKEN_FILE = "annotation files that cannot be read, left out"
    BROKEN_ENTRY = "entries that cannot be used, left out"
    FOREIGN_PATH = "images with a path outside the data set, left out"
    MISSING_IMAGE = "images that are missing, left out"
    DAMAGED_IMAGE = "images that cannot be read, left out"
    DUPLICATE = "images annotated more than once, only the first annotation is used"
    UNANNOTATED = "images without an annotation file, left out"
    IN_TWO_SPLITS = "images listed in two splits, used in one"
    IN_NO_SPLIT = "images in no split, left out"
    NO_OBJECTS = "images without objects, left out unless keep_empty is true"
    WRONG_SIZE = "images of another size than declared, used with their real size"
    UNKNOWN_CLASS = "objects of an unknown class, dropped"
    NO_NUMBERS = "boxes that are not four finite numbers, dropped"
    NO_AREA = "boxes that are empty or inverted, dropped"
    OUTSIDE = "boxes outside their image, dropped"
    CLIPPED = "boxes partly outside their image, clipped at its edge"


@dataclass(frozen=True)
class Problem:
    """Problem found while reading a data set that did not stop the reading.

    Attributes:
        file: the file with the problem, relative to the data set: an annotation file, a split list or an image.
        kind: kind of the problem.
        message: description of the problem.

    Both texts may contain text of a damaged file; unprintable characters in them are escaped.
    """

    file: str
    kind: Kind
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", printable(self.file))
        object.__setattr__(self, "message", printable(self.message))

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True, eq=False)
class Annotation:
    """One image and its usable objects.

    Attributes:
        path: path of the image, which exists and has a readable header; its pixels were not decoded.
        name: name in reports: the path relative to the data set.
        height: height of the upright image in pixels.
        width: width of the upright image in pixels.
        boxes: float64 ``[objects, 4]``: left, top, right, bottom in the image's own pixels; each has a positive area
            and lies within the image.
        classes: class name of each object.
        ignored: bool ``[objects]``: True for objects that are excluded from training and from scores: COCO's crowds,
            VOC's difficult objects.
        split: ``train``, ``val`` or ``test``; None if the data set does not assign the image to a split.
    """

    path: Path
    name: str
    height: int
    width: int
    boxes: NDArray[np.float64]
    classes: tuple[str, ...]
    ignored: NDArray[np.bool_]
    split: str | None

    @property
    def empty(self) -> bool:
        """True if the image has no objects, or only ignored ones."""
        return bool(self.ignored.all())


@dataclass(frozen=True, eq=False)
class Annotations:
    """Usable part of an annotated data set, and the problems with the rest.

    Attributes:
        root: the data set's folder.
        classes: names of all classes that have objects, the most frequent first, those equally frequent by name.
        images: the usable images, sorted by name, including those without objects.
        problems: the problems, sorted by kind, then by file.
    """

    root: Path
    classes: tuple[str, ...]
    images: tuple[Annotation, ...]
    problems: tuple[Problem, ...]

    def counts(self) -> dict[str, int]:
        """Number of objects of each class, in the order of `classes`, without ignored objects."""
        return _counts(self.images, self.classes)


@dataclass(frozen=True, slots=True)
class Item:
    """Object of an annotation file, before validation.

    Attributes:
        label: identification in problems, such as ``object 3``.
        name: stripped class name; an empty or unprintable one is a problem.
        box: left, top, right, bottom in the image's pixels; NaN for a value that is not a number.
        ignored: True for a crowd or a difficult object.
    """

    label: str
    name: str
    box: tuple[float, float, float, float]
    ignored: bool


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """Image and its objects from an annotation file, before validation.

    Attributes:
        file: the file that problems of the objects refer to, relative to the data set.
        source: the annotation file that contains the entry, relative to the data set.
        path: path of the image; a regular file.
        split: ``train``, ``val`` or ``test``; None if the data set does not assign the image to a split.
        declared: height and width in the annotation, NaN for a value that is not a number; None if it has neither.
        items: the objects.
    """

    file: str
    source: str
    path: Path
    split: str | None
    declared: tuple[float, float] | None
    items: Sequence[Item]


def validate(
    root: Path, entries: Iterable[ImageEntry], classes: Sequence[str] | None, found: Iterable[Problem]
) -> Annotations:
    """Select the usable images and objects, and list a problem for everything else.

    Args:
        root: absolute path of the data set's folder.
        entries: the images from a reader; of several entries for one image the first is used.
        classes: names of the classes to use; None uses all.
        found: problems that the reader had with the files.

    Raises:
        DataError: a requested class has no object.
    """
    problems = list(found)
    first: dict[Path, ImageEntry] = {}
    for entry in entries:
        if (other := first.setdefault(entry.path, entry)) is not entry:
            what = f"annotated in {other.source} and again in {entry.source}"
            problems.append(Problem(relative(entry.path, root), Kind.DUPLICATE, what))
    images = []
    for entry, size in zip(first.values(), read_sizes(list(first)), strict=True):
        if isinstance(size, ImageError):
            name = relative(entry.path, root)
            problems.append(Problem(name, Kind.DAMAGED_IMAGE, str(size).removeprefix(f"{entry.path}: ")))
        else:
            images.append(_checked(entry, size, root, classes, problems))
    if any(image.split == "train" for image in images):
        problems += [
            Problem(image.name, Kind.IN_NO_SPLIT, "is in none of the data set's splits")
            for image in images
            if image.split is None
        ]
    names = classes if classes is not None else {name for image in images for name in image.classes}
    counts = _counts(images, names)
    absent = [name for name in classes or () if not counts[name]]
    if absent and images:
        raise DataError(
            f"data.classes: no usable object in '{root}' has the class {', '.join(absent)}. Set data.classes=null to "
            f"use all classes, or request others\n{listing(problems)}"
        )
    kinds = list(Kind)
    return Annotations(
        root,
        tuple(sorted(counts, key=lambda name: (-counts[name], name))),
        tuple(sorted(images, key=attrgetter("name"))),
        tuple(sorted(problems, key=lambda problem: (kinds.index(problem.kind), problem.file))),
    )


def listing(problems: Sequence[Problem], limit: int = 5) -> str:
    """Format problems as lines of text: the number of each kind and its first `limit` problems."""
    lines = []
    for kind, group in groupby(sorted(problems, key=lambda each: list(Kind).index(each.kind)), attrgetter("kind")):
        same_kind = list(group)
        lines.append(f"  {kind}: {len(same_kind):,}")
        lines += [f"    {problem}" for problem in same_kind[:limit]]
        if len(same_kind) > limit:
            lines.append(f"    and {len(same_kind) - limit:,} more")
    return "\n".join(lines)


def number(value: object) -> float:
    """Convert a value from a file to a float; NaN if it is not a number."""
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else np.nan
    except (ValueError, OverflowError):
        return np.nan


def printable(text: str, limit: int = 300) -> str:
    """Escape control characters and lone surrogates, and truncate the text to `limit` characters."""
    short = text if len(text) <= limit else f"{text[:limit]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def _checked(
    entry: ImageEntry, size: tuple[int, int], root: Path, requested: Sequence[str] | None, problems: list[Problem]
) -> Annotation:
    """Return the image with its usable objects, and append a problem for each other object."""
    height, width = size
    edges = np.array([width, height, width, height], np.float64)
    boxes = np.array([item.box for item in entry.items], np.float64).reshape(-1, 4)
    finite: NDArray[np.bool_] = np.all(np.isfinite(boxes), axis=1)
    clipped = np.clip(np.where(finite[:, None], boxes, 0), 0, edges)
    flaws = {
        Kind.NO_NUMBERS: ~finite,
        Kind.NO_AREA: ~_have_area(boxes),
        Kind.OUTSIDE: ~_have_area(clipped),
        Kind.CLIPPED: np.any(np.abs(clipped - boxes) > ROUNDING, axis=1),
    }
    usable = []
    for i, item in enumerate(entry.items):
        named = item.name.isprintable() and item.name != ""
        if not named or (requested is not None and item.name not in requested):
            kind: Kind | None = Kind.UNKNOWN_CLASS
        else:
            kind = next((kind for kind, has in flaws.items() if has[i]), None)
        if kind in (None, Kind.CLIPPED):
            usable.append(i)
        if kind is not None:
            place = "from {:g}, {:g} to {:g}, {:g}".format(*item.box)
            what = f"{item.label} ({item.name if named else 'no class name'}) {place} in an image of {width}x{height}"
            problems.append(Problem(entry.file, kind, what))
    if entry.declared is not None and entry.declared != size:
        tall, wide = entry.declared
        what = f"declared {wide:g}x{tall:g}, the image is {width}x{height}"
        problems.append(Problem(entry.file, Kind.WRONG_SIZE, what))
    image = Annotation(
        entry.path,
        printable(relative(entry.path, root)),
        height,
        width,
        clipped[usable],
        tuple(entry.items[i].name for i in usable),
        np.array([entry.items[i].ignored for i in usable], np.bool_),
        entry.split,
    )
    if image.empty:
        what = (
            "has no objects but ignored ones" if usable else "has no objects left" if entry.items else "has no objects"
        )
        problems.append(Problem(entry.file, Kind.NO_OBJECTS, what))
    return image


def _have_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.all(boxes[:, 2:] > boxes[:, :2], axis=1))


def _counts(images: Iterable[Annotation], names: Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys(names, 0)
    for image in images:
        for name, ignored in zip(image.classes, image.ignored, strict=True):
            counts[name] += not ignored
    return counts
