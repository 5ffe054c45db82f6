"""Data sets with COCO annotations: JSON files of instances, one for all images or one per split."""

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
"""Words in the name of a JSON file, or of its folder, that mark its split; the first split with an image keeps it."""

Id = int | str
"""Identifier of an image, a category or an annotation."""

MAX_BYTES = 2 << 30
"""Largest JSON file that is read; COCO's largest, instances_train2017.json, has a quarter of this size."""


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
    """Load a COCO data set.

    A JSON file belongs to the split in its name, or in the name of its folder, such as
    ``annotations/instances_val2017.json`` or ``valid/_annotations.coco.json``. A split without a file is split off
    the training images, stratified by class. Without a file for train, the images of no split are the training
    images. Problems of the data set are printed on stderr, and unusable parts are left out.

    Args:
        root: path of the folder.
        name: name of the data set in tables; None uses the name of the folder.
        height: height in pixels of the canvas that images are letterboxed on.
        width: width in pixels of the canvas that images are letterboxed on.
        val_fraction: fraction of all training images for the validation split, if it has no file.
        test_fraction: fraction of all training images for the test split, if it has no file.
        seed: random seed of the splits that are made here.
        classes: names of the classes to use; None uses all classes that have objects.
        keep_empty: True keeps images without objects in the splits, as background.
        annotations: a JSON file, or a folder of JSON files, within `root`. None uses the JSON files in `root` and in
            its direct subfolders; if any has ``instances`` in its name, only those are used.
        images: the folder within `root` that each `file_name` is relative to; None tries the folder of the JSON file,
            a folder named like the JSON file, the usual image folders, then `root`.
        cache: folder of the image cache, which contains the images at training size; None decodes the images into
            memory in each training.

    Raises:
        DataError: the folder does not exist, has no JSON files or nothing usable, a requested class has no object,
            or a split would be empty.
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
    """Read the annotations and the headers of the images; see `load` for the arguments.

    Raises:
        DataError: the folder does not exist or has no JSON files, or a requested class has no object.
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
    """Find the annotation files.

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
            f"no .json files in '{place}': data.root must contain COCO annotations, directly or in its subfolders; or "
            "set data.annotations=<file or folder>"
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
    """Folders to search for the images of a JSON file, in order."""
    usual = subfolder(root, given, IMAGES, "images") or root
    if given is not None:
        return [usual]
    own = path.stem.removeprefix("instances_")
    return [place for place in dict.fromkeys([path.parent, root / own, usual / own, usual, root]) if place.is_dir()]


def _entries(
    path: Path, split: str | None, places: Sequence[Path], root: Path, problems: list[Problem]
) -> Iterator[ImageEntry]:
    """Yield the images declared in a JSON file."""
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
            problems.append(Problem(source, Kind.BROKEN_ENTRY, f"{label} has an image_id that is not declared"))
        elif of not in images:
            continue  # its image is missing, which is already a problem
        elif (category := _id(each, "category_id")) is None or category not in categories:
            what = f"{label} has category_id {category!r}, which is not declared in {source}"
            problems.append(Problem(relative(images[of][0], root), Kind.UNKNOWN_CLASS, what))
        else:
            crowd = each.get("iscrowd") in (1, "1")
            items[of].append(Item(label, categories[category], _box(each.get("bbox")), crowd))
    for key, (file, declared) in images.items():
        yield ImageEntry(relative(file, root), source, file, split, declared, items[key])


def _parse(path: Path) -> dict[str, list[Any]] | str:
    """Return the three lists of an annotation file, or an error message."""
    try:
        document = json.loads(content(path, MAX_BYTES))
    except OSError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"broken JSON: {error}"
    if not isinstance(document, dict):
        return "not COCO annotations: expected an object with the lists images, annotations and categories"
    missing = [name for name in ("images", "annotations", "categories") if not isinstance(document.get(name), list)]
    return f"not COCO annotations: no list named {' or '.join(missing)}" if missing else document


def _id(entry: object, key: str = "id") -> Id | None:
    """Return the identifier under a key, an integer or a string; None if there is none."""
    found = entry.get(key) if isinstance(entry, dict) else None
    return found if isinstance(found, int | str) else None


def _categories(listed: Sequence[Any], source: str, problems: list[Problem]) -> dict[Id, str]:
    """Return the class name of each category id."""
    names: dict[Id, str] = {}
    for i, category in enumerate(listed, 1):
        key, name = _id(category), category.get("name") if isinstance(category, dict) else None
        if key is None or not isinstance(name, str):
            problems.append(Problem(source, Kind.BROKEN_ENTRY, f"category no. {i} has no id or no name"))
        elif names.setdefault(key, name.strip()) != name.strip():
            what = f"category id {key!r} is both '{names[key]}' and '{name}'; the first name is used"
            problems.append(Problem(source, Kind.BROKEN_ENTRY, what))
    return names


def _image(name: str, places: Sequence[Path], root: Path) -> Path | tuple[Kind, str]:
    """Return the path of an image, or the kind and description of the problem."""
    paths = [path for place in places if (path := within(place, name, root, place)) is not None]
    if not paths:
        return Kind.FOREIGN_PATH, "is a path outside the data set"
    searched = ", ".join(relative(place, root) for place in places)
    return next(filter(is_file, paths), (Kind.MISSING_IMAGE, f"not found in {searched}"))


def _declared(image: Mapping[str, Any]) -> tuple[float, float] | None:
    return (number(image.get("height")), number(image.get("width"))) if {"height", "width"} & set(image) else None


def _box(written: object) -> tuple[float, float, float, float]:
    """Convert COCO's left, top, width and height to left, top, right and bottom."""
    if not isinstance(written, list) or len(written) != 4:
        return (math.nan,) * 4
    left, top, width, height = map(number, written)
    return left, top, left + width, top + height
