"""Images and the boxes drawn in them, whatever format they came in, with every problem named and none fatal."""

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
"""Pixels by which a box may reach over its image's edge before that is told: sums of rounded decimals do."""


class Kind(StrEnum):
    """Sorts of problems, each with what becomes of what has it; a report lists them in this order."""

    BROKEN_FILE = "annotation files that cannot be read, left out"
    BROKEN_ENTRY = "entries that cannot be used, left out"
    FOREIGN_PATH = "images said to lie outside the data set, left out"
    MISSING_IMAGE = "images that are missing, left out"
    DAMAGED_IMAGE = "images that cannot be read, left out"
    DUPLICATE = "images annotated more than once, taken the first time"
    UNANNOTATED = "images without an annotation file, left out"
    IN_TWO_SPLITS = "images listed in two splits, kept in one"
    IN_NO_SPLIT = "images in no split, left out"
    NO_OBJECTS = "images without objects, in a split only if keep_empty is true"
    WRONG_SIZE = "images of another size than declared, taken as they are"
    UNKNOWN_CLASS = "objects of an unknown class, dropped"
    NO_NUMBERS = "boxes that are not four finite numbers, dropped"
    NO_AREA = "boxes that are empty or inverted, dropped"
    OUTSIDE = "boxes outside their image, dropped"
    CLIPPED = "boxes partly outside their image, cut off at its edge"


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set that reading it went on from.

    Attributes:
        file: what to open to see it, relative to the data set: an annotation file, a split list or an image.
        kind: what sort it is.
        what: the problem, in words.

    Both texts may hold what a damaged file said, and can be printed all the same.
    """

    file: str
    kind: Kind
    what: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", printable(self.file))
        object.__setattr__(self, "what", printable(self.what))

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True, eq=False)
class Annotation:
    """One image and the objects in it that can be used.

    Attributes:
        path: of the image, which is there and has a readable header; its pixels were not looked at.
        name: for reports: the path relative to the data set.
        height: of the upright image, pixels.
        width: the same.
        boxes: float64 ``[objects, 4]``: left, top, right, bottom in the image's own pixels; each has an area and
            lies within the image.
        classes: the class of each object.
        ignored: bool ``[objects]``: neither learned nor held against a detector: COCO's crowds, VOC's difficult ones.
        split: ``train``, ``val`` or ``test`` where the data set says so.
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
        """Whether there is nothing to learn in it: no object, or none but ignored ones."""
        return bool(self.ignored.all())


@dataclass(frozen=True, eq=False)
class Annotations:
    """An annotated data set, as far as it can be used, and what is wrong with the rest.

    Attributes:
        root: its folder.
        classes: names of all classes there are objects of, the most frequent first, those equally frequent by name.
        images: sorted by name; those without objects are among them.
        problems: sorted by kind, then by file.
    """

    root: Path
    classes: tuple[str, ...]
    images: tuple[Annotation, ...]
    problems: tuple[Problem, ...]

    def counts(self) -> dict[str, int]:
        """Objects of each class, in the order of the classes; ignored ones do not count."""
        return _counts(self.images, self.classes)


@dataclass(frozen=True, slots=True)
class Item:
    """An object as it was written.

    Attributes:
        label: which one it is, for problems: ``object 3``.
        name: of its class, stripped; one that is empty or cannot be printed is a problem.
        box: left, top, right, bottom in the image's pixels; NaN for what was no number.
        ignored: whether it is a crowd or difficult.
    """

    label: str
    name: str
    box: tuple[float, float, float, float]
    ignored: bool


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image and its objects as they were written.

    Attributes:
        file: what problems of its objects are told of, relative to the data set.
        source: the annotation file it stands in, relative to the data set.
        path: of the image; a regular file.
        split: where the data set puts it.
        declared: height and width, NaN for what was no number; None if nothing is declared.
        items: its objects.
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
    """Keep what can be used of the entries, and name the rest.

    Args:
        root: the data set's folder, absolute.
        entries: the images, as a reader found them; of several entries of one image the first counts.
        classes: the only ones wanted; None wants all there are.
        found: the problems the reader had with the files.

    Raises:
        DataError: a wanted class that no object is of.
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
            Problem(image.name, Kind.IN_NO_SPLIT, "is in none of the splits the data set names")
            for image in images
            if image.split is None
        ]
    names = classes if classes is not None else {name for image in images for name in image.classes}
    counts = _counts(images, names)
    absent = [name for name in classes or () if not counts[name]]
    if absent and images:
        raise DataError(
            f"classes wanted that no usable object in '{root}' is of: {', '.join(absent)}. Leave classes=null to get "
            f"all there are, or name others\n{listing(problems)}"
        )
    kinds = list(Kind)
    return Annotations(
        root,
        tuple(sorted(counts, key=lambda name: (-counts[name], name))),
        tuple(sorted(images, key=attrgetter("name"))),
        tuple(sorted(problems, key=lambda problem: (kinds.index(problem.kind), problem.file))),
    )


def listing(problems: Sequence[Problem], limit: int = 5) -> str:
    """Problems sorted by kind as lines to be read: the number of each kind, and the first `limit` by file name."""
    lines = []
    for kind, group in groupby(sorted(problems, key=lambda each: list(Kind).index(each.kind)), attrgetter("kind")):
        alike = list(group)
        lines.append(f"  {kind}: {len(alike):,}")
        lines += [f"    {problem}" for problem in alike[:limit]]
        if len(alike) > limit:
            lines.append(f"    and {len(alike) - limit:,} more")
    return "\n".join(lines)


def number(value: object) -> float:
    """A number as it stands in a file; NaN for what is none."""
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else np.nan
    except (ValueError, OverflowError):
        return np.nan


def printable(text: str, limit: int = 300) -> str:
    """The text with control characters and halves of surrogate pairs escaped, and its end cut off beyond `limit`."""
    short = text if len(text) <= limit else f"{text[:limit]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def _checked(
    entry: ImageEntry, size: tuple[int, int], root: Path, wanted: Sequence[str] | None, problems: list[Problem]
) -> Annotation:
    """The image with those of its objects that can be used; the rest becomes problems."""
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
    kept = []
    for i, item in enumerate(entry.items):
        named = item.name.isprintable() and item.name != ""
        if not named or (wanted is not None and item.name not in wanted):
            kind: Kind | None = Kind.UNKNOWN_CLASS
        else:
            kind = next((kind for kind, has in flaws.items() if has[i]), None)
        if kind in (None, Kind.CLIPPED):
            kept.append(i)
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
        clipped[kept],
        tuple(entry.items[i].name for i in kept),
        np.array([entry.items[i].ignored for i in kept], np.bool_),
        entry.split,
    )
    if image.empty:
        what = "has no objects but ignored ones" if kept else "has no objects left" if entry.items else "has no objects"
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
