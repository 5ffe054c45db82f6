"""Any folder of images with COCO annotations: JSON files of instances, one for all images or one a split."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import DetectionData
from assay_research.data.reading.annotations import Annotations, ImageEntry, Item, Kind, Problem, number, validate
from assay_research.data.reading.assembly import assemble
from assay_research.data.reading.folders import (
    IMAGES,
    content,
    data_folder,
    files,
    is_file,
    relative,
    subfolder,
    within,
)
from assay_research.errors import DataError

SPLITS = {
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
    "train": ("train", "training"),
}
"""The words by which a JSON file's name, or else its folder's, tells its split; an image of several is the first's."""

Id = int | str
"""What an image, a category or an annotation is identified by."""

MAX_BYTES = 2 << 30
"""A larger JSON file is not read: COCO's own largest, instances_train2017.json, is a quarter of it."""


def load(
    root: str,
    name: str | None = None,
    height: int = 480,
    width: int = 640,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    classes: list[str] | None = None,
    keep_empty: bool = False,
    annotations: str | None = None,
    images: str | None = None,
    cache: str | None = "~/.cache/assay",
) -> DetectionData:
    """Read a COCO data set.

    A JSON file with train, val or test in its name, or in that of its folder, is that split's:
    ``annotations/instances_val2017.json``, ``valid/_annotations.coco.json``. A split without a file is cut from the
    training images, stratified by class; without a file of train's, images of no split are for training. What is
    wrong with the data set is said on stderr, and left out.

    Args:
        root: the folder.
        name: what tables call the data set; the folder's own name by default.
        height: of the canvas that images are letterboxed on, pixels.
        width: the same.
        val_fraction: part of the training images, before anything is cut, that become `val` if it has no file.
        test_fraction: the same for `test`.
        seed: of the cuts.
        classes: the only ones wanted; None takes all there are objects of.
        keep_empty: whether images without objects are in the splits, as background to learn from.
        annotations: a JSON file, or a folder of them, within `root`; None takes those in `root` and its folders, and
            of these, if there are any, only those with ``instances`` in their name.
        images: the folder, within `root`, that `file_name` starts from; None searches the JSON file's own, one
            called like the JSON file, the usual ones, then `root` itself.
        cache: where the images are kept at training size; None decodes them each time, into memory.

    Raises:
        DataError: no such folder, no JSON files, nothing that can be used, a class wanted that is not there, or a
            split that would be empty.
    """
    return assemble(
        read(root, annotations, images, classes),
        name,
        Canvas(height, width, "letterbox"),
        val_fraction,
        test_fraction,
        seed,
        keep_empty,
        cache,
    )


def read(
    root: str, annotations: str | None = None, images: str | None = None, classes: Sequence[str] | None = None
) -> Annotations:
    """Read the annotations, and of the images only the headers; see `load` for the arguments.

    Raises:
        DataError: no such folder, no JSON files, or a class wanted that is not there.
    """
    folder = data_folder(root, "a folder of images and COCO annotations")
    try:
        parts = [(_split(path, folder), path) for path in _jsons(folder, annotations)]
        places = [_places(path, folder, images) for _, path in parts]
    except OSError as error:
        raise DataError(f"'{folder}' cannot be searched: {error}") from error
    problems: list[Problem] = []
    entries: list[ImageEntry] = []
    order = [*SPLITS, None]
    for (split, path), searched in sorted(zip(parts, places, strict=True), key=lambda each: order.index(each[0][0])):
        entries += _entries(path, split, searched, folder, problems)
    return validate(folder, entries, classes, problems)


def _jsons(root: Path, given: str | None) -> list[Path]:
    """The annotation files.

    Raises:
        DataError: there are none.
    """
    if given is not None:
        found = [root / given] if is_file(root / given) else files(root / given, [".json"])
    else:
        found = [path for path in files(root, [".json"]) if len(path.relative_to(root).parts) <= 2]
        found = [path for path in found if "instances" in path.name] or found
    if not found:
        place = root if given is None else root / given
        raise DataError(
            f"no .json files in '{place}': data.root must hold COCO annotations, in it or in folders in it, or name "
            "yours with data.annotations=<file or folder>"
        )
    return found


def _split(path: Path, root: Path) -> str | None:
    for name in (path.stem, "" if path.parent == root else path.parent.name):
        words = re.findall("[a-z]+", name.lower())
        for split, known in SPLITS.items():
            if any(word in known for word in words):
                return split
    return None


def _places(path: Path, root: Path, given: str | None) -> list[Path]:
    """The folders that a JSON file's images may lie in, likeliest first."""
    usual = subfolder(root, given, IMAGES, "images") or root
    if given is not None:
        return [usual]
    own = path.stem.removeprefix("instances_")
    return [place for place in dict.fromkeys([path.parent, root / own, usual / own, usual, root]) if place.is_dir()]


def _entries(
    path: Path, split: str | None, places: Sequence[Path], root: Path, problems: list[Problem]
) -> Iterator[ImageEntry]:
    """The images a JSON file declares."""
    source = relative(path, root)
    document = _parse(path)
    if isinstance(document, str):
        problems.append(Problem(source, Kind.BROKEN_FILE, document))
        return
    categories = _categories(document["categories"], source, problems)
    images: dict[Id, tuple[Path, tuple[float, float] | None]] = {}
    seen: dict[Id, str] = {}
    for i, image in enumerate(document["images"], 1):
        key, name = _id(image), image.get("file_name") if isinstance(image, dict) else None
        if key is None or not isinstance(name, str) or not name.strip():
            problems.append(Problem(source, Kind.BROKEN_ENTRY, f"image no. {i} has no id or no file_name"))
        elif key in seen:
            problems.append(Problem(source, Kind.DUPLICATE, f"image id {key!r} is both '{seen[key]}' and '{name}'"))
        else:
            seen[key] = name
            file = _image(name, places, root)
            if isinstance(file, Path):
                images[key] = file, _declared(image)
            else:
                problems.append(Problem(name, file[0], f"{file[1]} (declared in {source})"))
    items: dict[Id, list[Item]] = {key: [] for key in images}
    for i, each in enumerate(document["annotations"], 1):
        label = f"annotation no. {i}" if (key := _id(each)) is None else f"annotation {key}"
        of = _id(each, "image_id")
        if of is None or of not in seen:
            problems.append(Problem(source, Kind.BROKEN_ENTRY, f"{label} is of no image that is declared"))
        elif of not in images:
            continue  # its image is missing, which has been said
        elif (category := _id(each, "category_id")) is None or category not in categories:
            what = f"{label} is of category {category!r}, which is not declared in {source}"
            problems.append(Problem(relative(images[of][0], root), Kind.UNKNOWN_CLASS, what))
        else:
            crowd = each.get("iscrowd") in (1, "1")
            items[of].append(Item(label, categories[category], _box(each.get("bbox")), crowd))
    for key, (file, declared) in images.items():
        yield ImageEntry(relative(file, root), source, file, split, declared, items[key])


def _parse(path: Path) -> dict[str, list[Any]] | str:
    """The three lists of an annotation file, or what is wrong with the file."""
    try:
        document = json.loads(content(path, MAX_BYTES))
    except OSError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"broken JSON: {error}"
    if not isinstance(document, dict):
        return "no COCO annotations: expected an object with the lists images, annotations and categories"
    missing = [name for name in ("images", "annotations", "categories") if not isinstance(document.get(name), list)]
    return f"no COCO annotations: it has no list of {' and none of '.join(missing)}" if missing else document


def _id(entry: object, key: str = "id") -> Id | None:
    """An identifier, a whole number or a string; None if there is none."""
    found = entry.get(key) if isinstance(entry, dict) else None
    return found if isinstance(found, int | str) else None


def _categories(listed: Sequence[Any], source: str, problems: list[Problem]) -> dict[Id, str]:
    """The class name of each category id."""
    names: dict[Id, str] = {}
    for i, category in enumerate(listed, 1):
        key, name = _id(category), category.get("name") if isinstance(category, dict) else None
        if key is None or not isinstance(name, str):
            problems.append(Problem(source, Kind.BROKEN_ENTRY, f"category no. {i} has no id or no name"))
        elif names.setdefault(key, name.strip()) != name.strip():
            what = f"category id {key!r} is both '{names[key]}' and '{name}'; it is taken for the first"
            problems.append(Problem(source, Kind.BROKEN_ENTRY, what))
    return names


def _image(name: str, places: Sequence[Path], root: Path) -> Path | tuple[Kind, str]:
    """Where an image lies, or why it is not there."""
    paths = [path for place in places if (path := within(place, name, root, place)) is not None]
    if not paths:
        return Kind.FOREIGN_PATH, "leads out of the data set"
    searched = ", ".join(relative(place, root) for place in places)
    return next(filter(is_file, paths), (Kind.MISSING_IMAGE, f"is in none of {searched}"))


def _declared(image: Mapping[str, Any]) -> tuple[float, float] | None:
    return (number(image.get("height")), number(image.get("width"))) if {"height", "width"} & set(image) else None


def _box(written: object) -> tuple[float, float, float, float]:
    """Left, top, right and bottom from COCO's left, top, width and height."""
    if not isinstance(written, list) or len(written) != 4:
        return (math.nan,) * 4
    left, top, width, height = map(number, written)
    return left, top, left + width, top + height
