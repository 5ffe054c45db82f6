"""What every detection is, right or which kind of wrong, and what became of every object."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import MOST, own_pixels

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

IOU = 0.5
"""From which on a detection is in an object's place, where nothing else is said."""

NEAR = 0.1
"""IoU from which a box is about an object at all, as in TIDE (Bolya et al., arXiv:2008.08115)."""

NONE = -1
"""In place of an index."""


class Judgement(IntEnum):
    """What a detection is. Boxes are in the same place where their IoU reaches the threshold."""

    CORRECT = 0
    """Takes an object of its class in its place."""
    CONFUSED = 1
    """There is an object in its place, of another class."""
    DUPLICATE = 2
    """The object of its class in its place was taken by a higher score."""
    BADLY_PLACED = 3
    """Nothing in its place, but an object of its class near by, from IoU `NEAR`."""
    BACKGROUND = 4
    """None of these."""
    LEFT_OUT = 5
    """Of too low a score, or on an ignored object of its class: counts neither way."""


class Fate(IntEnum):
    """What became of an object."""

    FOUND = 0
    CONFUSED = 1
    """No detection of its class took it, one of another class did."""
    MISSED = 2
    IGNORED = 3
    """Counts neither way."""


class FlatBoxes(NamedTuple):
    """Boxes of all images of a split, one image's after another's.

    Attributes:
        image: int ``[n]``, the index of each box's image.
        box: float ``[n, 4]``: left, top, right, bottom in canvas pixels.
        label: int ``[n]``.
    """

    image: Integers
    box: Floats
    label: Integers


@dataclass(frozen=True)
class Matching:
    """Detections beside the objects of their class, matched as COCO matches them, whatever their score.

    Attributes:
        classes: names.
        iou: from which a detection is in an object's place.
        objects: all of the split.
        ignored: bool ``[objects]``.
        detections: of each image by falling score, those that COCO counts.
        score: float ``[detections]``.
        matched: int ``[detections]``, the object that each takes, or `NONE`.
        excused: bool ``[detections]``, those that take none and lie on an ignored object of their class.
        overlaps: of each image, float ``[its detections, its objects]``: IoU; for an ignored object the part of the
            detection that lies on it, as for COCO's crowds.
    """

    classes: tuple[str, ...]
    iou: float
    objects: FlatBoxes
    ignored: Booleans
    detections: FlatBoxes
    score: Floats
    matched: Integers
    excused: Booleans
    overlaps: tuple[Floats, ...]


def match(
    found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: Sequence[str], iou: float = IOU
) -> Matching:
    """Let every detection, by falling score, take the free object of its class that it overlaps most.

    Args:
        found: of each image of the split, in canvas pixels, on any device.
        split: the truth.
        canvas: what its images were put on.
        classes: names, in the order of the labels.
        iou: in (0, 1]; what an object and a detection that takes it have at least, in the image's own pixels.
    """
    found = [_counted(each) for each in found]
    objects = _flat(split.boxes, split.labels)
    detections = _flat([each.boxes for each in found], [each.labels for each in found])
    ignored = _joined(split.ignored, np.bool_)
    own = zip(
        own_pixels([each.boxes for each in found], split.sizes, canvas),
        own_pixels(split.boxes, split.sizes, canvas),
        *(_parts(boxes.label, boxes, len(split)) for boxes in (detections, objects)),
        _parts(ignored, objects, len(split)),
        strict=True,
    )
    overlaps, matched, excused, begin = [], [], [], 0
    for found_here, there, found_label, label, is_ignored in own:
        overlap = _overlap(found_here, there, is_ignored)
        takes, is_excused = _take(np.where(found_label[:, None] == label, overlap, 0), is_ignored, iou)
        overlaps.append(overlap)
        matched.append(np.where(takes == NONE, NONE, takes + begin))
        excused.append(is_excused)
        begin += len(there)
    return Matching(
        classes=tuple(classes),
        iou=iou,
        objects=objects,
        ignored=ignored,
        detections=detections,
        score=_joined([each.scores for each in found], np.float64),
        matched=np.concatenate([np.empty(0, np.int64), *matched]),
        excused=np.concatenate([np.empty(0, np.bool_), *excused]),
        overlaps=tuple(overlaps),
    )


@dataclass(frozen=True)
class Errors:
    """Every detection and object of a matching, judged.

    Attributes:
        score: detections below it were left out.
        kind: `Judgement` ``[detections]``.
        partner: int ``[detections]``, the object a detection is about: that it takes, takes for another class',
            repeats or misplaces; `NONE` of the other kinds.
        fate: `Fate` ``[objects]``.
        by: int ``[objects]``, the detection that found an object or took it for another class', or `NONE`.
        confusion: int ``[classes + 1, classes + 1]``: objects by ``[true class][predicted class]``. The last column
            has the missed objects; the last row the detections that no object is counted for: background, badly
            placed, duplicate, and those of another class on an object that was found. So a row sums up to its
            class' objects, ignored ones left out, and a column to its class' detections that are not left out.
    """

    score: float
    kind: Integers
    partner: Integers
    fate: Integers
    by: Integers
    confusion: Integers

    def count(self, kind: Judgement) -> int:
        """Detections of that kind."""
        return int((self.kind == kind).sum())

    def fates(self, fate: Fate) -> int:
        """Objects of that fate."""
        return int((self.fate == fate).sum())


def judge(matching: Matching, score: float) -> Errors:
    """Say of each detection what it is, and of each object what became of it.

    Detections of an object's own class come first, whatever their score; among the others the higher score.

    Args:
        matching: of all detections.
        score: those below it are left out.
    """
    objects, detections = matching.objects, matching.detections
    counts = (matching.score >= score) & ~matching.excused
    partner = np.where(counts, matching.matched, NONE)
    kind = np.where(partner == NONE, Judgement.LEFT_OUT, Judgement.CORRECT)
    by = np.full(len(objects.label), NONE)
    by[partner[partner != NONE]] = np.flatnonzero(partner != NONE)
    fate = np.where(by == NONE, Fate.MISSED, Fate.FOUND)
    fate[matching.ignored] = Fate.IGNORED
    first_object, first_detection = (
        np.searchsorted(boxes.image, np.arange(len(matching.overlaps))) for boxes in (objects, detections)
    )
    for i in np.flatnonzero(counts & (partner == NONE)):
        image = detections.image[i]
        here = slice(first_object[image], first_object[image] + matching.overlaps[image].shape[1])
        overlap = np.where(matching.ignored[here], 0, matching.overlaps[image][i - first_detection[image]])
        right = objects.label[here] == detections.label[i]
        kind[i], about = _judge(overlap, right, fate[here] == Fate.MISSED, matching.iou)
        if about != NONE:
            partner[i] = about + here.start
            if kind[i] == Judgement.CONFUSED and fate[partner[i]] == Fate.MISSED:
                fate[partner[i]], by[partner[i]] = Fate.CONFUSED, i
    return Errors(score, kind, partner, fate, by, _confusion(matching, kind, fate, by))


def _judge(overlap: Floats, right: Booleans, missed: Booleans, iou: float) -> tuple[Judgement, int]:
    """What a detection that takes no object of its class is, and the object it is about.

    Args:
        overlap: ``[objects]`` of its image, IoU.
        right: which are of its class.
        missed: which nothing took yet.
        iou: from which a detection is in an object's place.
    """
    own, other = np.where(right, overlap, 0), np.where(right, 0, overlap)
    if own.max(initial=0) >= iou:
        return Judgement.DUPLICATE, int(own.argmax())
    if other.max(initial=0) >= iou:
        free = np.where(missed, other, 0)
        return Judgement.CONFUSED, int((free if free.max() >= iou else other).argmax())
    if own.max(initial=0) >= NEAR:
        return Judgement.BADLY_PLACED, int(own.argmax())
    return Judgement.BACKGROUND, NONE


def _confusion(matching: Matching, kind: Integers, fate: Integers, by: Integers) -> Integers:
    """As `Errors` describes it."""
    background = len(matching.classes)
    counted = fate != Fate.IGNORED
    predicted = np.append(matching.detections.label, background)[by]  # NONE is the last one
    surplus = kind != Judgement.LEFT_OUT
    surplus[by[by != NONE]] = False
    confusion = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(confusion, (matching.objects.label[counted], predicted[counted]), 1)
    np.add.at(confusion, (background, matching.detections.label[surplus]), 1)
    return confusion


def _counted(found: Found) -> Found:
    """What COCO counts of one image's detections: the `MOST` highest scores of each class, falling; on the CPU."""
    boxes, scores, labels = (each.cpu() for each in found)
    order = scores.argsort(descending=True, stable=True)
    if len(order) > MOST:
        sorted_labels = labels[order]
        rank = (sorted_labels[:, None] == sorted_labels).tril(-1).sum(1)
        order = order[rank < MOST]
    return Found(boxes[order], scores[order], labels[order])


def _overlap(found: Floats, objects: Floats, ignored: Booleans) -> Floats:
    """``[detections, objects]``: IoU; for an ignored object, intersection by the detection's area."""
    low = np.maximum(found[:, None, :2], objects[:, :2])
    high = np.minimum(found[:, None, 2:], objects[:, 2:])
    intersection = (high - low).clip(0).prod(2)
    area, object_area = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (found, objects))
    union = area[:, None] + np.where(ignored, 0, object_area - intersection)
    overlap: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def _take(overlap: Floats, ignored: Booleans, iou: float) -> tuple[Integers, Booleans]:
    """The object that each detection takes, or `NONE`, and whether an ignored one excuses it.

    Args:
        overlap: ``[detections, objects]``, by falling score; 0 with objects of another class.
        ignored: ``[objects]``.
        iou: the least.
    """
    takes, excused = np.full(len(overlap), NONE), np.zeros(len(overlap), np.bool_)
    free = ~ignored
    for i in np.flatnonzero((overlap >= iou).any(1)):
        candidates = np.where(free, overlap[i], 0)
        best = len(candidates) - 1 - candidates[::-1].argmax()  # of equals the last, as COCO has it
        if candidates[best] >= iou:
            takes[i], free[best] = best, False
        else:
            excused[i] = bool((overlap[i, ignored] >= iou).any())
    return takes, excused


def _flat(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> FlatBoxes:
    image = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    return FlatBoxes(image, _joined(boxes, np.float64).reshape(-1, 4), _joined(labels, np.int64))


def _joined(parts: Sequence[Tensor], dtype: Any) -> NDArray[Any]:
    return torch.cat(list(parts)).cpu().numpy().astype(dtype) if parts else np.empty(0, dtype)


def _parts(values: NDArray[Any], boxes: FlatBoxes, images: int) -> list[NDArray[Any]]:
    """Values of boxes, image by image."""
    return np.split(values, np.searchsorted(boxes.image, np.arange(1, images)))
