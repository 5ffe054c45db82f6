"""Built-in detection data set: synthetic micrographs of up to 68 diatom species; needs no download."""

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
from assay_research.data.reading.stratified import assign_stratified
from assay_research.data.synthetic.flora import SPECIES
from assay_research.data.synthetic.micrographs import Micrograph, Slide, render, sample_slide
from assay_research.errors import DataError

SPLITS = ("train", "val", "test")

CONFIGS = ("diatoms_smoke", "diatoms")
"""Data configurations in ``conf/data/`` that the command line can save; the first is the default."""

MIN_SIDE = 64
"""Smallest height and width of an image in pixels; in smaller ones valves are only smudges."""


@dataclass(frozen=True)
class DiatomCollection:
    """Plan of a synthetic data set: the specimens of every micrograph and its split, before any image is rendered.

    Attributes:
        slides: the plan of each image.
        classes: names of the species, the most frequent in this set first, those equally frequent by name.
        parts: indices of the images of train, val and test; images without a diatom are in none of them.
        size: height and width of the images in pixels.
        scale: pixels per micrometre.
        seed: random seed of the images.
    """

    slides: tuple[Slide, ...]
    classes: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]
    size: tuple[int, int]
    scale: float
    seed: int

    def render(self, index: int) -> Micrograph:
        """Render one image of the set."""
        return render(self.slides[index], index, self.seed, self.size, self.scale)


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
    """Choose the specimens and the split of every image, without rendering; see `load` for the arguments.

    Raises:
        DataError: an argument is out of range, or the fractions leave a split empty.
    """
    if not 1 <= species <= len(SPECIES):
        raise DataError(f"species: expected 1 to {len(SPECIES)}, got {species}")
    if min(height, width) < MIN_SIDE:
        raise DataError(f"height and width: expected {MIN_SIDE} pixels or more, got {height} and {width}")
    if not 10 <= field <= width / 2:
        raise DataError(f"field: expected 10 to {width / 2:g} micrometres on {width} pixels, got {field:g}")
    flora, size, scale = SPECIES[:species], (height, width), width / field
    slides = tuple(sample_slide(i, seed, flora, size, scale) for i in range(images))
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
    assigned = assign_stratified(present, sizes, seed)
    parts = (tuple(inhabited[row] for row in np.flatnonzero(assigned == part)) for part in range(len(SPLITS)))
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
    """Render the data set; by default with as many images and species as the Kaggle "Diatom data set" it imitates.

    An image depends on its index and on all arguments except `images` and the fractions: a large set begins with the
    images of a small one. About 3% of the images have no diatom; they count towards `images` and are in no split.

    Args:
        images: number of images.
        species: number of species, 1 to 68; the most frequent ones are used.
        height: height of the images in pixels.
        width: width of the images in pixels.
        field: width of the field of view in micrometres; a wider field has smaller diatoms.
        val_fraction: fraction of the images with diatoms for the validation split.
        test_fraction: fraction of the images with diatoms for the test split.
        seed: random seed of the images and of the splits, which are stratified by species.

    Raises:
        DataError: an argument is out of range, or the fractions leave a split empty.
    """
    found = collection(images, species, height, width, field, val_fraction, test_fraction, seed)
    name = "diatoms" if species == len(SPECIES) else f"diatoms-{species}"
    total = sum(len(part) for part in found.parts)
    with tqdm(total=total, desc=f"rendering {name}", unit="image", leave=False, disable=None) as bar:
        splits = [_render_split(found, part, bar) for part in found.parts]
    return DetectionData(name, found.classes, Canvas(height, width, "letterbox"), *splits)


def _render_split(found: DiatomCollection, part: Sequence[int], bar: "tqdm[None]") -> BoxSplit:
    """Render the images of one split."""
    images = np.empty((len(part), *found.size, 3), np.uint8)

    def render_row(row: int) -> Tensor:
        micrograph = found.render(part[row])
        images[row] = micrograph.image
        return torch.from_numpy(micrograph.boxes)

    boxes = []
    with ThreadPoolExecutor() as pool:
        for each in pool.map(render_row, range(len(part))):
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

    All images are saved; those without a diatom are listed as training images. Coordinates refer to pixel edges and
    start at 0, as in files of labelImg.

    Args:
        folder: the folder to write; created if it does not exist.
        found: the plan of the set.

    Raises:
        DataError: the folder is not empty.
        OSError: the folder cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"'{folder}' is not empty: choose a new folder, so that other images are not mixed with these")
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
        micrograph = found.render(i)
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
    """Annotation of one image in Pascal VOC's XML."""

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
    """Render the data set of a configuration and save it in the folder given on the command line."""
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
