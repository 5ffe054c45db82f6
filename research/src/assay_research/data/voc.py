"""Data sets with Pascal VOC annotations: one XML file per image.

Coordinates are used as written: `xmin` and `ymin` are the left and top edge of a box, `xmax` and `ymax` its right and
bottom edge, in pixels from the image's corner. labelImg writes them this way: it truncates the corners as drawn and
raises a 0 to 1 (its `convertPoints2BndBox`). So does BCCD, whose coordinates run from 1 to the image's full width.
PASCAL's own sets count pixels from 1 and include the last; read this way, their boxes lack a pixel at the left and top.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from assay_deploy.images.canvas import Canvas
from assay_deploy.images.decode import suffixes
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

XMLS = ("annotations", "xmls", "xml", "labels")
"""Usual names of annotation folders in lower case, in the order they are tried."""

EDGES = ("xmin", "ymin", "xmax", "ymax")

MAX_BYTES = 16 << 20
"""Largest XML file or split list that is read; 16 MiB are about 50,000 objects in one image."""


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
    """Load a VOC data set: ``JPEGImages/``, ``Annotations/`` and, if it exists, ``ImageSets/Main/``.

    ``train.txt``, ``val.txt`` and ``test.txt`` in ``ImageSets/Main/`` list the images of a split. A split without a
    list is split off the training images, stratified by class. ``trainval.txt`` replaces a missing ``train.txt``;
    without either, the images in no list are the training images. Problems of the data set are printed on stderr, and
    unusable parts are left out.

    Args:
        root: path of the folder.
        name: name of the data set in tables; None uses the name of the folder.
        height: height in pixels of the canvas that images are letterboxed on.
        width: width in pixels of the canvas that images are letterboxed on.
        val_fraction: fraction of all training images for the validation split, if it has no list.
        test_fraction: fraction of all training images for the test split, if it has no list.
        seed: random seed of the splits that are made here.
        classes: names of the classes to use; None uses all classes that have objects.
        keep_empty: True keeps images without objects in the splits, as background.
        annotations: the folder of XML files within `root`; None tries the usual names, then the folder of the images.
        images: the folder of images within `root`; None tries the usual names, then `root`.
        cache: folder of the image cache, which contains the images at training size; None decodes the images into
            memory in each training.

    Raises:
        DataError: the folder does not exist, has no XML files or nothing usable, a requested class has no object, or
            a split would be empty.
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

    An XML file belongs to the image with the same path except for the suffix; if there is none, to the image named in
    the file.

    Raises:
        DataError: the folder does not exist or has no XML files, or a requested class has no object.
    """
    folder = data_folder(root, "a folder of Pascal VOC annotations, with JPEGImages/ and Annotations/")
    problems: list[Problem] = []
    try:
        image_folder = subfolder(folder, images, IMAGES, "images") or folder
        xml_folder = subfolder(folder, annotations, XMLS, "annotations") or image_folder
        xmls = {_stem(path, xml_folder): path for path in files(xml_folder, [".xml"])}
        found: dict[str, list[Path]] = {}
        for path in files(image_folder, suffixes()):
            found.setdefault(_stem(path, image_folder), []).append(path)
        splits = _splits(folder, xmls, problems)
    except OSError as error:
        raise DataError(f"'{folder}' cannot be searched: {error}") from error
    if not xmls:
        raise DataError(
            f"no .xml files in '{xml_folder}': data.root must contain JPEGImages/ and Annotations/; or set "
            "data.images=<folder> and data.annotations=<folder>"
        )
    entries = []
    for stem, path in xmls.items():
        file = relative(path, folder)
        parsed = _parse(path)
        if isinstance(parsed, str):
            problems.append(Problem(file, Kind.BROKEN_FILE, parsed))
            continue
        image = _image(parsed, found.get(stem, []), image_folder, folder)
        if isinstance(image, Path):
            entries.append(ImageEntry(file, file, image, splits.get(stem), _declared(parsed), list(_items(parsed))))
        else:
            problems.append(Problem(file, *image))
    taken = {entry.path for entry in entries}
    problems += [
        Problem(relative(path, folder), Kind.UNANNOTATED, "has no annotation file")
        for stem, paths in found.items()
        if stem not in xmls and not taken.intersection(paths)
        for path in paths
    ]
    return validate(folder, entries, classes, problems)


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _splits(root: Path, known: Mapping[str, Path], problems: list[Problem]) -> dict[str, str]:
    """Return the split of each listed annotation; one in several lists belongs to the first of test, val and train."""
    folder = root / "ImageSets" / "Main"
    lists = {split: folder / f"{split}.txt" for split in ("test", "val", "train")}
    whole = not is_file(lists["train"])
    if whole:
        lists["train"] = folder / "trainval.txt"
    splits: dict[str, str] = {}
    for split, path in lists.items():
        file = relative(path, root)
        try:
            lines = content(path, MAX_BYTES).decode(errors="replace").splitlines() if path.exists() else []
        except OSError as error:
            problems.append(Problem(file, Kind.BROKEN_FILE, str(error)))
            continue
        for stem in dict.fromkeys(filter(None, map(str.strip, lines))):
            if stem not in known:
                problems.append(Problem(file, Kind.BROKEN_ENTRY, f"lists '{stem}', which has no annotation file"))
            elif splits.setdefault(stem, split) != split and not (whole and split == "train"):
                what = f"lists '{stem}', which is already in {splits[stem]}"
                problems.append(Problem(file, Kind.IN_TWO_SPLITS, what))
    return splits


def _parse(path: Path) -> Element | str:
    """Return the root element of an annotation file, or an error message."""
    try:
        root: Element = fromstring(content(path, MAX_BYTES), forbid_dtd=True)
    except DefusedXmlException:
        return "declares a document type or entities, which are refused: annotations need none and attacks use them"
    except (OSError, ParseError, ValueError, LookupError) as error:  # the last two are raised for its encoding
        return f"{error}" if isinstance(error, OSError) else f"broken XML: {error}"
    if root.tag != "annotation":
        return f"not a Pascal VOC annotation: expected <annotation>, found <{root.tag}>"
    return root


def _image(root: Element, same_stem: Sequence[Path], images: Path, folder: Path) -> Path | tuple[Kind, str]:
    """Return the path of the annotated image, or the kind and description of the problem."""
    name = (root.findtext("filename") or "").strip()
    if same_stem:
        return next((path for path in same_stem if path.name == name), same_stem[0])
    if not name:
        return Kind.MISSING_IMAGE, "no image of the same name, and no <filename>"
    path = within(images, name, folder, images)
    if path is None:
        return Kind.FOREIGN_PATH, f"'{name}' is a path outside the data set"
    if not is_file(path):
        return Kind.MISSING_IMAGE, f"no image of the same name, and no '{name}' in {relative(images, folder)}"
    return path


def _declared(root: Element) -> tuple[float, float] | None:
    size = root.find("size")
    return None if size is None else (number(size.findtext("height")), number(size.findtext("width")))


def _items(root: Element) -> Iterator[Item]:
    for i, each in enumerate(root.findall("object"), 1):
        left, top, right, bottom = (number(each.findtext(f"bndbox/{edge}")) for edge in EDGES)
        name = (each.findtext("name") or "").strip()
        difficult = (each.findtext("difficult") or "").strip() == "1"
        yield Item(f"object {i}", name, (left, top, right, bottom), difficult)
