"""A VOC data set is read by rules one can rely on, and what cannot be used of it is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay_deploy.images.canvas import Canvas
from assay_research.config.build import instantiate
from assay_research.data.detection import DetectionData
from assay_research.data.reading.annotations import Kind
from assay_research.data.voc import MAX_BYTES, load, read
from assay_research.errors import ConfigError, DataError
from tests.research.data.annotated import annotation, image, thing, voc_of_ten, write_voc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return voc_of_ten(tmp_path / "voc")


def small(root: Path, **changed: object) -> DetectionData:
    settings: dict[str, object] = {"height": 24, "width": 32, "val_fraction": 0.2, "test_fraction": 0.2, "cache": None}
    return load(str(root), **settings | changed)  # type: ignore[arg-type]


def problems(root: Path, **changed: object) -> list[tuple[Kind, str]]:
    return [(problem.kind, problem.file) for problem in read(str(root), **changed).problems]  # type: ignore[arg-type]


def list_split(root: Path, split: str, *stems: str) -> None:
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems))


def test_annotations_are_read_as_they_are_written(root: Path) -> None:
    found = read(str(root))
    assert found.classes == ("cell", "platelet")
    assert found.counts() == {"cell": 10, "platelet": 9}
    assert not found.problems
    first = found.images[0]
    assert (first.name, first.path) == ("JPEGImages/00.png", root / "JPEGImages" / "00.png")
    assert (first.height, first.width, first.split) == (30, 50, None)
    assert first.boxes.tolist() == [[2, 3, 20, 25], [30, 5, 40, 12]]
    assert first.classes == ("cell", "platelet")


def test_data_come_on_a_letterbox_canvas_in_three_splits(root: Path) -> None:
    data = small(root)
    assert (data.name, data.canvas) == ("voc", Canvas(24, 32, "letterbox"))
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 2, 2]
    assert small(root, name="blood").name == "blood"


def test_config_builds_it_and_insists_on_a_root(root: Path) -> None:
    config = {"_target_": "assay_research.data.voc.load", "root": str(root), "cache": None, "classes": ["platelet"]}
    assert instantiate(config, "data").classes == ("platelet",)
    with pytest.raises(ConfigError, match="root"):
        instantiate({**config, "root": "???"}, "data")


@pytest.mark.parametrize(
    ("images", "xmls", "named"),
    [
        ("images", "xmls", {}),
        ("Images", "annotations", {}),
        ("images", "images", {}),
        (".", ".", {}),
        ("scans", "marks/voc", {"images": "scans", "annotations": "marks/voc"}),
        ("images/lake", "xmls/lake", {}),
    ],
)
def test_folders_are_found_by_their_usual_names_or_named(
    tmp_path: Path, images: str, xmls: str, named: dict[str, str]
) -> None:
    for i in range(3):
        write_voc(tmp_path, f"{i}", annotation("elsewhere.png", thing()), images, xmls)
    found = read(str(tmp_path), **named)
    assert len(found.images) == 3
    assert not found.problems


def test_image_of_another_name_is_found_by_the_name_the_annotation_gives(root: Path) -> None:
    (root / "JPEGImages" / "03.png").rename(root / "JPEGImages" / "diatom 3.png")
    (root / "Annotations" / "03.xml").write_text(annotation("diatom 3.png", thing()))
    found = read(str(root))
    assert not found.problems
    assert "JPEGImages/diatom 3.png" in [image.name for image in found.images]


def test_of_two_images_of_one_name_the_annotation_chooses(root: Path) -> None:
    image(root / "JPEGImages" / "03.bmp")
    assert "JPEGImages/03.png" in [image.name for image in read(str(root)).images]


def test_difficult_objects_are_ignored(root: Path) -> None:
    (root / "Annotations" / "00.xml").write_text(annotation("00.png", thing() + thing(difficult=1)))
    (root / "Annotations" / "01.xml").write_text(annotation("01.png", thing(difficult=1)))
    found = read(str(root))
    assert found.images[0].ignored.tolist() == [False, True]
    assert found.counts()["cell"] == 9
    assert [(problem.file, problem.kind) for problem in found.problems] == [("Annotations/01.xml", Kind.NO_OBJECTS)]
    data = small(root)
    assert "JPEGImages/01.png" not in data.train.names + data.val.names + data.test.names


def test_split_lists_are_kept(root: Path) -> None:
    list_split(root, "train", "00", "01", "02", "03", "04", "05", "06")
    list_split(root, "val", "07", "08")
    list_split(root, "test", "09")
    data = small(root)
    assert [len(split) for split in (data.train, data.val, data.test)] == [7, 2, 1]
    assert data.test.names == ("JPEGImages/09.png",)


def test_split_without_a_list_is_cut_from_training_and_trainval_is_training(root: Path) -> None:
    list_split(root, "trainval", *(f"{i:02d}" for i in range(8)))
    list_split(root, "val", "06", "07")
    data = small(root)
    assert data.val.names == ("JPEGImages/06.png", "JPEGImages/07.png")
    assert (len(data.train), len(data.test)) == (5, 1)
    assert problems(root) == [(Kind.IN_NO_SPLIT, f"JPEGImages/{i:02d}.png") for i in (8, 9)]


def test_test_list_alone_leaves_the_rest_for_training(root: Path) -> None:
    list_split(root, "test", "00", "01")
    data = small(root)
    assert data.test.names == ("JPEGImages/00.png", "JPEGImages/01.png")
    assert (len(data.train), len(data.val)) == (6, 2)
    assert not problems(root)


def test_wrong_split_lists_are_told_and_a_test_image_is_never_trained_on(root: Path) -> None:
    list_split(root, "train", *(f"{i:02d}" for i in range(8)), "99")
    list_split(root, "test", "07", "08", "09")
    found = read(str(root))
    assert [str(problem) for problem in found.problems] == [
        "ImageSets/Main/train.txt: lists '99', which has no annotation file",
        "ImageSets/Main/train.txt: lists '07', which is already in test",
    ]
    assert [image.split for image in found.images] == ["train"] * 7 + ["test"] * 3


BOMB = "<!DOCTYPE a [<!ENTITY a 'ha'>" + "".join(f"<!ENTITY a{i} '{'&a;' * 10}'>" for i in range(9)) + "]>"
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "kind", "what"),
    [
        ("", Kind.BROKEN_FILE, "broken XML: no element found"),
        ("<annotation><filename>", Kind.BROKEN_FILE, "broken XML"),
        ("<annotation>\0</annotation>", Kind.BROKEN_FILE, "broken XML"),
        ('<?xml version="1.0" encoding="elvish"?><annotation/>', Kind.BROKEN_FILE, "broken XML"),
        ("<a>" * 100_000, Kind.BROKEN_FILE, "broken XML"),
        ("<a>" * 100_000 + "</a>" * 100_000, Kind.BROKEN_FILE, "not a Pascal VOC annotation"),
        ("<html></html>", Kind.BROKEN_FILE, "not a Pascal VOC annotation: expected <annotation>, found <html>"),
        (f"{BOMB}<annotation>&a9;</annotation>", Kind.BROKEN_FILE, "declares a document type or entities"),
        (f"{OUTSIDE}<annotation>&a;</annotation>", Kind.BROKEN_FILE, "declares a document type or entities"),
        ("<!DOCTYPE annotation><annotation/>", Kind.BROKEN_FILE, "declares a document type or entities"),
        ("<annotation/>", Kind.NO_OBJECTS, "has no objects"),
        (annotation("00.png", thing() + thing("  ")), Kind.UNKNOWN_CLASS, "object 2 (no class name)"),
        (annotation("00.png", thing() + thing(box=(5, 5, 5, 9))), Kind.NO_AREA, "object 2 (cell) from 5, 5 to 5, 9"),
        (annotation("00.png", thing() + thing(box=(9, 5, 5, 9))), Kind.NO_AREA, "object 2 (cell) from 9, 5 to 5, 9"),
        (annotation("00.png", thing() + thing(box=(60, 5, 70, 9))), Kind.OUTSIDE, "object 2 (cell) from 60, 5"),
        (annotation("00.png", thing() + thing(box=(40, 5, 70, 9))), Kind.CLIPPED, "object 2 (cell) from 40, 5"),
        (annotation("00.png", thing() + thing(box=(1, 1, "nan", 9))), Kind.NO_NUMBERS, "object 2 (cell) from 1, 1"),
        (annotation("00.png", thing() + thing(box=(1, 1, "inf", 9))), Kind.NO_NUMBERS, "object 2 (cell) from 1, 1"),
        (annotation("00.png", thing() + thing(box=(1, 1, "x", ""))), Kind.NO_NUMBERS, "object 2 (cell) from 1, 1"),
        (annotation("00.png", f"{thing()}<object><name>cell</name></object>"), Kind.NO_NUMBERS, "object 2 (cell)"),
        (annotation("00.png", thing(), (50, 30)), Kind.WRONG_SIZE, "declared 30x50, the image is 50x30"),
        (annotation("00.png", thing()).replace("<width>50", "<width>5O"), Kind.WRONG_SIZE, "declared nanx30"),
    ],
)
def test_damage_is_named_and_the_rest_is_read(root: Path, text: str, kind: Kind, what: str) -> None:
    (root / "Annotations" / "00.xml").write_text(text)
    found = read(str(root))
    assert [problem.kind for problem in found.problems] == [kind]
    assert str(found.problems[0]).startswith(f"Annotations/00.xml: {what}")
    assert len(found.images) == (9 if kind is Kind.BROKEN_FILE else 10)
    assert found.counts()["cell"] == (9 if kind in (Kind.BROKEN_FILE, Kind.NO_OBJECTS) else 11 - (kind in DROPS))


DROPS = set(Kind) - {Kind.CLIPPED}


def test_size_of_the_image_counts_whatever_is_declared(root: Path) -> None:
    text = annotation("00.png", thing(box=(40, 5, 60, 9)), (300, 500))
    (root / "Annotations" / "00.xml").write_text(text)
    found = read(str(root))
    assert [problem.kind for problem in found.problems] == [Kind.WRONG_SIZE, Kind.CLIPPED]
    assert (found.images[0].height, found.images[0].width) == (30, 50)
    assert found.images[0].boxes.tolist() == [[40, 5, 50, 9]]


def test_boxes_are_of_the_upright_image(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((50, 30, 3), np.uint8)).save(root / "JPEGImages" / "00.png", exif=exif)
    found = read(str(root))
    assert not found.problems
    assert (found.images[0].height, found.images[0].width) == (30, 50)


def test_annotation_file_of_absurd_size_is_not_read(root: Path) -> None:
    with (root / "Annotations" / "00.xml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (problem,) = read(str(root)).problems
    assert (problem.file, problem.kind) == ("Annotations/00.xml", Kind.BROKEN_FILE)
    assert problem.message == "the file has 16,777,217 bytes; the limit is 16,777,216"


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "..\\..\\secret.png", "C:\\secret.png"])
def test_annotation_that_leads_out_of_the_data_set_is_not_followed(root: Path, name: str) -> None:
    image(root.parent / "secret.png")
    (root / "JPEGImages" / "00.png").unlink()
    (root / "Annotations" / "00.xml").write_text(annotation(name, thing()))
    found = read(str(root))
    assert [(problem.file, problem.kind) for problem in found.problems] == [("Annotations/00.xml", Kind.FOREIGN_PATH)]
    assert len(found.images) == 9


@pytest.mark.parametrize("name", ["", "00.png", "no/such.png", "x" * 5000, "a\nb"])
def test_missing_image_is_named(root: Path, name: str) -> None:
    (root / "JPEGImages" / "00.png").unlink()
    (root / "Annotations" / "00.xml").write_text(annotation(name, thing()))
    assert problems(root) == [(Kind.MISSING_IMAGE, "Annotations/00.xml")]


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_damaged_image_is_named(root: Path, content: bytes) -> None:
    (root / "JPEGImages" / "00.png").write_bytes(content)
    assert problems(root) == [(Kind.DAMAGED_IMAGE, "JPEGImages/00.png")]


def test_image_without_annotation_and_one_with_two_are_named(root: Path) -> None:
    (root / "Annotations" / "00.xml").rename(root / "Annotations" / "a.xml")
    (root / "Annotations" / "b.xml").write_text(annotation("00.png", thing()))
    (root / "Annotations" / "01.xml").unlink()
    assert problems(root) == [(Kind.DUPLICATE, "JPEGImages/00.png"), (Kind.UNANNOTATED, "JPEGImages/01.png")]


def test_problems_are_said_once_and_the_data_go_on_without(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "Annotations" / "00.xml").write_text("<annotation>")
    (root / "Annotations" / "01.xml").write_text(annotation("01.png", thing() + thing(box=(5, 5, 5, 9))))
    data = small(root)
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 9
    assert capsys.readouterr().err.splitlines() == [
        "voc has problems: 2",
        f"  {Kind.BROKEN_FILE}: 1",
        "    Annotations/00.xml: broken XML: no element found: line 1, column 12",
        f"  {Kind.NO_AREA}: 1",
        "    Annotations/01.xml: object 2 (cell) from 5, 5 to 5, 9 in an image of 50x30",
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"annotations": "xml"}, "no folder '.*xml': data.annotations must be a folder"),
        ({"images": "scans"}, "no folder '.*scans': data.images must be a folder"),
        ({"annotations": "JPEGImages"}, r"no \.xml files in '.*JPEGImages'"),
        ({"classes": ["cel"]}, "no usable object .* has the class cel"),
        ({"classes": []}, "no image .* has a usable object"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused(root: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        small(root, **changed)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder '.*nowhere'.*data\.root"):
        load(str(tmp_path / "nowhere"))


def test_bccd_is_read_whole_but_for_its_two_empty_boxes(bccd: Path) -> None:
    found = read(str(bccd))
    assert len(found.images) == 364
    assert found.classes == ("RBC", "WBC", "Platelets")
    assert found.counts() == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    assert [str(problem) for problem in found.problems] == [
        "Annotations/BloodImage_00338.xml: object 13 (RBC) from 504, 337 to 504, 337 in an image of 640x480",
        "Annotations/BloodImage_00343.xml: object 4 (RBC) from 181, 329 to 181, 329 in an image of 640x480",
    ]
    assert {problem.kind for problem in found.problems} == {Kind.NO_AREA}


def test_bccd_comes_in_its_own_splits(bccd: Path) -> None:
    data = load(str(bccd), height=60, width=80, cache=None)
    assert [len(split) for split in (data.train, data.val, data.test)] == [205, 87, 72]
    assert sum(len(boxes) for split in (data.train, data.val, data.test) for boxes in split.boxes) == 4886
