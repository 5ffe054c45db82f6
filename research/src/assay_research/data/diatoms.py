"""The embedded data set for detection: drawn micrographs of 68 species of diatoms, nothing to download."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.data.reading.stratified import deal
from assay_research.data.synthetic.flora import SPECIES
from assay_research.data.synthetic.micrographs import Micrograph, Slide, prepare, take
from assay_research.errors import DataError

SPLITS = ("train", "val", "test")

CONFIGS = ("diatoms_smoke", "diatoms")
"""In ``conf/data/``; the first is what the command line saves unless told otherwise."""

SMALLEST = 64
"""Pixels a side below which valves are smudges."""


@dataclass(frozen=True)
class DiatomCollection:
    """A set of micrographs before they are drawn: what lies in each, and which split it is in.

    Attributes:
        slides: one an image.
        classes: names of the species, the most frequent in this set first, those equally frequent by name.
        parts: numbers of the images of train, val and test; images without a diatom are in none.
        size: height and width, pixels.
        scale: pixels a micrometre.
        seed: of the images.
    """

    slides: tuple[Slide, ...]
    classes: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]
    size: tuple[int, int]
    scale: float
    seed: int

    def draw(self, index: int) -> Micrograph:
        """One image of the set."""
        return take(self.slides[index], index, self.seed, self.size, self.scale)


def collection(
    images: int = 2197,
    species: int = 68,
    height: int = 480,
    width: int = 640,
    field: float = 120.0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> DiatomCollection:
    """Decide what lies in each image; see `load`, which takes the same arguments.

    Raises:
        DataError: numbers that give no data set, or fractions that leave a split empty.
    """
    if not 1 <= species <= len(SPECIES):
        raise DataError(f"species: expected 1 to {len(SPECIES)}, got {species}")
    if min(height, width) < SMALLEST:
        raise DataError(f"height and width: expected {SMALLEST} pixels or more, got {height} and {width}")
    if not 10 <= field <= width / 2:
        raise DataError(f"field: expected 10 to {width / 2:g} micrometres on {width} pixels, got {field:g}")
    flora, size, scale = SPECIES[:species], (height, width), width / field
    slides = tuple(prepare(i, seed, flora, size, scale) for i in range(images))
    counts = np.bincount([rank for slide in slides for rank in slide.ranks], minlength=species)
    order = sorted(range(species), key=lambda rank: (-counts[rank], flora[rank].name))
    inhabited = [i for i, slide in enumerate(slides) if slide.ranks]
    val, test = (round(fraction * len(inhabited)) for fraction in (val_fraction, test_fraction))
    sizes = (len(inhabited) - val - test, val, test)
    if min(sizes) < 1:
        raise DataError(
            f"{len(inhabited)} of {images} images have diatoms; val_fraction={val_fraction:g} and test_fraction="
            f"{test_fraction:g} put {sizes[0]} in train, {val} in val and {test} in test: expected 1 or more in each"
        )
    present = np.zeros((len(inhabited), species), bool)
    for row, i in enumerate(inhabited):
        present[row, list(slides[i].ranks)] = True
    dealt = deal(present, sizes, seed)
    parts = (tuple(inhabited[row] for row in np.flatnonzero(dealt == part)) for part in range(len(SPLITS)))
    return DiatomCollection(slides, tuple(flora[rank].name for rank in order), tuple(parts), size, scale, seed)


def load(
    images: int = 2197,
    species: int = 68,
    height: int = 480,
    width: int = 640,
    field: float = 120.0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> DetectionData:
    """Draw the images; their number and the species' are those of the Kaggle "Diatom data set", which they imitate.

    An image depends on its number and on all arguments but `images` and the fractions: a large set begins with the
    images of a small one. Images without a diatom, three in a hundred, count among `images` and are in no split.

    Args:
        images: how many.
        species: how many, the most frequent ones.
        height: of the images, pixels.
        width: the same.
        field: micrometres that the width shows; a wider field has smaller diatoms.
        val_fraction: of the images with diatoms.
        test_fraction: the same.
        seed: of the images, and of the splits, which are stratified by species.

    Raises:
        DataError: numbers that give no data set, or fractions that leave a split empty.
    """
    found = collection(images, species, height, width, field, val_fraction, test_fraction, seed)
    name = "diatoms" if species == len(SPECIES) else f"diatoms-{species}"
    total = sum(len(part) for part in found.parts)
    with tqdm(total=total, desc=f"drawing {name}", unit="image", leave=False, disable=None) as bar:
        splits = [_drawn(found, part, bar) for part in found.parts]
    return DetectionData(name, found.classes, Canvas(height, width, "letterbox"), *splits)


def _drawn(found: DiatomCollection, part: Sequence[int], bar: "tqdm[None]") -> BoxSplit:
    """The images of one split."""
    images = np.empty((len(part), *found.size, 3), np.uint8)

    def draw(row: int) -> Tensor:
        micrograph = found.draw(part[row])
        images[row] = micrograph.image
        return torch.from_numpy(micrograph.boxes)

    boxes = []
    with ThreadPoolExecutor() as pool:
        for each in pool.map(draw, range(len(part))):
            boxes.append(each)
            bar.update()
    labels = tuple(
        torch.tensor([found.classes.index(SPECIES[rank].name) for rank in found.slides[i].ranks]) for i in part
    )
    return BoxSplit(
        torch.from_numpy(images),
        tuple(boxes),
        labels,
        tuple(torch.zeros(len(each), dtype=torch.bool) for each in labels),
        torch.tensor([found.size] * len(part)),
        tuple(_name(i) for i in part),
    )


def write_voc(folder: Path, found: DiatomCollection) -> None:
    """Save a set as a Pascal VOC folder: ``JPEGImages/``, ``Annotations/`` and ``ImageSets/Main/``.

    All images are saved; those without a diatom are listed as training images. Coordinates are those of the pixels'
    edges, from 0, as labelImg writes them.

    Raises:
        DataError: there is something in the folder.
        OSError: the folder cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"'{folder}' is not empty: name a new folder, so that no other images are read with these")
    lists = folder / "ImageSets" / "Main"
    for each in (folder / "JPEGImages", folder / "Annotations", lists):
        each.mkdir(parents=True, exist_ok=True)
    _, val, test = map(set, found.parts)
    everything = range(len(found.slides))
    for split, listed in {
        "train": [i for i in everything if i not in val | test],
        "val": sorted(val),
        "trainval": [i for i in everything if i not in test],
        "test": sorted(test),
    }.items():
        (lists / f"{split}.txt").write_text("".join(f"{_name(i)}\n" for i in listed))

    def save(i: int) -> None:
        micrograph = found.draw(i)
        Image.fromarray(micrograph.image).save(folder / "JPEGImages" / f"{_name(i)}.jpg", quality=95)
        names = [SPECIES[rank].name for rank in found.slides[i].ranks]
        tree = ElementTree(_annotation(_name(i), found.size, names, micrograph.boxes.astype(np.int64)))
        indent(tree)
        tree.write(folder / "Annotations" / f"{_name(i)}.xml", encoding="utf-8")

    with ThreadPoolExecutor() as pool:
        saved = pool.map(save, everything)
        for _ in tqdm(saved, total=len(everything), desc="saving diatoms", unit="image", leave=False, disable=None):
            pass


def _name(index: int) -> str:
    return f"{index:05d}"


def _annotation(stem: str, size: tuple[int, int], names: Sequence[str], boxes: NDArray[np.int64]) -> Element:
    """The XML of one image."""

    def add(parent: Element, **texts: object) -> None:
        for tag, text in texts.items():
            SubElement(parent, tag).text = str(text)

    height, width = size
    root = Element("annotation")
    add(root, folder="JPEGImages", filename=f"{stem}.jpg")
    add(SubElement(root, "size"), width=width, height=height, depth=3)
    add(root, segmented=0)
    for name, (left, top, right, bottom) in zip(names, boxes, strict=True):
        truncated = left == 0 or top == 0 or right == width or bottom == height
        element = SubElement(root, "object")
        add(element, name=name, pose="Unspecified", truncated=int(truncated), difficult=0)
        add(SubElement(element, "bndbox"), xmin=left, ymin=top, xmax=right, ymax=bottom)
    return root


def main() -> None:
    """Save what a data configuration draws in the folder the command line names."""
    if not 2 <= len(sys.argv) <= 3 or (config := (*sys.argv, CONFIGS[0])[2]) not in CONFIGS:
        sys.exit(f"usage: python -m assay_research.data.diatoms <folder> [{'|'.join(CONFIGS)}]")
    arguments: Any = OmegaConf.to_container(
        OmegaConf.create(files("assay_research").joinpath(f"conf/data/{config}.yaml").read_text())
    )
    del arguments["_target_"]
    try:
        write_voc(Path(sys.argv[1]), collection(**arguments))
    except DataError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot write the images: {error}")


if __name__ == "__main__":
    main()
