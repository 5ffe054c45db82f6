"""One page about a data set that needs nothing but itself: facts and findings in words, then every figure and name."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image
from tqdm import tqdm

from assay_research.data.reading.annotations import printable
from assay_research.reports.dataset import figures, galleries
from assay_research.reports.dataset.collection import SPLITS
from assay_research.reports.dataset.findings import amount, findings, leaks, uniform
from assay_research.reports.dataset.near_duplicates import ALIKE
from assay_research.reports.dataset.statistics import LIMITS, Exploration, Outlier, coverage, imbalance, smaller_than
from assay_research.reports.figures import brief
from assay_research.runs.disk import write_atomically

REPORT = "report.html"
TEMPLATE = "page.html.jinja"

ROWS = 500
"""Of a table that the page shows; what is left out is counted."""

FIGURES = (
    *("classes.png", "samples.png", "specimens.png", "empty.png", "objects_per_image.png", "boxes.png"),
    *("canvas_sizes.png", "outliers.png", "places.png", "pairs.png"),
)
"""Files that a report may leave beside it."""

MAPS = 3
"""Most frequent classes with a heat map of their own."""


@dataclass(frozen=True)
class Table:
    """Rows for the page.

    Attributes:
        title: what they are.
        head: a name a column.
        rows: a text a cell; the page shows `ROWS` of them.
        numbers: columns that stand right.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page: what it says, figures, and tables.

    Attributes:
        anchor: of the section on the page.
        title: of the section.
        text: sentences.
        figures: image files, and what each shows.
        tables: below them.
    """

    anchor: str
    title: str
    text: str
    figures: tuple[tuple[Path, str], ...] = ()
    tables: tuple[Table, ...] = ()


def write(seen: Exploration, folder: Path) -> Path:
    """Draw the figures, then write the page that holds them all.

    Args:
        seen: what was found out.
        folder: where; made if it is not there.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        (folder / name).unlink(missing_ok=True)  # of an earlier report
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of files and classes are anyone's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embed"] = _embed
    page = environment.get_template(TEMPLATE).render(
        name=printable(seen.collection.name),
        facts=facts(seen),
        findings=findings(seen),
        sections=list(tqdm(_sections(seen, folder), desc="drawing", unit="section", leave=False, disable=None)),
        limit=ROWS,
    )
    write_atomically(page.encode(), folder / REPORT)
    return folder / REPORT


def facts(seen: Exploration) -> list[tuple[str, str, str]]:
    """The numbers to begin with: what, how much, and a remark."""
    collection, total = seen.collection, seen.counts.sum(0)
    splits = [f"{count:,} {split}" for split, count in zip(SPLITS, np.bincount(collection.splits), strict=False)]
    ratio = imbalance(total.tolist())
    found = [
        ("images", f"{len(collection.names):,}", ", ".join(splits)),
        ("classes", f"{len(collection.classes):,}", f"{ratio:,.1f} objects of the first for each of the rarest"),
    ]
    if seen.shapes is None:
        return found
    least, middle, most = np.quantile(seen.per_image, [0, 0.5, 1])
    found.append(("objects", f"{total.sum():,}", f"{middle:g} in the median image, {least:g} to {most:g}"))
    if len(collection.labels):
        width, height = np.median(seen.shapes.width), np.median(seen.shapes.height)
        share, side = np.median(seen.shapes.share), np.median(seen.shapes.side)
        remark = f"{percent(share)} of the image; as large as {side:.0f}x{side:.0f} on the canvas"
        found.append(("median object", f"{width:.0f}x{height:.0f} px", remark))
    return found


def _sections(seen: Exploration, folder: Path) -> Iterator[Section]:
    yield _classes(seen, folder)
    yield _samples(seen, folder)
    if seen.shapes is not None and len(seen.collection.labels):
        yield _per_image(seen, folder)
        yield _sizes(seen, folder)
        yield _outliers(seen, folder)
        yield _places(seen, folder)
    yield _pairs(seen, folder)
    yield _problems(seen)


def _classes(seen: Exploration, folder: Path) -> Section:
    collection, total = seen.collection, seen.counts.sum(0)
    path = folder / "classes.png"
    figures.classes(seen.counts, collection.classes, path, f"{printable(collection.name)}: objects by class")
    rows = [
        (name, *(f"{count:,}" for count in (of_all, *counts)), percent(of_all / max(1, total.sum())))
        for name, of_all, counts in zip(collection.classes, total.tolist(), seen.counts.T.tolist(), strict=True)
    ]
    table = Table("Objects by class and split", ("class", "all", *SPLITS, "share"), rows, (1, 2, 3, 4, 5))
    rarest = min(total.tolist(), default=0)
    text = (
        f"{amount(len(collection.classes), 'class', 'classes')}; the most frequent makes up "
        f"{percent(total.max(initial=0) / max(1, total.sum()))} of the objects, the rarest has {rarest:,}. "
        "On the right, the colours should end at nearly the same places in every row: then each split holds its share "
        "of every class."
    )
    return Section(
        "classes", "Classes", text, ((path, "objects of every class, and their shares in the splits"),), (table,)
    )


def _samples(seen: Exploration, folder: Path) -> Section:
    collection, path = seen.collection, folder / "samples.png"
    galleries.samples(collection, path, f"{printable(collection.name)}: images drawn by lot")
    shown = [(path, "images with their boxes and classes")]
    text = "Images drawn by lot, as a model gets them. Are the boxes tight, and is every object annotated?"
    if seen.shapes is not None and len(collection.labels):
        typical = folder / "specimens.png"
        galleries.specimens(collection, seen.shapes.side, typical, "An object of every class, of its median size")
        shown.append((typical, "one object of every class"))
        text += " Below them one object of every class, the one nearest to its median size."
    if len(seen.empty):
        none = folder / "empty.png"
        galleries.empty(collection, seen.empty, none, f"Images without objects: {len(seen.empty):,}")
        shown.append((none, "images without objects"))
        text += " Last, images in which nothing is annotated: was anything forgotten?"
    names = [(collection.names[i], SPLITS[collection.splits[i]]) for i in seen.empty.tolist()]
    tables = (Table("Images without objects", ("image", "split"), names),) if names else ()
    return Section("images", "Images", text, tuple(shown), tables)


def _per_image(seen: Exploration, folder: Path) -> Section:
    counts, path = seen.per_image, folder / "objects_per_image.png"
    figures.objects_per_image(counts, seen.collection.splits, path, "Objects in an image")
    order = np.argsort(-counts, kind="stable")[:10].tolist()
    names, splits = seen.collection.names, seen.collection.splits
    rows = [(names[i], SPLITS[splits[i]], f"{counts[i]:,}") for i in order]
    text = (
        f"An image holds {counts.mean():.1f} objects on average and {np.median(counts):g} in the median; the fullest "
        f"{counts.max():,}. A detector has to be allowed more detections than that (torchvision's default is 100)."
    )
    table = Table("The fullest images", ("image", "split", "objects"), rows, (2,))
    return Section("per-image", "Objects in an image", text, ((path, "histogram of objects in an image"),), (table,))


def _sizes(seen: Exploration, folder: Path) -> Section:
    assert seen.shapes is not None
    measured, collection = seen.shapes, seen.collection
    canvas, classes, labels, n = collection.canvas, collection.classes, collection.labels, len(collection.labels)
    drawn, seen_by_model = folder / "boxes.png", folder / "canvas_sizes.png"
    figures.shapes(measured.share, measured.aspect, labels, classes, drawn, "Size and shape of the boxes")
    limits = dict(zip(LIMITS, smaller_than(measured.side), strict=True))
    title = f"Size of the objects on the {canvas.width}x{canvas.height} canvas"
    figures.canvas_sizes(measured.side, labels, classes, limits, seen_by_model, title)
    rows = []
    for label, name in enumerate(classes):
        members = labels == label
        if members.any():
            area, share, aspect, side = (
                np.median(each[members]) for each in (measured.area, measured.share, measured.aspect, measured.side)
            )
            rows.append((name, f"{area:,.0f}", percent(share), f"{aspect:.2f}", f"{side:.0f}"))
    longish = float(((measured.aspect > 2) | (measured.aspect < 0.5)).mean())
    small = ", ".join(f"{count:,} ({percent(count / n)}) under {limit} px" for limit, count in limits.items())
    text = (
        f"Half of the boxes cover {percent(np.quantile(measured.share, 0.25))} to "
        f"{percent(np.quantile(measured.share, 0.75))} of their image. {percent(longish)} are longer than 2:1, the "
        "most elongated of the usual anchors. Where a model sees them, on the canvas, the size of an object is the "
        f"root of its area: {small}. COCO calls those under 32 px small."
    )
    head = ("class", "area, px", "of the image", "width : height", "on the canvas, px")
    return Section(
        "shapes",
        "Size and shape",
        text,
        ((drawn, "histograms of relative area and aspect ratio"), (seen_by_model, "histogram of size on the canvas")),
        (Table("Medians by class", head, rows, (1, 2, 3, 4)),),
    )


def _outliers(seen: Exploration, folder: Path) -> Section:
    collection = seen.collection

    def said(each: Outlier, large: str, small: str) -> str:
        return f"{each.excess:.2f}x too {large if each.value > each.high else small}"

    odd = [(each, said(each, "large", "small"), "{:.0f} px") for each in seen.odd_sizes]
    odd += [(each, said(each, "wide", "narrow"), "{:.2f}") for each in seen.odd_aspects]
    odd.sort(key=lambda entry: -entry[0].excess)
    text = (
        "Objects whose size on the canvas or aspect ratio lies outside Tukey's fences for their class: more than 1.5 "
        "interquartile ranges beyond the quartiles, on a logarithmic scale. Objects cut off at an edge are often "
        "among them, and rightly so; a wrong class or a box around two objects is not."
    )
    if not odd:
        return Section("outliers", "Outliers", text + " There are none.")
    path = folder / "outliers.png"
    shown = [(each.index, what) for each, what, _ in odd]
    galleries.outliers(collection, shown, path, "The farthest outliers")
    rows = []
    for each, what, unit in odd:
        owner = collection.owners[each.index]
        usual = f"{unit.format(each.low).removesuffix(' px')} to {unit.format(each.high)}"
        name = collection.classes[collection.labels[each.index]]
        rows.append(
            (collection.names[owner], SPLITS[collection.splits[owner]], name, what, unit.format(each.value), usual)
        )
    head = ("image", "split", "class", "what", "value", "fences of the class")
    return Section(
        "outliers", "Outliers", text, ((path, "the farthest outliers"),), (Table("Outliers", head, rows, (4, 5)),)
    )


def _places(seen: Exploration, folder: Path) -> Section:
    collection, path = seen.collection, folder / "places.png"
    boxes, sizes = collection.boxes(), collection.sizes[collection.owners]
    maps = {f"all {len(boxes):,} objects": coverage(boxes, sizes)}
    if len(collection.classes) > 1:
        for label, name in enumerate(collection.classes[:MAPS]):
            of_class = collection.labels == label
            if of_class.any():
                maps[f"{brief(name)}: {of_class.sum():,}"] = coverage(boxes[of_class], sizes[of_class])
    aspect = float(np.median(collection.sizes[:, 0] / collection.sizes[:, 1]))
    figures.places(maps, aspect, path, "Where objects lie in their images")
    inner = maps[next(iter(maps))]
    cells = len(inner) // 4
    middle = inner[cells:-cells, cells:-cells].mean() / max(inner.mean(), 1e-12)
    text = (
        "Every box covers its part of a map of the image. A model learns such habits: where objects always lie in "
        f"the middle, it finds none at the edges. Here the middle quarter is covered {middle:.2f} times as much as the "
        "whole on average."
    )
    return Section("places", "Where objects lie", text, ((path, "heat maps of the places that boxes cover"),))


def _pairs(seen: Exploration, folder: Path) -> Section:
    collection, found = seen.collection, seen.pairs
    across = leaks(seen)
    searched = "Every pair of images was compared"
    if not found.everywhere:
        searched = "Of so many images only pairs with similar hashes were compared, which finds few shifted ones,"
    text = (
        f"{searched} at the shift that makes them most alike. Their likeness is how well they agree there, all over "
        f"what they have in common: {ALIKE:g} or more is most likely the same scene, and 1 a copy. Mirrored and "
        "rotated copies are not found."
    )
    if not len(found):
        return Section("look-alikes", "Look-alikes and leakage", text + " No two images look alike.")
    text += f" {amount(len(found), 'pair')} found, {int(across.sum()):,} of them in two splits (framed)."
    if uniform(seen):
        text += " That many say only that the images are of one kind."
    order = np.lexsort((-found.likeness, ~across))
    chosen = found.take(order)
    path = folder / "pairs.png"
    galleries.pairs(collection, chosen, path, f"Look-alikes: {len(found):,}, those in two splits first")
    rows = []
    for i, (first, second) in enumerate(zip(chosen.first.tolist(), chosen.second.tolist(), strict=True)):
        splits = [SPLITS[collection.splits[each]] for each in (first, second)]
        kind = "exact copy" if chosen.exact[i] else f"{chosen.likeness[i]:.2f}"
        leak = "leak: " if splits[0] != splits[1] else ""
        rows.append(
            (collection.names[first], collection.names[second], leak + " and ".join(dict.fromkeys(splits)), kind)
        )
    head = ("image", "and", "split", "likeness")
    table = Table("Pairs that look alike", head, rows, (3,))
    return Section(
        "look-alikes", "Look-alikes and leakage", text, ((path, "pairs of images that look alike"),), (table,)
    )


def _problems(seen: Exploration) -> Section:
    if not seen.problems:
        return Section("problems", "Problems", "Reading met none.")
    tables = []
    for kind, group in groupby(seen.problems, attrgetter("kind")):
        rows = [(printable(each.file), printable(each.what)) for each in group]
        tables.append(Table(f"{len(rows):,} {kind}", ("file", "what"), rows))
    text = f"{amount(len(seen.problems), 'problem')} met while reading, by kind; each kind says what became of it."
    return Section("problems", "Problems", text, (), tuple(tables))


def percent(share: float) -> str:
    """``0.04%``, ``4.2%`` or ``42%``: as many digits as say something."""
    value = 100 * float(share)
    return f"{value:.0f}%" if value >= 10 or value == 0 else f"{value:.1f}%" if value >= 0.1 else f"{value:.2g}%"


def _embed(path: Path) -> str:
    """The image as a data URL, in a format that takes a fifth of a PNG's bytes."""
    packed = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(packed, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()
