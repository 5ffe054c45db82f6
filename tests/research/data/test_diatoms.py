"""Drawn micrographs are what a data set of diatoms is: long-tailed, tightly boxed, and the same each time."""

import itertools
import re
import sys
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from assay_deploy.images.canvas import Canvas
from assay_deploy.images.decode import read_image
from assay_research.config.build import instantiate
from assay_research.data import voc
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.data.diatoms import DiatomCollection, collection, load, main
from assay_research.data.synthetic.flora import SPECIES, Species
from assay_research.data.synthetic.frustules import draw, sample_specimen
from assay_research.data.synthetic.micrographs import Slide, render, sample_slide
from assay_research.errors import DataError

REPORTED = {
    1: "Gomphonema olivaceum",
    2: "Navicula cryptotenella",
    3: "Fragilaria recapitellata",
    4: "Encyonema silesiacum",
    5: "Navicula reichardtiana",
    6: "Planothidium lanceolatum",
    7: "Gomphonema tergestinum",
    8: "Navicula cryptotenelloides",
    9: "Rhoicosphenia abbreviata",
    10: "Meridion circulare",
    12: "Encyonema ventricosum",
    17: "Diatoma mesodon",
    68: "Surella minuta",
}
"""Ranks and names known of the Kaggle data set."""


def small(images: int, test_fraction: float = 0.2, seed: int = 0) -> DetectionData:
    """A dozen species on images that take no time to draw."""
    return load(images, 12, 96, 128, 60.0, test_fraction=test_fraction, seed=seed)


@pytest.fixture(scope="module")
def smoke() -> DetectionData:
    config: Any = OmegaConf.create(files("assay_research").joinpath("conf/data/diatoms_smoke.yaml").read_text())
    data = instantiate(config, "data")
    assert isinstance(data, DetectionData)
    return data


@pytest.fixture(scope="module")
def tail() -> DiatomCollection:
    """The whole set, before it is drawn."""
    return collection()


def splits(data: DetectionData) -> tuple[BoxSplit, BoxSplit, BoxSplit]:
    return data.train, data.val, data.test


def bounds(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def counts(found: DiatomCollection) -> list[int]:
    counted = Counter(SPECIES[rank].name for slide in found.slides for rank in slide.ranks)
    return [counted[name] for name in found.classes]


def test_there_are_68_binomials_and_the_reported_ones_have_their_ranks() -> None:
    names = [each.name for each in SPECIES]
    assert len(set(names)) == len(names) == 68
    assert all(re.fullmatch(r"[A-Z][a-z]+ [a-z]+", name) for name in names)
    assert {rank: names[rank - 1] for rank in REPORTED} == REPORTED


def test_species_of_a_genus_look_alike() -> None:
    def silhouette(species: Species) -> NDArray[np.bool_]:
        """Its outline, stretched to one size and laid straight in a window it does not fill."""
        specimen = sample_specimen(species, np.random.default_rng(0))
        laid = replace(specimen, length=60.0, breadth=20.0, angle=0.0, mirrored=False)
        drawing = draw(laid, (160, 80), 4.0, (160, 320))
        whole = np.zeros((160, 320), bool)
        height, width = drawing.mask.shape
        whole[drawing.top : drawing.top + height, drawing.left : drawing.left + width] = drawing.mask
        return whole

    def overlap(one: Species, other: Species) -> float:
        first, second = silhouettes[one.name], silhouettes[other.name]
        return float((first & second).sum() / (first | second).sum())

    silhouettes = {each.name: silhouette(each) for each in SPECIES}
    pairs = list(itertools.combinations(SPECIES, 2))
    related = [overlap(*pair) for pair in pairs if pair[0].name.split()[0] == pair[1].name.split()[0]]
    others = [overlap(*pair) for pair in pairs if pair[0].genus.family != pair[1].genus.family]
    assert len(related) > 60
    assert min(related) > 0.85
    assert np.mean(others) < 0.8


def test_frequencies_fall_with_a_long_tail(tail: DiatomCollection) -> None:
    found = counts(tail)
    assert found == sorted(found, reverse=True)
    assert tail.classes[:5] == tuple(REPORTED[rank] for rank in range(1, 6))
    assert set(tail.classes) == {each.name for each in SPECIES}
    assert sum(found[:3]) > 0.33 * sum(found)
    assert sum(found[34:]) < 0.15 * sum(found)
    assert found[0] > 50 * found[-1] > 0


def test_images_hold_one_object_or_two_and_some_none(tail: DiatomCollection) -> None:
    objects = np.array([len(slide.ranks) for slide in tail.slides])
    assert len(objects) == 2197
    assert 1.3 < objects.mean() < 1.45
    assert 0.01 < (objects == 0).mean() < 0.06
    assert 0.6 < (objects == 1).mean() < 0.75
    assert 3 <= objects.max() <= 4


def test_splits_are_disjoint_and_leave_out_images_without_objects(tail: DiatomCollection) -> None:
    inhabited = [i for i, slide in enumerate(tail.slides) if slide.ranks]
    assert sorted(i for part in tail.parts for i in part) == inhabited
    assert [len(part) / len(inhabited) for part in tail.parts] == pytest.approx([0.7, 0.1, 0.2], abs=0.001)


def test_every_species_is_learned_and_the_common_ones_are_in_every_split(tail: DiatomCollection) -> None:
    for place, name in enumerate(tail.classes):
        held = [any(SPECIES[rank].name == name for i in part for rank in tail.slides[i].ranks) for part in tail.parts]
        assert held[0]
        assert all(held) or place > 50


def test_smoke_set_is_as_its_config_says(smoke: DetectionData) -> None:
    assert (smoke.name, smoke.canvas) == ("diatoms-8", Canvas(192, 256, "letterbox"))
    assert set(smoke.classes) == {each.name for each in SPECIES[:8]}
    assert [round(len(split), -1) for split in splits(smoke)] == [390, 80, 120]
    for split in splits(smoke):
        assert set(torch.cat(split.labels).tolist()) == set(range(8))
        assert split.images.shape == (len(split), 192, 256, 3)
        assert (split.images.dtype, split.sizes.dtype) == (torch.uint8, torch.int64)
        assert split.sizes.tolist() == [[192, 256]] * len(split)
        for boxes, labels, ignored in zip(split.boxes, split.labels, split.ignored, strict=True):
            assert (boxes.dtype, labels.dtype, ignored.dtype) == (torch.float32, torch.int64, torch.bool)
            assert len(boxes) == len(labels) == len(ignored) > 0
            assert not ignored.any()
    longer = torch.cat([(box[:, 2:] - box[:, :2]).amax(1) for split in splits(smoke) for box in split.boxes])
    assert ((longer > 40) & (longer < 120)).float().mean() > 0.85


def test_smoke_classes_fall_in_frequency(smoke: DetectionData) -> None:
    found = torch.cat([labels for split in splits(smoke) for labels in split.labels]).bincount().tolist()
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("field", [60.0, 32.0], ids=["whole valves", "valves larger than the image"])
def test_boxes_lie_within_the_image_and_have_an_area(field: float) -> None:
    data = load(150, 68, 96, 128, field)
    for split in splits(data):
        for boxes in split.boxes:
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, 2:] <= torch.tensor([128, 96])).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_boxes_are_tight_around_the_pixels_a_valve_darkens() -> None:
    size, scale = (384, 512), 5.0
    near = 0
    for rank, species in enumerate(SPECIES):
        specimen = sample_specimen(species, np.random.default_rng(rank))
        if max(specimen.reach) * scale > 180:
            continue
        near += 1
        sharp = replace(specimen, focus=0.0, contrast=1.0)
        slide = Slide((rank,), (sharp,), ((256.3, 190.8),))
        found, empty = (render(each, rank, 0, size, scale) for each in (slide, Slide((), (), ())))
        darkened = found.image.astype(float).sum(2) < 0.83 * empty.image.astype(float).sum(2)
        assert found.boxes.shape == (1, 4)
        assert np.abs(bounds(darkened) - found.boxes[0]).max() <= 1, species.name
    assert near > 55


def test_seed_and_number_alone_decide_a_image() -> None:
    few, many = small(40), small(80)
    assert few.fingerprint() == small(40).fingerprint() != small(40, seed=1).fingerprint()
    images = [
        {name: image for split in splits(data) for name, image in zip(split.names, split.images, strict=True)}
        for data in (few, many)
    ]
    assert len(images[0]) < len(images[1])
    assert all(torch.equal(image, images[1][name]) for name, image in images[0].items())


def test_fractions_decide_only_the_splits() -> None:
    first, other = small(40), small(40, test_fraction=0.4)
    assert len(other.test) > len(first.test)
    images = {name: image for split in splits(first) for name, image in zip(split.names, split.images, strict=True)}
    assert all(
        torch.equal(image, images[name])
        for split in splits(other)
        for name, image in zip(split.names, split.images, strict=True)
    )


def test_a_narrower_field_shows_larger_diatoms() -> None:
    def extent(field: float) -> float:
        found = [sample_slide(i, 0, SPECIES, (480, 640), 640 / field) for i in range(3)]
        boxes = [render(slide, i, 0, (480, 640), 640 / field).boxes for i, slide in enumerate(found)]
        return float(np.concatenate([each[:, 2:] - each[:, :2] for each in boxes]).max())

    assert extent(120) < extent(90)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"species": 69}, "species: expected 1 to 68, got 69"),
        ({"species": 0}, "species: expected 1 to 68, got 0"),
        ({"height": 32}, "height and width: expected 64 pixels or more, got 32 and 640"),
        ({"field": 500.0}, "field: expected 10 to 320 micrometres on 640 pixels, got 500"),
        ({"images": 0}, "0 of 0 images have diatoms.* expected 1 or more in each"),
        ({"images": 20, "val_fraction": 0.9}, "put -2 in train"),
    ],
)
def test_numbers_that_give_no_data_set_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(**arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves in a folder unless it is told another configuration."""
    folder = tmp_path_factory.mktemp("diatoms") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["diatoms", str(folder)])
        main()
    return folder


def test_saved_images_and_annotations_are_valid_voc(smoke: DetectionData, saved: Path) -> None:
    expected = {
        name: ([smoke.classes[label] for label in labels], boxes.tolist(), image.numpy())
        for split in splits(smoke)
        for name, boxes, labels, image in zip(split.names, split.boxes, split.labels, split.images, strict=True)
    }
    xmls = sorted((saved / "Annotations").iterdir())
    assert [path.name for path in xmls] == [f"{i:05d}.xml" for i in range(620)]
    for path in xmls:
        root = ElementTree.parse(path).getroot()
        assert (root.tag, root.findtext("filename")) == ("annotation", f"{path.stem}.jpg")
        assert [root.findtext(f"size/{each}") for each in ("height", "width", "depth")] == ["192", "256", "3"]
        stored = read_image(saved / "JPEGImages" / f"{path.stem}.jpg")
        names, boxes, image = expected.get(path.stem, ([], [], stored))
        assert np.abs(stored.astype(float) - image).mean() < 3
        objects = root.findall("object")
        assert [each.findtext("name") for each in objects] == names
        assert [[int(each.findtext(f"bndbox/{edge}", "")) for edge in voc.EDGES] for each in objects] == boxes
        assert {each.findtext("difficult") for each in objects} <= {"0"}


def test_saved_lists_hold_every_image_and_the_empty_ones_train(smoke: DetectionData, saved: Path) -> None:
    lists = {path.stem: path.read_text().split() for path in (saved / "ImageSets" / "Main").iterdir()}
    assert (tuple(lists["val"]), tuple(lists["test"])) == (smoke.val.names, smoke.test.names)
    assert sorted(lists["train"] + lists["val"]) == lists["trainval"]
    assert sorted(lists["trainval"] + lists["test"]) == [f"{i:05d}" for i in range(620)]
    empty = set(lists["train"]) - set(smoke.train.names)
    assert len(empty) > 10
    assert all(ElementTree.parse(saved / "Annotations" / f"{stem}.xml").find("object") is None for stem in empty)


def test_reader_of_voc_finds_the_same_data_set(smoke: DetectionData, saved: Path) -> None:
    read = voc.load(str(saved), height=192, width=256, cache=None)
    assert (read.classes, read.canvas) == (smoke.classes, smoke.canvas)
    for ours, theirs in zip(splits(smoke), splits(read), strict=True):
        assert [Path(name).stem for name in theirs.names] == list(ours.names)
        assert all(map(torch.equal, ours.boxes, theirs.boxes))
        assert all(map(torch.equal, ours.labels, theirs.labels))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: "),
        (["one", "two"], "usage: "),
        (["one", "diatoms", "three"], "usage: "),
        (["/dev/null/folder"], "cannot write the images: "),
        (["."], "'.' is not empty"),
    ],
)
def test_saving_nowhere_is_an_error_in_words(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["diatoms", *arguments])
    with pytest.raises(SystemExit, match=message):
        main()
