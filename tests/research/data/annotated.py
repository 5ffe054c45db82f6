"""Two small annotated data sets, one in each form that is read, for the tests of what reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 7, "name": "platelet"}, {"id": 3, "name": "cell"}, {"id": 90, "name": "never"}]

EDGES = ("xmin", "ymin", "xmax", "ymax")


def image(path: Path, height: int = 30, width: int = 50) -> Path:
    """Write a PNG of noise of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def thing(name: str = "cell", box: tuple[object, ...] = (2, 3, 20, 25), difficult: int = 0) -> str:
    """An object in VOC's XML."""
    edges = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(EDGES, box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def annotation(filename: str, objects: str, size: tuple[int, int] = (30, 50)) -> str:
    """An image in VOC's XML; height and width."""
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size[1]}</width><height>{size[0]}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


def write_voc(root: Path, stem: str, text: str, images: str = "JPEGImages", xmls: str = "Annotations") -> None:
    """Write an image and its XML."""
    image(root / images / f"{stem}.png")
    path = root / xmls / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def voc_of_ten(root: Path) -> Path:
    """Ten images with a cell and a platelet each; the last is without the platelet."""
    for i in range(10):
        objects = thing() + (thing("platelet", (30, 5, 40, 12)) if i < 9 else "")
        write_voc(root, f"{i:02d}", annotation(f"{i:02d}.png", objects))
    return root


def document(numbers: range) -> dict[str, list[Any]]:
    """A cell and a platelet in each image, the platelet missing from the ninth."""
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


def write_json(path: Path, content: object) -> None:
    """Write it, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def coco_of_ten(root: Path) -> Path:
    """The same ten images in images/, one file in annotations/."""
    for i in range(10):
        image(root / "images" / f"{i:02d}.png")
    write_json(root / "annotations" / "instances.json", document(range(10)))
    return root
