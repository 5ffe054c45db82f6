"""Conversion of annotations to a detection data set: three splits of images on one canvas."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assay_deploy.images.canvas import Canvas, boxes_to_canvas
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.data.reading.annotations import Annotation, Annotations, Kind, Problem, listing
from assay_research.data.reading.images import read_placed
from assay_research.data.reading.stratified import assign_stratified
from assay_research.errors import DataError

SPLITS = ("train", "val", "test")

MIN_SIDE = 1 / 64
"""Smallest width and height of a box in canvas pixels, so that its area is more than a float32 rounding error."""


def assemble(
    found: Annotations,
    name: str | None,
    canvas: Canvas,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    keep_empty: bool,
    cache: str | None,
) -> DetectionData:
    """Split the images, place them on the canvas, and print the data set's problems on stderr.

    Args:
        found: the annotations from a reader.
        name: name of the data set in tables; None uses the name of its folder.
        canvas: the canvas that every image is placed on.
        val_fraction: fraction of the training images for `val` if the data set has no such split.
        test_fraction: fraction of the training images for `test` if the data set has no such split.
        seed: random seed of the new splits.
        keep_empty: True keeps images without objects in the splits.
        cache: folder of the image cache; None keeps the images in memory.

    Raises:
        DataError: no usable object is left, or a split is empty.
    """
    name = name or found.root.resolve().name
    splits = _splits(found, val_fraction, test_fraction, seed, keep_empty)
    ordered = [image for split in SPLITS for image in splits[split]]
    images, failed = read_placed(
        [image.path for image in ordered],
        [(image.height, image.width) for image in ordered],
        canvas,
        name,
        None if cache is None else Path(cache).expanduser(),
    )
    # An image with a good header can still have damaged pixels, which only decoding finds.
    damaged = (Problem(ordered[i].name, Kind.DAMAGED_IMAGE, failed[i]) for i in failed)
    kinds = list(Kind)
    problems = sorted([*found.problems, *damaged], key=lambda each: (kinds.index(each.kind), each.file))
    if problems:
        sys.stderr.write(f"{name} has problems: {len(problems):,}\n{listing(problems)}\n")
    pixels = torch.from_numpy(images)
    classes = {each: i for i, each in enumerate(found.classes)}
    parts, first = [], 0
    for split in SPLITS:
        part = _split(splits[split], pixels[first : first + len(splits[split])], canvas, classes)
        good = [i for i in range(len(part)) if first + i not in failed]
        if not good:
            raise DataError(f"'{found.root}': none of the {len(part)} images of {split} can be read")
        parts.append(part if len(good) == len(part) else part.subset(good))
        first += len(splits[split])
    return DetectionData(name, found.classes, canvas, *parts, problems=tuple(problems))


def _splits(
    found: Annotations, val_fraction: float, test_fraction: float, seed: int, keep_empty: bool
) -> dict[str, list[Annotation]]:
    """Images of each split: as the data set has it, or split off the training images."""
    if all(image.empty for image in found.images):
        raise DataError(f"no image in '{found.root}' has a usable object\n{listing(found.problems)}")
    given = {image.split for image in found.images}
    usable = [image for image in found.images if keep_empty or not image.empty]
    splits = {split: [image for image in usable if image.split == split] for split in SPLITS}
    if "train" not in given:
        splits["train"] = [image for image in usable if image.split is None]
    pool = splits["train"]
    cuts = [(split, part) for split, part in (("val", val_fraction), ("test", test_fraction)) if split not in given]
    sizes = [round(fraction * len(pool)) for _, fraction in cuts]
    if not all(size > 0 for size in sizes) or sum(sizes) >= len(pool):
        requested = " and ".join(f"{size} for {split}" for (split, _), size in zip(cuts, sizes, strict=True))
        raise DataError(
            f"'{found.root}' has {len(pool)} training images with objects"
            + (f", of which data.val_fraction and data.test_fraction take {requested}: " if cuts else ": ")
            + "each split needs at least one"
        )
    for split in set(given) & {"val", "test"}:
        if not splits[str(split)]:
            raise DataError(f"'{found.root}': no image of {split} has an object; data.keep_empty=true uses them anyway")
    classes = {name: i for i, name in enumerate(found.classes)}
    present = np.zeros((len(pool), len(classes)), np.bool_)
    for i, image in enumerate(pool):
        for name, ignored in zip(image.classes, image.ignored, strict=True):
            present[i, classes[name]] |= not ignored
    parts = assign_stratified(present, [len(pool) - sum(sizes), *sizes], seed)
    for part, split in enumerate(["train", *(split for split, _ in cuts)]):
        splits[split] = [pool[i] for i in np.flatnonzero(parts == part)]
    return splits


def _split(annotations: Sequence[Annotation], images: Tensor, canvas: Canvas, classes: Mapping[str, int]) -> BoxSplit:
    boxes = [boxes_to_canvas(each.boxes, (each.height, each.width), canvas) for each in annotations]
    for each in boxes:
        each[:, 2:] = np.maximum(each[:, 2:], each[:, :2] + MIN_SIDE)
    return BoxSplit(
        images,
        tuple(torch.from_numpy(each) for each in boxes),
        tuple(torch.tensor([classes[name] for name in each.classes], dtype=torch.int64) for each in annotations),
        tuple(torch.from_numpy(each.ignored) for each in annotations),
        torch.tensor([(each.height, each.width) for each in annotations]),
        tuple(each.name for each in annotations),
    )
