"""A COCO data set is read by rules one can rely on, is the same as its VOC twin, and damage to it is survived."""

import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from assay_deploy.canvas import Canvas
from assay_research.config import instantiate
from assay_research.data import coco, voc
from assay_research.data.annotations import Kind
from assay_research.data.boxes import DetectionData
from assay_research.data.coco import load, read
from assay_research.errors import AssayError, ConfigError, DataError

CATEGORIES = [{"id": 7, "name": "platelet"}, {"id": 3, "name": "cell"}, {"id": 90, "name": "never"}]


def picture(path: Path, size: tuple[int, int] = (30, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(path)


def document(numbers: range) -> dict[str, list[Any]]:
    """A cell and a platelet in each picture, the platelet missing from the ninth."""
    return {
        "images": [{"id": 100 + i, "file_name": f"{i:02d}.png", "height": 30, "width": 50} for i in numbers],
        "annotations": [
            {"id": 2 * i + k, "image_id": 100 + i, "category_id": category, "bbox": box, "iscrowd": 0}
            for i in numbers
            for k, (category, box) in enumerate([(3, [2, 3, 18, 22]), (7, [30, 5, 10, 7])])
            if (i, category) != (9, 7)
        ],
        "categories": list(CATEGORIES),
    }


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pictures in images/, one file in annotations/."""
    for i in range(10):
        picture(tmp_path / "coco" / "images" / f"{i:02d}.png")
    write(tmp_path / "coco" / "annotations" / "instances.json", document(range(10)))
    return tmp_path / "coco"


@pytest.fixture
def bccd() -> Path:
    folder = Path(os.environ.get("ASSAY_DATA", "")) / "bccd" / "BCCD"
    if "ASSAY_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("needs the environment variable ASSAY_DATA: a folder that holds bccd/")
    return folder


def small(root: Path, **changed: object) -> DetectionData:
    settings: dict[str, object] = {"height": 24, "width": 32, "val_fraction": 0.2, "test_fraction": 0.2, "cache": None}
    return load(str(root), **settings | changed)  # type: ignore[arg-type]


def damaged(root: Path, change: Callable[[dict[str, list[Any]]], object]) -> list[str]:
    """The problems that are found once something in the annotations was changed."""
    content = document(range(10))
    change(content)
    write(root / "annotations" / "instances.json", content)
    found = read(str(root))
    return [f"{problem.kind.name} {problem}" for problem in found.problems]


def test_annotations_are_read_as_they_are_written(root: Path) -> None:
    found = read(str(root))
    assert found.classes == ("cell", "platelet")
    assert found.counts() == {"cell": 10, "platelet": 9}
    assert not found.problems
    first = found.pictures[0]
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
        write(root / file, document(numbers))
        for i in numbers:
            picture(root / folder / f"{i:02d}.png")


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
    write(root / "annotations" / "captions_val2017.json", {"annotations": []})
    if not any("instances" in file for file in layout):
        (root / "annotations" / "captions_val2017.json").unlink()
    found = read(str(root))
    assert not found.problems
    assert [picture.split for picture in found.pictures] == ["train"] * 6 + ["val"] * 3
    data = small(root, test_fraction=0.34)
    assert [len(split) for split in (data.train, data.val, data.test)] == [4, 3, 2]


def test_pictures_of_one_name_in_two_splits_are_two_pictures(tmp_path: Path) -> None:
    as_files(tmp_path, {f"{split}/_annotations.coco.json": (split, range(3)) for split in ("train", "valid", "test")})
    found = read(str(tmp_path))
    assert not found.problems
    assert len(found.pictures) == 9


def test_test_picture_is_never_trained_on(root: Path) -> None:
    (root / "annotations" / "instances.json").unlink()
    write(root / "annotations" / "instances_train.json", document(range(8)))
    write(root / "annotations" / "instances_test.json", document(range(7, 10)))
    found = read(str(root))
    assert [picture.split for picture in found.pictures] == ["train"] * 7 + ["test"] * 3
    assert [str(problem) for problem in found.problems] == [
        "images/07.png: annotated in annotations/instances_test.json and again in annotations/instances_train.json"
    ]


def test_files_and_folders_can_be_named(root: Path) -> None:
    (root / "images").rename(root / "scans")
    (root / "annotations").rename(root / "marks")
    for annotations in ("marks", "marks/instances.json"):
        found = read(str(root), annotations=annotations, pictures="scans")
        assert len(found.pictures) == 10
        assert not found.problems


def test_names_may_hold_folders_and_slashes_of_either_kind(root: Path) -> None:
    content = document(range(10))
    content["images"][0]["file_name"] = "images\\00.png"
    content["images"][1]["file_name"] = "../images/01.png"
    content["images"][2]["file_name"] = str(root / "images" / "02.png")
    write(root / "annotations" / "instances.json", content)
    found = read(str(root))
    assert not found.problems
    assert [picture.name for picture in found.pictures] == [f"images/{i:02d}.png" for i in range(10)]


def test_crowds_are_ignored(root: Path) -> None:
    content = document(range(10))
    content["annotations"][1]["iscrowd"] = 1
    write(root / "annotations" / "instances.json", content)
    found = read(str(root))
    assert found.pictures[0].ignored.tolist() == [False, True]
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
            "MISSING_PICTURE no.png: is in none of annotations, images, . (declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(file_name="x" * 5000),
            f"MISSING_PICTURE {'x' * 300}...: is in none of annotations, images, . "
            "(declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(file_name="../../secret.png"),
            "FOREIGN_PATH ../../secret.png: leads out of the data set (declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(file_name="/etc/passwd"),
            "FOREIGN_PATH /etc/passwd: leads out of the data set (declared in annotations/instances.json)",
        ),
        (
            lambda d: d["images"][0].update(height=31),
            "WRONG_SIZE images/00.png: declared 50x31, the picture is 50x30",
        ),
        (
            lambda d: d["images"][0].update(width=None),
            "WRONG_SIZE images/00.png: declared nanx30, the picture is 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(category_id=8),
            "UNKNOWN_CLASS images/00.png: annotation 1 is of category 8, which is not declared in "
            "annotations/instances.json",
        ),
        (
            lambda d: d["annotations"][1].update(category_id=[7]),
            "UNKNOWN_CLASS images/00.png: annotation 1 is of category None, which is not declared in "
            "annotations/instances.json",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, 0, 7]),
            "NO_AREA images/00.png: annotation 1 (platelet) from 30, 5 to 30, 12 in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, -2, 7]),
            "NO_AREA images/00.png: annotation 1 (platelet) from 30, 5 to 28, 12 in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, 25, 7]),
            "CLIPPED images/00.png: annotation 1 (platelet) from 30, 5 to 55, 12 in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 35, 25, 7]),
            "OUTSIDE images/00.png: annotation 1 (platelet) from 30, 35 to 55, 42 in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, float("nan"), 25, 7]),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from 30, nan to 55, nan in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[1e308, 5, 1e308, 7]),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from 1e+308, 5 to inf, 12 in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[30, 5, 7]),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from nan, nan to nan, nan in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].pop("bbox"),
            "NO_NUMBERS images/00.png: annotation 1 (platelet) from nan, nan to nan, nan in a picture of 50x30",
        ),
        (
            lambda d: d["annotations"][1].update(image_id=5),
            "BROKEN_ENTRY annotations/instances.json: annotation 1 is of no image that is declared",
        ),
        (
            lambda d: d["annotations"].insert(1, 5),
            "BROKEN_ENTRY annotations/instances.json: annotation no. 2 is of no image that is declared",
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
            "it is taken for the first",
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
    picture(root.parent / "secret.png")
    assert damaged(root, lambda content: change(content)) == [problem]
    assert len(read(str(root)).pictures) == (9 if problem.startswith(("MISSING", "FOREIGN")) else 10)


def test_picture_without_objects_is_listed(root: Path) -> None:
    said = damaged(root, lambda content: content["annotations"].pop())
    assert said == ["NO_OBJECTS images/09.png: has no objects"]
    assert [picture.name for picture in read(str(root)).pictures if picture.empty] == ["images/09.png"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "broken JSON"),
        ('{"images": [', "broken JSON"),
        ("\udcff", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[" * 900 + "]" * 900, "no COCO annotations: expected an object"),
        ("9" * 5000, "broken JSON"),
        ("[]", "no COCO annotations: expected an object"),
        ('{"images": [], "annotations": {}}', "no COCO annotations: it has no list of annotations and none of categor"),
    ],
)
def test_broken_file_is_named_and_the_others_are_read(root: Path, text: str, what: str) -> None:
    (root / "annotations" / "instances_val.json").write_text(text, errors="surrogateescape")
    found = read(str(root))
    assert len(found.pictures) == 10
    (problem,) = found.problems
    assert (problem.kind, problem.file) == (Kind.BROKEN_FILE, "annotations/instances_val.json")
    assert problem.what.startswith(what)


def test_annotation_file_of_absurd_size_is_not_read(root: Path) -> None:
    with (root / "annotations" / "instances_val.json").open("wb") as file:
        file.truncate(coco.MAX_BYTES + 1)
    (problem,) = read(str(root)).problems
    assert str(problem) == "annotations/instances_val.json: 2,147,483,649 bytes; the limit is 2,147,483,648"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"annotations": "xml"}, r"no \.json files in '.*xml'"),
        ({"annotations": "images"}, r"no \.json files in '.*images'"),
        ({"pictures": "scans"}, "no folder '.*scans': data.pictures must be a folder"),
        ({"classes": ["never"]}, "no usable object .* is of: never"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused(root: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        small(root, **changed)


def test_file_that_holds_nothing_usable_is_an_error_that_says_why(root: Path) -> None:
    (root / "annotations" / "instances.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"no picture in .* has an object to learn\n.*\n.*no list of images and none of"
    ):
        small(root)


JUNK: tuple[Any, ...] = (
    None, True, "", "x", -7, 0.5, 1e300, float("nan"), float("inf"), 10**400, [], {}, [[1]], "../../secret.png",
    "/etc/passwd", "a\0b", "\ud800", "x" * 5000,
)  # fmt: skip


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """One to five bytes or ranges flipped, deleted or doubled, or the end cut off."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        first = chance.randrange(len(damaged) or 1)
        end = first + chance.choice([1, 1, 2, 20])
        action = chance.choice(["flip", "flip", "delete", "double", "cut"])
        if action == "flip":
            damaged[first : first + 1] = bytes(b ^ 1 << chance.randrange(8) for b in damaged[first : first + 1])
        elif action == "delete":
            del damaged[first:end]
        elif action == "double":
            damaged[first:first] = damaged[first:end]
        elif len(damaged) > 20:
            del damaged[max(20, first) :]
    return bytes(damaged)


def mutate_tree(content: bytes, chance: random.Random) -> bytes:
    """One to ten values deleted, doubled or replaced, at any depth."""
    document = json.loads(content)
    for _ in range(chance.randint(1, 10)):
        places: list[tuple[Any, Any]] = []
        containers = [document]
        while containers:
            container = containers.pop()
            for key in range(len(container)) if isinstance(container, list) else container:
                places.append((container, key))
                if isinstance(container[key], dict | list):
                    containers.append(container[key])
        if not places:
            break
        container, key = chance.choice(places)
        action = chance.choice(["delete", "double", "replace", "replace"])
        if action == "delete":
            del container[key]
        elif action == "double" and isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        else:
            container[key] = json.loads(json.dumps(chance.choice(JUNK)))
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def opened() -> Iterator[list[str]]:
    """The names of all files and folders that are opened or listed, as the interpreter itself reports them."""
    names: list[str] = []
    listening = True

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in ("open", "os.scandir", "os.listdir"):
            names.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else "")

    sys.addaudithook(hear)  # there is no taking it away
    yield names
    listening = False


def test_no_damage_to_the_json_gives_anything_but_data_or_an_error_and_nothing_outside_is_read(
    root: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    picture(root.parent / "secret.png")
    file = root / "annotations" / "instances.json"
    valid = file.read_bytes()
    survived = refused = 0
    for seed in range(200):
        chance = random.Random(seed)
        file.write_bytes(chance.choice([mutate_bytes, mutate_tree, mutate_tree])(valid, chance))
        opened.clear()
        try:
            data = small(root, seed=seed)
            survived += 1
        except AssayError:
            refused += 1
            continue
        finally:
            outside = [name for name in opened if not name.startswith(str(root))]
            assert not [name for name in outside if name.startswith(str(root.parent)) or name == "/etc/passwd"]
        for split in (data.train, data.val, data.test):
            for boxes, labels in zip(split.boxes, split.labels, strict=True):
                assert torch.isfinite(boxes).all()
                assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
                assert ((labels >= 0) & (labels < len(data.classes))).all()
    assert survived > 50
    assert refused > 20
    assert capsys.readouterr().err.encode()


def coco_of(xml: Path) -> dict[str, list[Any]]:
    """The COCO document that says what a folder of VOC annotations says."""
    categories = {"WBC": 1, "RBC": 2, "Platelets": 5}
    content: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
    }
    for i, path in enumerate(sorted(xml.glob("*.xml"), reverse=True)):
        tree = ElementTree.parse(path).getroot()
        name = tree.findtext("filename")
        content["images"].append({"id": i, "file_name": name, "height": 480, "width": 640})
        for each in tree.findall("object"):
            left, top, right, bottom = (
                int(each.findtext(f"bndbox/{edge}") or "") for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": i,
                    "category_id": categories[each.findtext("name") or ""],
                    "bbox": [left, top, right - left, bottom - top],
                }
            )
    return content


@pytest.mark.parametrize("given", [False, True])
def test_bccd_is_the_same_data_from_voc_and_from_coco(bccd: Path, tmp_path: Path, given: bool) -> None:
    twins = [tmp_path / "voc" / "BCCD", tmp_path / "coco" / "BCCD"]
    chosen = sorted((bccd / "Annotations").iterdir())[-80:]  # both empty boxes among them
    for twin in twins:
        (twin / "JPEGImages").mkdir(parents=True)
        for path in chosen:
            name = f"{path.stem}.jpg"
            (twin / "JPEGImages" / name).symlink_to(bccd / "JPEGImages" / name)
    (twins[0] / "Annotations").mkdir()
    for path in chosen:
        (twins[0] / "Annotations" / path.name).symlink_to(path)
    content = coco_of(twins[0] / "Annotations")
    if given:
        lists = twins[0] / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        for i, split in enumerate(("train", "val", "test")):
            stems = [path.stem for path in chosen[i::3]]
            (lists / f"{split}.txt").write_text("\n".join(stems))
            images = [image for image in content["images"] if Path(image["file_name"]).stem in stems]
            ids = {image["id"] for image in images}
            annotations = [each for each in content["annotations"] if each["image_id"] in ids]
            part = {**content, "images": images, "annotations": annotations}
            write(twins[1] / "annotations" / f"instances_{split}.json", part)
    else:
        write(twins[1] / "annotations.json", content)
    one, other = (
        reader.load(str(twin), height=48, width=80, cache=None) for reader, twin in zip((voc, coco), twins, strict=True)
    )
    assert (one.name, one.classes, one.canvas) == (other.name, other.classes, other.canvas)
    assert one.classes == ("RBC", "WBC", "Platelets")
    for split in ("train", "val", "test"):
        first, second = getattr(one, split), getattr(other, split)
        assert first.names == second.names
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.sizes, second.sizes)
        for attribute in ("boxes", "labels", "ignored"):
            pairs = zip(getattr(first, attribute), getattr(second, attribute), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    assert one.fingerprint() == other.fingerprint()
    problems = [reader.read(str(twin)).problems for reader, twin in zip((voc, coco), twins, strict=True)]
    assert [[problem.kind for problem in each] for each in problems] == [[Kind.NO_AREA] * 2] * 2
