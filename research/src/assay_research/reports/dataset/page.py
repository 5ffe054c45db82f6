"""Self-contained HTML report on a data set: facts, findings, figures and tables."""

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
from assay_research.reports.dataset.near_duplicates import MIN_SIMILARITY
from assay_research.reports.dataset.statistics import (
    LIMITS,
    DatasetStatistics,
    Outlier,
    coverage,
    imbalance,
    smaller_than,
)
from assay_research.reports.figures import brief
from assay_research.runs.disk import write_atomically

REPORT = "report.html"
TEMPLATE = "page.html.jinja"

ROWS = 500
"""Largest number of rows of a table on the page; further rows are only counted."""

FIGURES = (
    *("classes.png", "samples.png", "specimens.png", "empty.png", "objects_per_image.png", "boxes.png"),
    *("canvas_sizes.png", "outliers.png", "places.png", "pairs.png"),
)
"""Names of all figure files that a report can write next to the page."""

MAPS = 3
"""Number of the most frequent classes that get a heat map of their own."""


@dataclass(frozen=True)
class Table:
    """Table of the page.

    Attributes:
        title: title of the table.
        head: names of the columns.
        rows: texts of the cells; the page shows the first `ROWS` rows.
        numbers: indices of the columns that are aligned right.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """Section of the page.

    Attributes:
        anchor: HTML id of the section.
        title: title of the section.
        text: text of the section.
        figures: path and alternative text of each figure.
        tables: tables below the figures.
    """

    anchor: str
    title: str
    text: str
    figures: tuple[tuple[Path, str], ...] = ()
    tables: tuple[Table, ...] = ()


def write(statistics: DatasetStatistics, folder: Path) -> Path:
    """Write the figures, then the page that contains them.

    Args:
        statistics: statistics of the data set.
        folder: the folder to write; created if it does not exist.

    Returns:
        Path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        (folder / name).unlink(missing_ok=True)  # left by an earlier report
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of files and classes are not trusted
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embed"] = _embed
    page = environment.get_template(TEMPLATE).render(
        name=printable(statistics.collection.name),
        facts=facts(statistics),
        findings=findings(statistics),
        sections=list(tqdm(_sections(statistics, folder), desc="plotting", unit="section", leave=False, disable=None)),
        limit=ROWS,
    )
    write_atomically(page.encode(), folder / REPORT)
    return folder / REPORT


def facts(statistics: DatasetStatistics) -> list[tuple[str, str, str]]:
    """Return the key numbers of the data set: label, value and remark."""
    collection, total = statistics.collection, statistics.counts.sum(0)
    splits = [f"{count:,} {split}" for split, count in zip(SPLITS, np.bincount(collection.splits), strict=False)]
    ratio = imbalance(total.tolist())
    found = [
        ("images", f"{len(collection.names):,}", ", ".join(splits)),
        ("classes", f"{len(collection.classes):,}", f"imbalance {ratio:,.1f}, most frequent to rarest"),
    ]
    if statistics.shapes is None:
        return found
    least, middle, most = np.quantile(statistics.per_image, [0, 0.5, 1])
    found.append(("objects", f"{total.sum():,}", f"median {middle:g} per image, {least:g} to {most:g}"))
    if len(collection.labels):
        width, height = np.median(statistics.shapes.width), np.median(statistics.shapes.height)
        share, side = np.median(statistics.shapes.share), np.median(statistics.shapes.side)
        remark = f"{percent(share)} of the image; size {side:.0f} px on the canvas"
        found.append(("median object", f"{width:.0f}x{height:.0f} px", remark))
    return found


def _sections(statistics: DatasetStatistics, folder: Path) -> Iterator[Section]:
    yield _classes(statistics, folder)
    yield _samples(statistics, folder)
    if statistics.shapes is not None and len(statistics.collection.labels):
        yield _per_image(statistics, folder)
        yield _sizes(statistics, folder)
        yield _outliers(statistics, folder)
        yield _places(statistics, folder)
    yield _pairs(statistics, folder)
    yield _problems(statistics)


def _classes(statistics: DatasetStatistics, folder: Path) -> Section:
    collection, total = statistics.collection, statistics.counts.sum(0)
    path = folder / "classes.png"
    figures.classes(statistics.counts, collection.classes, path, f"{printable(collection.name)}: objects by class")
    rows = [
        (name, *(f"{count:,}" for count in (of_all, *counts)), percent(of_all / max(1, total.sum())))
        for name, of_all, counts in zip(collection.classes, total.tolist(), statistics.counts.T.tolist(), strict=True)
    ]
    table = Table("Objects by class and split", ("class", "all", *SPLITS, "share"), rows, (1, 2, 3, 4, 5))
    rarest = min(total.tolist(), default=0)
    text = (
        f"{amount(len(collection.classes), 'class', 'classes')}. The most frequent class has "
        f"{percent(total.max(initial=0) / max(1, total.sum()))} of the objects. The rarest class has {rarest:,}. "
        "The right panel shows how each class is divided among the splits. If the splits are stratified, the colours "
        "end at nearly the same place in every row."
    )
    return Section(
        "classes", "Classes", text, ((path, "objects of every class, and their fractions in the splits"),), (table,)
    )


def _samples(statistics: DatasetStatistics, folder: Path) -> Section:
    collection, path = statistics.collection, folder / "samples.png"
    galleries.samples(collection, path, f"{printable(collection.name)}: random images")
    shown = [(path, "images with their boxes and classes")]
    text = "Random images, as the model gets them. Check that the boxes are tight and that every object is annotated."
    if statistics.shapes is not None and len(collection.labels):
        typical = folder / "specimens.png"
        galleries.specimens(collection, statistics.shapes.side, typical, "One object per class, near its median size")
        shown.append((typical, "one object of every class"))
        text += " Below: one object of every class, the one nearest to its median size."
    if len(statistics.empty):
        none = folder / "empty.png"
        galleries.empty(collection, statistics.empty, none, f"Images without objects: {len(statistics.empty):,}")
        shown.append((none, "images without objects"))
        text += " Last: images without annotations. Check that no object in them was missed."
    names = [(collection.names[i], SPLITS[collection.splits[i]]) for i in statistics.empty.tolist()]
    tables = (Table("Images without objects", ("image", "split"), names),) if names else ()
    return Section("images", "Images", text, tuple(shown), tables)


def _per_image(statistics: DatasetStatistics, folder: Path) -> Section:
    counts, path = statistics.per_image, folder / "objects_per_image.png"
    figures.objects_per_image(counts, statistics.collection.splits, path, "Objects per image")
    order = np.argsort(-counts, kind="stable")[:10].tolist()
    names, splits = statistics.collection.names, statistics.collection.splits
    rows = [(names[i], SPLITS[splits[i]], f"{counts[i]:,}") for i in order]
    text = (
        f"An image has {counts.mean():.1f} objects on average, {np.median(counts):g} in the median and "
        f"{counts.max():,} at most. A detector must allow more detections than that (torchvision's default is 100)."
    )
    table = Table("Images with the most objects", ("image", "split", "objects"), rows, (2,))
    return Section("per-image", "Objects per image", text, ((path, "histogram of objects per image"),), (table,))


def _sizes(statistics: DatasetStatistics, folder: Path) -> Section:
    assert statistics.shapes is not None
    measured, collection = statistics.shapes, statistics.collection
    canvas, classes, labels, n = collection.canvas, collection.classes, collection.labels, len(collection.labels)
    drawn, on_canvas = folder / "boxes.png", folder / "canvas_sizes.png"
    figures.shapes(measured.share, measured.aspect, labels, classes, drawn, "Size and shape of the boxes")
    limits = dict(zip(LIMITS, smaller_than(measured.side), strict=True))
    title = f"Size of the objects on the {canvas.width}x{canvas.height} canvas"
    figures.canvas_sizes(measured.side, labels, classes, limits, on_canvas, title)
    rows = []
    for label, name in enumerate(classes):
        members = labels == label
        if members.any():
            area, share, aspect, side = (
                np.median(each[members]) for each in (measured.area, measured.share, measured.aspect, measured.side)
            )
            rows.append((name, f"{area:,.0f}", percent(share), f"{aspect:.2f}", f"{side:.0f}"))
    elongated = float(((measured.aspect > 2) | (measured.aspect < 0.5)).mean())
    small = ", ".join(f"{count:,} ({percent(count / n)}) under {limit} px" for limit, count in limits.items())
    text = (
        f"Half of the boxes cover {percent(np.quantile(measured.share, 0.25))} to "
        f"{percent(np.quantile(measured.share, 0.75))} of their image. {percent(elongated)} are longer than 2:1, the "
        "most elongated of the usual anchors. The size of an object is the square root of its area on the canvas, as "
        f"the model gets it: {small}. COCO calls objects under 32 px small."
    )
    head = ("class", "area, px", "fraction of the image", "width / height", "size on the canvas, px")
    return Section(
        "shapes",
        "Size and shape",
        text,
        ((drawn, "histograms of relative area and aspect ratio"), (on_canvas, "histogram of size on the canvas")),
        (Table("Medians by class", head, rows, (1, 2, 3, 4)),),
    )


def _outliers(statistics: DatasetStatistics, folder: Path) -> Section:
    collection = statistics.collection

    def describe(each: Outlier, large: str, small: str) -> str:
        return f"{each.excess:.2f}x too {large if each.value > each.high else small}"

    odd = [(each, describe(each, "large", "small"), "{:.0f} px") for each in statistics.size_outliers]
    odd += [(each, describe(each, "wide", "narrow"), "{:.2f}") for each in statistics.aspect_outliers]
    odd.sort(key=lambda entry: -entry[0].excess)
    text = (
        "Objects whose size on the canvas or aspect ratio is outside Tukey's fences for their class: more than 1.5 "
        "interquartile ranges beyond the quartiles, on a logarithmic scale. Objects cut off at an edge are often "
        "correct outliers. A wrong class or a box around two objects is an annotation error."
    )
    if not odd:
        return Section("outliers", "Outliers", text + " There are no outliers.")
    path = folder / "outliers.png"
    shown = [(each.index, what) for each, what, _ in odd]
    galleries.outliers(collection, shown, path, "The largest outliers")
    rows = []
    for each, what, unit in odd:
        owner = collection.owners[each.index]
        usual = f"{unit.format(each.low).removesuffix(' px')} to {unit.format(each.high)}"
        name = collection.classes[collection.labels[each.index]]
        rows.append(
            (collection.names[owner], SPLITS[collection.splits[owner]], name, what, unit.format(each.value), usual)
        )
    head = ("image", "split", "class", "deviation", "value", "fences of the class")
    return Section(
        "outliers", "Outliers", text, ((path, "the largest outliers"),), (Table("Outliers", head, rows, (4, 5)),)
    )


def _places(statistics: DatasetStatistics, folder: Path) -> Section:
    collection, path = statistics.collection, folder / "places.png"
    boxes, sizes = collection.boxes(), collection.sizes[collection.owners]
    maps = {f"all {len(boxes):,} objects": coverage(boxes, sizes)}
    if len(collection.classes) > 1:
        for label, name in enumerate(collection.classes[:MAPS]):
            of_class = collection.labels == label
            if of_class.any():
                maps[f"{brief(name)}: {of_class.sum():,}"] = coverage(boxes[of_class], sizes[of_class])
    aspect = float(np.median(collection.sizes[:, 0] / collection.sizes[:, 1]))
    figures.places(maps, aspect, path, "Positions of objects in their images")
    inner = maps[next(iter(maps))]
    cells = len(inner) // 4
    middle = inner[cells:-cells, cells:-cells].mean() / max(inner.mean(), 1e-12)
    text = (
        "The maps show the fraction of the boxes that cover each point of the image. A model learns such patterns: if "
        "objects are always in the middle, it misses objects at the edges. Here the middle quarter of the image is "
        f"covered {middle:.2f} times as often as the whole image on average."
    )
    return Section("places", "Object positions", text, ((path, "heat maps of the positions of boxes"),))


def _pairs(statistics: DatasetStatistics, folder: Path) -> Section:
    collection, found = statistics.collection, statistics.pairs
    across = leaks(statistics)
    searched = "Every pair of images was compared"
    if not found.exhaustive:
        searched = "With so many images, only pairs with similar hashes were compared, which finds few shifted copies"
    text = (
        f"{searched}. Two images are compared at the shift with the largest correlation. Their similarity is the "
        f"median correlation over parts of their common area: {MIN_SIMILARITY:g} or more is most likely the same "
        "scene, and 1 is a copy. Mirrored and rotated copies are not found."
    )
    if not len(found):
        return Section("near-duplicates", "Near-duplicates and leakage", text + " No near-duplicates were found.")
    text += f" {amount(len(found), 'pair')} found, {int(across.sum()):,} of them in different splits (framed)."
    if uniform(statistics):
        text += " So many pairs mean only that all images are of one kind."
    chosen = found.take(np.lexsort((-found.similarity, ~across)))
    path = folder / "pairs.png"
    galleries.pairs(collection, chosen, path, f"Near-duplicate pairs: {len(found):,}, those in different splits first")
    rows = []
    for i, (first, second) in enumerate(zip(chosen.first.tolist(), chosen.second.tolist(), strict=True)):
        splits = [SPLITS[collection.splits[each]] for each in (first, second)]
        kind = "exact copy" if chosen.exact[i] else f"{chosen.similarity[i]:.2f}"
        leak = "leak: " if splits[0] != splits[1] else ""
        rows.append(
            (collection.names[first], collection.names[second], leak + " and ".join(dict.fromkeys(splits)), kind)
        )
    head = ("image", "other image", "split", "similarity")
    table = Table("Near-duplicate pairs", head, rows, (3,))
    return Section(
        "near-duplicates", "Near-duplicates and leakage", text, ((path, "near-duplicate pairs of images"),), (table,)
    )


def _problems(statistics: DatasetStatistics) -> Section:
    if not statistics.problems:
        return Section("problems", "Problems", "No problems were found while reading the data set.")
    tables = []
    for kind, group in groupby(statistics.problems, attrgetter("kind")):
        rows = [(printable(each.file), printable(each.message)) for each in group]
        tables.append(Table(f"{len(rows):,} {kind}", ("file", "problem"), rows))
    text = f"{amount(len(statistics.problems), 'problem')} found while reading the data set, with the consequences."
    return Section("problems", "Problems", text, (), tuple(tables))


def percent(share: float) -> str:
    """Format a fraction as a percentage with one to three digits, such as ``0.04%``, ``4.2%`` or ``42%``."""
    value = 100 * float(share)
    return f"{value:.0f}%" if value >= 10 or value == 0 else f"{value:.1f}%" if value >= 0.1 else f"{value:.2g}%"


def _embed(path: Path) -> str:
    """Encode an image as a data URL in WebP, which takes a fifth of a PNG's size."""
    packed = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(packed, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()
