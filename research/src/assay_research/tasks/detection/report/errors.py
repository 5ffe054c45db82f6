"""Classification of detection errors: the kind of every detection and the status of every object."""

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
from assay_research.tasks.detection.metrics import MAX_DETECTIONS, own_pixels

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

IOU = 0.5
"""Default IoU threshold: the smallest IoU of a detection with the object that it matches."""

NEAR_IOU = 0.1
"""Smallest IoU of a box with an object that it may belong to, as in TIDE (Bolya et al., arXiv:2008.08115)."""

NONE = -1
"""Index that stands for no object or no detection."""


class DetectionKind(IntEnum):
    """Kind of a detection. It overlaps an object if their IoU reaches the IoU threshold."""

    CORRECT = 0
    """It matches an object of its class."""
    CONFUSED = 1
    """It overlaps an object of another class."""
    DUPLICATE = 2
    """It overlaps an object of its class that a detection with a higher score matches."""
    BADLY_PLACED = 3
    """It overlaps nothing, but has an IoU of at least `NEAR_IOU` with an object of its class."""
    BACKGROUND = 4
    """None of the other kinds."""
    LEFT_OUT = 5
    """Its score is too low, or it matches an ignored object of its class: not counted."""


class ObjectStatus(IntEnum):
    """Status of an object."""

    FOUND = 0
    CONFUSED = 1
    """No detection of its class matches it, but one of another class overlaps it."""
    MISSED = 2
    IGNORED = 3
    """Not counted."""


class FlatBoxes(NamedTuple):
    """Boxes of all images of a split, sorted by image.

    Attributes:
        image: int ``[n]``, the index of each box's image.
        box: float ``[n, 4]``: left, top, right, bottom in canvas pixels.
        label: int ``[n]``, class indices.
    """

    image: Integers
    box: Floats
    label: Integers


@dataclass(frozen=True)
class Matching:
    """Detections of any score, matched to the objects of their class as COCO matches them.

    Attributes:
        classes: names of the classes.
        iou: IoU threshold: the smallest IoU of a detection with the object that it matches.
        objects: all objects of the split.
        ignored: bool ``[objects]``, True for ignored objects.
        detections: the detections that COCO counts, by image and descending score.
        score: float ``[detections]``.
        matched: int ``[detections]``, index of the object that each detection matches, or `NONE`.
        on_ignored: bool ``[detections]``, True if a detection matches only an ignored object of its class.
        overlaps: for each image, float ``[its detections, its objects]``: IoU; for an ignored object the fraction of
            the detection that the object covers, as for COCO's crowds.
    """

    classes: tuple[str, ...]
    iou: float
    objects: FlatBoxes
    ignored: Booleans
    detections: FlatBoxes
    score: Floats
    matched: Integers
    on_ignored: Booleans
    overlaps: tuple[Floats, ...]


def match(
    found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: Sequence[str], iou: float = IOU
) -> Matching:
    """Match every detection, by descending score, to the unmatched object of its class with the largest IoU.

    Args:
        found: detections of each image of the split, in canvas pixels, on any device.
        split: the ground truth.
        canvas: canvas that the images were placed on.
        classes: names of the classes, in the order of the labels.
        iou: IoU threshold in (0, 1]: the smallest IoU of a match, in pixels of the original image.
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
    overlaps, matched, on_ignored, begin = [], [], [], 0
    for found_here, there, found_label, label, is_ignored in own:
        overlap = _overlap(found_here, there, is_ignored)
        takes, is_on_ignored = _take(np.where(found_label[:, None] == label, overlap, 0), is_ignored, iou)
        overlaps.append(overlap)
        matched.append(np.where(takes == NONE, NONE, takes + begin))
        on_ignored.append(is_on_ignored)
        begin += len(there)
    return Matching(
        classes=tuple(classes),
        iou=iou,
        objects=objects,
        ignored=ignored,
        detections=detections,
        score=_joined([each.scores for each in found], np.float64),
        matched=np.concatenate([np.empty(0, np.int64), *matched]),
        on_ignored=np.concatenate([np.empty(0, np.bool_), *on_ignored]),
        overlaps=tuple(overlaps),
    )


@dataclass(frozen=True)
class Errors:
    """Kinds of all detections and statuses of all objects of a matching.

    Attributes:
        score: score threshold; detections with a lower score are left out.
        kind: `DetectionKind` ``[detections]``.
        partner: int ``[detections]``, index of the object that a detection matches, confuses, duplicates or misplaces;
            `NONE` for the other kinds.
        status: `ObjectStatus` ``[objects]``.
        by: int ``[objects]``, index of the detection that found or confused an object, or `NONE`.
        confusion: int ``[classes + 1, classes + 1]``: objects by ``[true class][predicted class]``. The last column
            counts the missed objects; the last row counts the detections that are not counted for an object:
            background, badly placed, duplicate, and those of another class on an object that was found. A row's sum is
            the number of objects of its class without ignored ones; a column's sum is the number of detections of its
            class without those left out.
    """

    score: float
    kind: Integers
    partner: Integers
    status: Integers
    by: Integers
    confusion: Integers

    def count(self, kind: DetectionKind) -> int:
        """Return the number of detections of a kind."""
        return int((self.kind == kind).sum())

    def count_objects(self, status: ObjectStatus) -> int:
        """Return the number of objects with a status."""
        return int((self.status == status).sum())


def classify(matching: Matching, score: float) -> Errors:
    """Classify each detection by kind and each object by status.

    For each object, detections of its class take precedence at any score; among the others, the highest score.

    Args:
        matching: all detections, matched to the objects.
        score: score threshold; detections with a lower score are left out.
    """
    objects, detections = matching.objects, matching.detections
    counts = (matching.score >= score) & ~matching.on_ignored
    partner = np.where(counts, matching.matched, NONE)
    kind = np.where(partner == NONE, DetectionKind.LEFT_OUT, DetectionKind.CORRECT)
    by = np.full(len(objects.label), NONE)
    by[partner[partner != NONE]] = np.flatnonzero(partner != NONE)
    status = np.where(by == NONE, ObjectStatus.MISSED, ObjectStatus.FOUND)
    status[matching.ignored] = ObjectStatus.IGNORED
    first_object, first_detection = (
        np.searchsorted(boxes.image, np.arange(len(matching.overlaps))) for boxes in (objects, detections)
    )
    for i in np.flatnonzero(counts & (partner == NONE)):
        image = detections.image[i]
        here = slice(first_object[image], first_object[image] + matching.overlaps[image].shape[1])
        overlap = np.where(matching.ignored[here], 0, matching.overlaps[image][i - first_detection[image]])
        right = objects.label[here] == detections.label[i]
        kind[i], about = _classify(overlap, right, status[here] == ObjectStatus.MISSED, matching.iou)
        if about != NONE:
            partner[i] = about + here.start
            if kind[i] == DetectionKind.CONFUSED and status[partner[i]] == ObjectStatus.MISSED:
                status[partner[i]], by[partner[i]] = ObjectStatus.CONFUSED, i
    return Errors(score, kind, partner, status, by, _confusion(matching, kind, status, by))


def _classify(overlap: Floats, right: Booleans, missed: Booleans, iou: float) -> tuple[DetectionKind, int]:
    """Return the kind of a detection that matches no object of its class, and the index of its object or `NONE`.

    Args:
        overlap: float ``[objects of the image]``, IoU with the detection.
        right: bool ``[objects of the image]``, True for objects of the detection's class.
        missed: bool ``[objects of the image]``, True for objects without a detection so far.
        iou: IoU threshold.
    """
    own, other = np.where(right, overlap, 0), np.where(right, 0, overlap)
    if own.max(initial=0) >= iou:
        return DetectionKind.DUPLICATE, int(own.argmax())
    if other.max(initial=0) >= iou:
        free = np.where(missed, other, 0)
        return DetectionKind.CONFUSED, int((free if free.max() >= iou else other).argmax())
    if own.max(initial=0) >= NEAR_IOU:
        return DetectionKind.BADLY_PLACED, int(own.argmax())
    return DetectionKind.BACKGROUND, NONE


def _confusion(matching: Matching, kind: Integers, status: Integers, by: Integers) -> Integers:
    """Compute the confusion matrix that `Errors` describes."""
    background = len(matching.classes)
    counted = status != ObjectStatus.IGNORED
    predicted = np.append(matching.detections.label, background)[by]  # NONE is the last one
    surplus = kind != DetectionKind.LEFT_OUT
    surplus[by[by != NONE]] = False
    confusion = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(confusion, (matching.objects.label[counted], predicted[counted]), 1)
    np.add.at(confusion, (background, matching.detections.label[surplus]), 1)
    return confusion


def _counted(found: Found) -> Found:
    """Return the detections of one image that COCO counts: the `MAX_DETECTIONS` best of each class, on the CPU."""
    boxes, scores, labels = (each.cpu() for each in found)
    order = scores.argsort(descending=True, stable=True)
    if len(order) > MAX_DETECTIONS:
        sorted_labels = labels[order]
        rank = (sorted_labels[:, None] == sorted_labels).tril(-1).sum(1)
        order = order[rank < MAX_DETECTIONS]
    return Found(boxes[order], scores[order], labels[order])


def _overlap(found: Floats, objects: Floats, ignored: Booleans) -> Floats:
    """Return ``[detections, objects]``: IoU; for an ignored object, intersection over the detection's area."""
    low = np.maximum(found[:, None, :2], objects[:, :2])
    high = np.minimum(found[:, None, 2:], objects[:, 2:])
    intersection = (high - low).clip(0).prod(2)
    area, object_area = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (found, objects))
    union = area[:, None] + np.where(ignored, 0, object_area - intersection)
    overlap: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def _take(overlap: Floats, ignored: Booleans, iou: float) -> tuple[Integers, Booleans]:
    """Return the object that each detection matches, or `NONE`, and whether it matches only an ignored object.

    Args:
        overlap: float ``[detections, objects]``, detections by descending score; 0 for objects of another class.
        ignored: bool ``[objects]``, True for ignored objects.
        iou: IoU threshold.
    """
    takes, on_ignored = np.full(len(overlap), NONE), np.zeros(len(overlap), np.bool_)
    free = ~ignored
    for i in np.flatnonzero((overlap >= iou).any(1)):
        candidates = np.where(free, overlap[i], 0)
        best = len(candidates) - 1 - candidates[::-1].argmax()  # of equals the last, as COCO has it
        if candidates[best] >= iou:
            takes[i], free[best] = best, False
        else:
            on_ignored[i] = bool((overlap[i, ignored] >= iou).any())
    return takes, on_ignored


def _flat(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> FlatBoxes:
    image = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    return FlatBoxes(image, _joined(boxes, np.float64).reshape(-1, 4), _joined(labels, np.int64))


def _joined(parts: Sequence[Tensor], dtype: Any) -> NDArray[Any]:
    return torch.cat(list(parts)).cpu().numpy().astype(dtype) if parts else np.empty(0, dtype)


def _parts(values: NDArray[Any], boxes: FlatBoxes, images: int) -> list[NDArray[Any]]:
    """Split values of all boxes into one array per image."""
    return np.split(values, np.searchsorted(boxes.image, np.arange(1, images)))
