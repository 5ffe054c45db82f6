"""No damage to annotations gives anything but data or an error, and nothing outside the data set is read."""

import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from assay_deploy.errors import AssayError
from assay_research.data import coco, voc
from assay_research.data.detection import DetectionData
from tests.research.data.annotated import coco_of_ten, image, voc_of_ten

SETTINGS: dict[str, Any] = {"height": 24, "width": 32, "val_fraction": 0.2, "test_fraction": 0.2, "cache": None}

TEXTS = ("", "x", "nan", "inf", "-1e400", "9" * 400, "-7", "1e9", "٣", "../../secret.png", "/etc/passwd", "\n")

VALUES: tuple[Any, ...] = (
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


def mutate_xml(content: bytes, chance: random.Random) -> bytes:
    """One to three elements deleted, doubled, renamed, or their text replaced."""
    tree = ElementTree.fromstring(content)
    for _ in range(chance.randint(1, 3)):
        parent, child = chance.choice([(parent, child) for parent in tree.iter() for child in parent])
        action = chance.choice(["delete", "double", "rename", "text", "text", "text"])
        if action == "delete":
            parent.remove(child)
        elif action == "double":
            parent.append(child)
        elif action == "rename":
            child.tag = chance.choice(["object", "bndbox", "size", "name", "x"])
        else:
            child.text = chance.choice(TEXTS)
        if not any(True for _ in tree):
            break
    return ElementTree.tostring(tree)


def mutate_json(content: bytes, chance: random.Random) -> bytes:
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
            container[key] = json.loads(json.dumps(chance.choice(VALUES)))
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


def assert_sound(data: DetectionData) -> None:
    for split in (data.train, data.val, data.test):
        for boxes, labels in zip(split.boxes, split.labels, strict=True):
            assert torch.isfinite(boxes).all()
            assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
            assert ((labels >= 0) & (labels < len(data.classes))).all()


def assert_inside(opened: list[str], root: Path) -> None:
    outside = [name for name in opened if not name.startswith(str(root))]
    assert not [name for name in outside if name.startswith(str(root.parent)) or name == "/etc/passwd"]


def test_of_damaged_xml(tmp_path: Path, opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    root = voc_of_ten(tmp_path / "voc")
    image(tmp_path / "secret.png")
    valid = {}
    for path in sorted((root / "Annotations").iterdir()):  # so that the names the annotations give are looked for
        (root / "JPEGImages" / f"{path.stem}.png").rename(root / "JPEGImages" / f"diatom {path.stem}.png")
        valid[path] = path.read_bytes().replace(b"<filename>", b"<filename>diatom ")
    survived = 0
    for seed in range(40):  # ten files each
        chance = random.Random(seed)
        for path, content in valid.items():
            path.write_bytes(chance.choice([mutate_bytes, mutate_xml])(content, chance))
        opened.clear()
        try:
            data = voc.load(str(root), seed=seed, **SETTINGS)
            survived += 1
        except AssayError:
            continue
        finally:
            assert_inside(opened, root)
        assert_sound(data)
    assert survived > 10
    assert capsys.readouterr().err.encode()


def test_of_damaged_json(tmp_path: Path, opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    root = coco_of_ten(tmp_path / "coco")
    image(tmp_path / "secret.png")
    file = root / "annotations" / "instances.json"
    valid = file.read_bytes()
    survived = refused = 0
    for seed in range(200):
        chance = random.Random(seed)
        file.write_bytes(chance.choice([mutate_bytes, mutate_json, mutate_json])(valid, chance))
        opened.clear()
        try:
            data = coco.load(str(root), seed=seed, **SETTINGS)
            survived += 1
        except AssayError:
            refused += 1
            continue
        finally:
            assert_inside(opened, root)
        assert_sound(data)
    assert survived > 50
    assert refused > 20
    assert capsys.readouterr().err.encode()
