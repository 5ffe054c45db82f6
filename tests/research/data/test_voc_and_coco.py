"""The same images and objects are the same data set, be they written as Pascal VOC or as COCO."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from assay_research.data import coco, voc
from assay_research.data.reading.annotations import Kind
from tests.research.data.annotated import EDGES, write_json


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
            left, top, right, bottom = (int(each.findtext(f"bndbox/{edge}") or "") for edge in EDGES)
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
            write_json(twins[1] / "annotations" / f"instances_{split}.json", part)
    else:
        write_json(twins[1] / "annotations.json", content)
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
