"""Any folder of images with Pascal VOC annotations: an XML file an image.

Coordinates are taken as they are written: `xmin` and `ymin` are a box's left and top edge, `xmax` and `ymax` its right
and bottom edge, in pixels from the image's corner. So labelImg writes them: it truncates the corners as drawn and
raises a 0 to 1 (its `convertPoints2BndBox`), and so BCCD is, whose coordinates run from 1 to the image's full width.
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
"""Folders that annotations usually lie in, in lower case, likeliest first."""

EDGES = ("xmin", "ymin", "xmax", "ymax")

MAX_BYTES = 16 << 20
"""A larger XML file or split list is not read: 16 MiB are some 50,000 objects in one image."""


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
    """Read a VOC data set: ``JPEGImages/``, ``Annotations/`` and, if it is there, ``ImageSets/Main/``.

    ``train.txt``, ``val.txt`` and ``test.txt`` of the last name the images of a split; a split without a list is cut
    from the training images, stratified by class. ``trainval.txt`` stands in for a missing ``train.txt``; without
    either, what is in no list is for training. What is wrong with the data set is said on stderr, and left out.

    Args:
        root: the folder.
        name: what tables call the data set; the folder's own name by default.
        height: of the canvas that images are letterboxed on, pixels.
        width: the same.
        val_fraction: part of the training images, before anything is cut, that become `val` if it has no list.
        test_fraction: the same for `test`.
        seed: of the cuts.
        classes: the only ones wanted; None takes all there are objects of.
        keep_empty: whether images without objects are in the splits, as background to learn from.
        annotations: the folder of XML files within `root`; None searches the usual ones, then beside the images.
        images: the folder of images within `root`; None searches the usual ones, then `root` itself.
        cache: where the images are kept at training size; None decodes them each time, into memory.

    Raises:
        DataError: no such folder, no XML files, nothing that can be used, a class wanted that is not there, or a split
            that would be empty.
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

    An XML file belongs to the image with its own path but for the suffix, or else to the one it names.

    Raises:
        DataError: no such folder, no XML files, or a class wanted that is not there.
    """
    folder = data_folder(root, "a folder of Pascal VOC annotations, which holds JPEGImages/ and Annotations/")
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
            f"no .xml files in '{xml_folder}': data.root must hold JPEGImages/ and Annotations/, or name your own "
            "folders with data.images=<folder> and data.annotations=<folder>"
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
    """The split of each annotation that a list names; test images are not trained on, whatever another list says."""
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
                what = f"lists '{stem}', which stays in {splits[stem]}"
                problems.append(Problem(file, Kind.IN_TWO_SPLITS, what))
    return splits


def _parse(path: Path) -> Element | str:
    """The root of an annotation file, or what is wrong with the file."""
    try:
        root: Element = fromstring(content(path, MAX_BYTES), forbid_dtd=True)
    except DefusedXmlException:
        return "declares a document type or entities, which annotations have no use for and attacks do"
    except (OSError, ParseError, ValueError, LookupError) as error:  # the last two: its encoding
        return f"{error}" if isinstance(error, OSError) else f"broken XML: {error}"
    if root.tag != "annotation":
        return f"no Pascal VOC annotation: expected <annotation>, found <{root.tag}>"
    return root


def _image(root: Element, alike: Sequence[Path], images: Path, folder: Path) -> Path | tuple[Kind, str]:
    """The image an annotation belongs to, or why there is none."""
    name = (root.findtext("filename") or "").strip()
    if alike:
        return next((path for path in alike if path.name == name), alike[0])
    if not name:
        return Kind.MISSING_IMAGE, "no image of the same name, and it names none"
    path = within(images, name, folder, images)
    if path is None:
        return Kind.FOREIGN_PATH, f"'{name}' leads out of the data set"
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
