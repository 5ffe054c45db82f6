"""A COCO data set is read by rules one can rely on, and what cannot be used of it is named."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay_deploy.images.canvas import Canvas
from assay_research.config.build import instantiate
from assay_research.data import coco
from assay_research.data.coco import load, read
from assay_research.data.detection import DetectionData
from assay_research.data.reading.annotations import Kind
from assay_research.errors import ConfigError, DataError
from tests.research.data.annotated import CATEGORIES, coco_of_ten, document, image, write_json


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return coco_of_ten(tmp_path / "coco")


def small(root: Path, **changed: object) -> DetectionData:
    settings: dict[str, object] = {"height": 24, "width": 32, "val_fraction": 0.2, "test_fraction": 0.2, "cache": None}
    return load(str(root), **settings | changed)  # type: ignore[arg-type]


def damaged(root: Path, change: Callable[[dict[str, list[Any]]], object]) -> list[str]:
    """The problems that are found once something in the annotations was changed."""
    content = document(range(10))
    change(content)
    write_json(root / "annotations" / "instances.json", content)
    found = read(str(root))
    return [f"{problem.kind.name} {problem}" for problem in found.problems]


def test_annotations_are_read_as_they_are_written(root: Path) -> None:
    found = read(str(root))
    assert found.classes == ("cell", "platelet")
    assert found.counts() == {"cell": 10, "platelet": 9}
    assert not found.problems
    first = found.images[0]
    assert (first.name, first.path) == ("images/00.png", root / "images" / "00.png")
    assert (first.height, first.width, first.split) == (30, 50, None)
    assert first.boxes.tolist() == [[2, 3, 20, 25], [30, 5, 40, 12]]
    assert first.classes == ("cell", "platelet")


def test_data_come_on_a_letterbox_canvas_in_three_splits(root: Path) -> None:
    data = small(root)
    assert (data.name, data.canvas) == ("coco", Canvas(24, 32, "letterbox"))
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 2, 2]


def test_config_builds_it_and_insists_on_a_root(root: Path) -> None:
    config = {"_target_": "assay_research.data.coco.load", "root": str(root), "cache": None, "classes": ["platelet"]}
    assert instantiate(config, "data").classes == ("platelet",)
    with pytest.raises(ConfigError, match="root"):
        instantiate({**config, "root": "???"}, "data")


def as_files(root: Path, layout: dict[str, tuple[str, range]]) -> None:
    for file, (folder, numbers) in layout.items():
        write_json(root / file, document(numbers))
        for i in numbers:
            image(root / folder / f"{i:02d}.png")


@pytest.mark.parametrize(
    "layout",
    [
        {
            "annotations/instances_train2017.json": ("train2017", range(6)),
            "annotations/instances_val2017.json": ("val2017", range(6, 9)),
        },
        {
            "annotations/instances_Train.json": ("images/Train", range(6)),
            "annotations/instances_val.json": ("images/val", range(6, 9)),
        },
        {
            "train/_annotations.coco.json": ("train", range(6)),
            "valid/_annotations.coco.json": ("valid", range(6, 9)),
        },
        {"training.json": (".", range(6)), "validation.json": (".", range(6, 9))},
    ],
)
def test_one_file_a_split_is_kept_and_the_missing_split_cut(
    tmp_path: Path, layout: dict[str, tuple[str, range]]
) -> None:
    root = tmp_path / "test"  # which must not be taken for a split
    as_files(root, layout)
    write_json(root / "annotations" / "captions_val2017.json", {"annotations": []})
    if not any("instances" in file for file in layout):
        (root / "annotations" / "captions_val2017.json").unlink()
    found = read(str(root))
    assert not found.problems
    assert [image.split for image in found.images] == ["train"] * 6 + ["val"] * 3
    data = small(root, test_fraction=0.34)
    assert [len(split) for split in (data.train, data.val, data.test)] == [4, 3, 2]


def test_images_of_one_name_in_two_splits_are_two_images(tmp_path: Path) -> None:
    as_files(tmp_path, {f"{split}/_annotations.coco.json": (split, range(3)) for split in ("train", "valid", "test")})
    found = read(str(tmp_path))
    assert not found.problems
    assert len(found.images) == 9


def test_test_image_is_never_trained_on(root: Path) -> None:
    (root / "annotations" / "instances.json").unlink()
    write_json(root / "annotations" / "instances_train.json", document(range(8)))
    write_json(root / "annotations" / "instances_test.json", document(range(7, 10)))
    found = read(str(root))
    assert [image.split for image in found.images] == ["train"] * 7 + ["test"] * 3
    assert [str(problem) for problem in found.problems] == [
        "images/07.png: annotated in annotations/instances_test.json and again in annotations/instances_train.json"
    ]


def test_files_and_folders_can_be_named(root: Path) -> None:
    (root / "images").rename(root / "scans")
    (root / "annotations").rename(root / "marks")
    for annotations in ("marks", "marks/instances.json"):
        found = read(str(root), annotations=annotations, images="scans")
        assert len(found.images) == 10
        assert not found.problems


def test_names_may_hold_folders_and_slashes_of_either_kind(root: Path) -> None:
    content = document(range(10))
    content["images"][0]["file_name"] = "images\\00.png"
    content["images"][1]["file_name"] = "../images/01.png"
    content["images"][2]["file_name"] = str(root / "images" / "02.png")
    write_json(root / "annotations" / "instances.json", content)
    found = read(str(root))
    assert not found.problems
    assert [image.name for image in found.images] == [f"images/{i:02d}.png" for i in range(10)]


def test_crowds_are_ignored(root: Path) -> None:
    content = document(range(10))
    content["annotations"][1]["iscrowd"] = 1
    write_json(root / "annotations" / "instances.json", content)
    found = read(str(root))
    assert found.images[0].ignored.tolist() == [False, True]
    assert found.counts() == {"cell": 10, "platelet": 8}


def test_ids_may_be_strings(root: Path) -> None:
    file = root / "annotations" / "instances.json"
    file.write_text(re.sub(r'("(?:image_|category_)?id"): (\d+)', r'\1: "\2"', file.read_text()))
    found = read(str(root))
    assert not found.problems
    assert found.counts() == {"cell": 10, "platelet": 9}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda d: d["images"][0].update(file_name="no.png"),
            "MISSING_IMAGE no.png: not found in annotations, images, . (declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(file_name="x" * 5000),
            f"MISSING_IMAGE {'x' * 300}...: not found in annotations, images, . "
            "(declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(file_name="../../secret.png"),
            "FOREIGN_PATH ../../secret.png: is a path outside the data set (declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(file_name="/etc/passwd"),
            "FOREIGN_PATH /etc/passwd: is a path outside the data set (declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(height=31),
            "WRONG_SIZE images/00.png: declared 50x31, the image is 50x30",
        ),
        (
            lambda d: d["images"][0].update(width=None),
            "WRONG_SIZE images/00.png: declared nanx30, the image is 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(category_id=8),
            "UNKNOWN_CLASS images/00.png: annotation 1 has category_id 8, which is not declared in "
            "annotations/instances.json",
        ),
        (
            lambda d: d["annotations"][1].update(category_id=[7]),
            "UNKNOWN_CLASS images/00.png: annotation 1 has category_id None, which is not declared in "
            "annotations/instances.json",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, 0, 7]),
            "NO_AREA images/00.png: annotation 1 (platelet) from 30, 5 to 30, 12 in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, -2, 7]),
            "NO_AREA images/00.png: annotation 1 (platelet) from 30, 5 to 28, 12 in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, 25, 7]),
            "CLIPPED images/00.png: annotation 1 (platelet) from 30, 5 to 55, 12 in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 35, 25, 7]),
            "OUTSIDE images/00.png: annotation 1 (platelet) from 30, 35 to 55, 42 in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, float("nan"), 25, 7]),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from 30, nan to 55, nan in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[1e308, 5, 1e308, 7]),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from 1e+308, 5 to inf, 12 in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, 7]),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from nan, nan to nan, nan in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].pop("bbox"),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from nan, nan to nan, nan in an image of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(image_id=5),
            "BROKEN_ENTRY annotations/instances.json: annotation 1 has an image_id that is not declared",
        ),
        (
            lambda d: d["annotations"].insert(1, 5),
            "BROKEN_ENTRY annotations/instances.json: annotation no. 2 has an image_id that is not declared",
        ),
        (
            lambda d: d["images"].insert(0, {"id": 1}),
            "BROKEN_ENTRY annotations/instances.json: image no. 1 has no id or no file_name",
        ),
        (
            lambda d: d["images"].insert(0, None),
            "BROKEN_ENTRY annotations/instances.json: image no. 1 has no id or no file_name",
        ),
        (
            lambda d: d["categories"].append({"id": {}, "name": "x"}),
            "BROKEN_ENTRY annotations/instances.json: category no. 4 has no id or no name",
        ),
        (
            lambda d: d.update(categories=[*CATEGORIES, {"id": 7, "name": "cell"}]),
            "BROKEN_ENTRY annotations/instances.json: category id 7 is both 'platelet' and 'cell'; "
            "the first name is used",
        ),
        (
            lambda d: d["images"].append({"id": 100, "file_name": "01.png"}),
            "DUPLICATE annotations/instances.json: image id 100 is both '00.png' and '01.png'",
        ),
        (
            lambda d: d["images"].append({"id": 5, "file_name": "01.png"}),
            "DUPLICATE images/01.png: annotated in annotations/instances.json and again in annotations/instances.json",
        ),
    ],
)
def test_damage_is_named_and_the_rest_is_read(
    root: Path, change: Callable[[dict[str, list[Any]]], object], problem: str
) -> None:
    image(root.parent / "secret.png")
    assert damaged(root, lambda content: change(content)) == [problem]
    assert len(read(str(root)).images) == (9 if problem.startswith(("MISSING", "FOREIGN")) else 10)


def test_image_without_objects_is_listed(root: Path) -> None:
    said = damaged(root, lambda content: content["annotations"].pop())
    assert said == ["NO_OBJECTS images/09.png: has no objects"]
    assert [image.name for image in read(str(root)).images if image.empty] == ["images/09.png"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "broken JSON"),
        ('{"images": [', "broken JSON"),
        ("\udcff", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[" * 900 + "]" * 900, "not COCO annotations: expected an object"),
        ("9" * 5000, "broken JSON"),
        ("[]", "not COCO annotations: expected an object"),
        ('{"images": [], "annotations": {}}', "not COCO annotations: no list named annotations or categor"),
    ],
)
def test_broken_file_is_named_and_the_others_are_read(root: Path, text: str, what: str) -> None:
    (root / "annotations" / "instances_val.json").write_text(text, errors="surrogateescape")
    found = read(str(root))
    assert len(found.images) == 10
    (problem,) = found.problems
    assert (problem.kind, problem.file) == (Kind.BROKEN_FILE, "annotations/instances_val.json")
    assert problem.message.startswith(what)


def test_annotation_file_of_absurd_size_is_not_read(root: Path) -> None:
    with (root / "annotations" / "instances_val.json").open("wb") as file:
        file.truncate(coco.MAX_BYTES + 1)
    (problem,) = read(str(root)).problems
    assert (
        str(problem) == "annotations/instances_val.json: the file has 2,147,483,649 bytes; the limit is 2,147,483,648"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"annotations": "xml"}, r"no \.json files in '.*xml'"),
        ({"annotations": "images"}, r"no \.json files in '.*images'"),
        ({"images": "scans"}, "no folder '.*scans': data.images must be a folder"),
        ({"classes": ["never"]}, "no usable object .* has the class never"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused(root: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        small(root, **changed)


def test_file_that_holds_nothing_usable_is_an_error_that_says_why(root: Path) -> None:
    (root / "annotations" / "instances.json").write_text("{}")
    with pytest.raises(DataError, match=r"no image in .* has a usable object\n.*\n.*no list named images or"):
        small(root)
