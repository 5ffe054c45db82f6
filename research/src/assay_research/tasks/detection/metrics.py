"""COCO metrics of a detector, in pixels of the original images, fast enough for every epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from torch import Tensor

from assay_deploy.images.canvas import Canvas, boxes_from_canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found

SUMMARY = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("mar1", "mar10", "mar100", "mar_small", "mar_medium", "mar_large"),
)
"""Names of COCO's twelve summary metrics, in COCO's order."""

MAX_DETECTIONS = 100
"""Largest number of detections per image and class that count: those with the highest scores."""

Annotation = dict[str, Any]


@dataclass(frozen=True)
class BoxScores:
    """COCO metrics of a detector on a split, all in [0, 1].

    A metric is NaN if there are no objects to compute it from; COCO writes -1 then. Objects are small below 32x32
    pixels of the original image and large from 96x96. The area of an object is that of its box.

    Attributes:
        images: number of images in the split.
        objects: number of objects in them, without ignored ones.
        map: average precision, averaged over classes and over the IoU thresholds 0.50, 0.55, ... 0.95.
        map50, map75: the same at one IoU threshold.
        map_small, map_medium, map_large: `map` for objects of one size.
        mar1, mar10, mar100: average recall with at most that many detections per image and class, averaged as `map`.
        mar_small, mar_medium, mar_large: `mar100` for objects of one size.
        ap: class name -> average precision, as in `map`; NaN for a class without objects.
        ap50: class name -> average precision, as in `map50`.
    """

    images: int
    objects: int
    map: float
    map50: float
    map75: float
    map_small: float
    map_medium: float
    map_large: float
    mar1: float
    mar10: float
    mar100: float
    mar_small: float
    mar_medium: float
    mar_large: float
    ap: dict[str, float]
    ap50: dict[str, float]


def measure(found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: Sequence[str]) -> BoxScores:
    """Compute every COCO metric of a detector's predictions.

    Args:
        found: detections of each image of the split, in canvas pixels, on any device. Any number of them; COCO counts
            the `MAX_DETECTIONS` of each image and class with the highest scores.
        split: the ground truth.
        canvas: canvas that the images were placed on.
        classes: names of the classes, in the order of the labels.
    """
    coco = evaluate(found, split, canvas, len(classes))
    coco.summarize()
    precision: NDArray[np.float64] = coco.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
    return BoxScores(
        images=len(split),
        objects=sum(int((~ignored).sum()) for ignored in split.ignored),
        **dict(zip(SUMMARY, map(_defined, coco.stats[: len(SUMMARY)]), strict=True)),
        ap={name: _defined(precision[:, :, i].mean()) for i, name in enumerate(classes)},
        ap50={name: _defined(precision[0, :, i].mean()) for i, name in enumerate(classes)},
    )


def evaluate(found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: int) -> COCOeval_faster:
    """Run faster-coco-eval: match detections to objects and accumulate precision and recall.

    Args:
        found: detections of each image of the split, in canvas pixels.
        split: the ground truth.
        canvas: canvas that the images were placed on.
        classes: number of classes.

    Returns:
        The evaluation; its ``eval`` contains ``precision`` ``[IoU, recall, class, size, detections]`` and ``recall``
        ``[IoU, class, size, detections]``, -1 where there are no objects.
    """
    truth, detections = annotations(found, split, canvas)
    common = {"images": [{"id": i} for i in range(len(split))], "categories": [{"id": i} for i in range(classes)]}
    coco = COCOeval_faster(
        COCO({**common, "annotations": truth}),
        COCO({**common, "annotations": detections}),
        iouType="bbox",
        print_function=_print_nothing,
    )
    coco.evaluate()
    coco.accumulate()
    return coco


def annotations(found: Sequence[Found], split: BoxSplit, canvas: Canvas) -> tuple[list[Annotation], list[Annotation]]:
    """Convert objects and detections to COCO annotations; the ids of images and classes are their indices.

    Args:
        found: detections of each image of the split, in canvas pixels.
        split: the ground truth.
        canvas: canvas that the images were placed on.

    Returns:
        Annotations of the objects, then of the detections, which also have a ``score``.
    """
    assert len(found) == len(split), f"got detections for {len(found)} images, but the split has {len(split)}"
    objects = _annotations(split.boxes, split.labels, split.sizes, canvas, "iscrowd", split.ignored)
    boxes, scores, labels = ([each[i] for each in found] for i in range(3))
    return objects, _annotations(boxes, labels, split.sizes, canvas, "score", scores)


def own_pixels(boxes: Sequence[Tensor], sizes: Tensor, canvas: Canvas) -> list[NDArray[np.float64]]:
    """Convert the boxes of every image from canvas pixels to pixels of the original image.

    Args:
        boxes: float ``[n, 4]`` for each image, in canvas pixels, on any device.
        sizes: int64 ``[images, 2]``, height and width of each original image in pixels.
        canvas: canvas that the images were placed on.

    Returns:
        float64 ``[n, 4]`` for each image, in pixels of the original image, clipped to it.
    """
    counts = [len(each) for each in boxes]
    # One copy from the device, and one call per distinct size: an epoch's images often all have one size.
    flat = _joined(boxes).reshape(-1, 4)
    kinds, kind_of = torch.unique(sizes.cpu(), dim=0, return_inverse=True)
    owners = np.repeat(kind_of.numpy(), counts)
    mapped = np.empty(flat.shape)
    for kind, (height, width) in enumerate(kinds.tolist()):
        mapped[owners == kind] = boxes_from_canvas(flat[owners == kind], (height, width), canvas)
    return np.split(mapped, np.cumsum(counts)[:-1])


def _annotations(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    sizes: Tensor,
    canvas: Canvas,
    key: str,
    values: Sequence[Tensor],
) -> list[Annotation]:
    """Return one COCO annotation per box; `key` is COCO's name for `values`."""
    corners = np.concatenate([np.empty((0, 4)), *own_pixels(boxes, sizes, canvas)])
    sides = corners[:, 2:] - corners[:, :2]
    images = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    return [
        # COCO's ids begin at 1: 0 stands for no match.
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": area, key: value}
        for i, (image, label, box, area, value) in enumerate(
            zip(
                images.tolist(),
                _joined(labels).tolist(),
                np.hstack([corners[:, :2], sides]).tolist(),
                sides.prod(1).tolist(),
                _joined(values).tolist(),
                strict=True,
            ),
            start=1,
        )
    ]


def _joined(parts: Sequence[Tensor]) -> NDArray[Any]:
    values: NDArray[Any] = torch.cat(list(parts)).cpu().numpy() if parts else np.empty(0)
    return values


def _defined(value: float) -> float:
    return float(value) if value > -1 else float("nan")


def _print_nothing(*_: object) -> None:
    """Discard the library's printed output."""
