"""The COCO figures of a detector, in the images' own pixels, cheap enough for every epoch."""

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
"""COCO's twelve figures, in its order."""

MOST = 100
"""Detections that count, of an image and class: those with the highest scores."""

Annotation = dict[str, Any]


@dataclass(frozen=True)
class BoxScores:
    """How well a detector finds the objects of a split, as COCO measures it: all in [0, 1].

    A figure is NaN where there is no object to measure it by, where COCO writes -1. Objects are small below 32x32
    pixels of their own image, large from 96x96; as boxes are all that is known of them, it is their boxes' area.

    Attributes:
        images: in the split.
        objects: in them, the ignored ones left out.
        map: average precision, the mean over classes and over the IoU thresholds 0.50, 0.55, ... 0.95.
        map50, map75: the same at one threshold.
        map_small, map_medium, map_large: the same as `map` for objects of one size.
        mar1, mar10, mar100: average recall with so many detections an image and class, the mean as in `map`.
        mar_small, mar_medium, mar_large: the same as `mar100` for objects of one size.
        ap: class name -> its part of `map`; NaN where the class has no objects.
        ap50: class name -> its part of `map50`.
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
    """Every COCO figure of what a detector found.

    Args:
        found: of each image of the split, in canvas pixels, on any device. Any number of detections; COCO counts
            the `MOST` of each image and class with the highest scores.
        split: the truth.
        canvas: what its images were put on.
        classes: names, in the order of the labels.
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
    """faster-coco-eval's evaluation, matched and accumulated.

    Args:
        found: of each image of the split, in canvas pixels.
        split: the truth.
        canvas: what its images were put on.
        classes: how many.

    Returns:
        Its ``eval`` holds ``precision`` ``[IoU, recall, class, size, detections]`` and ``recall``
        ``[IoU, class, size, detections]``, -1 where there are no objects.
    """
    truth, detections = annotations(found, split, canvas)
    common = {"images": [{"id": i} for i in range(len(split))], "categories": [{"id": i} for i in range(classes)]}
    coco = COCOeval_faster(
        COCO({**common, "annotations": truth}),
        COCO({**common, "annotations": detections}),
        iouType="bbox",
        print_function=_say_nothing,
    )
    coco.evaluate()
    coco.accumulate()
    return coco


def annotations(found: Sequence[Found], split: BoxSplit, canvas: Canvas) -> tuple[list[Annotation], list[Annotation]]:
    """Objects and detections as COCO writes them; images and classes have their index for an id.

    Args:
        found: of each image of the split, in canvas pixels.
        split: the truth.
        canvas: what its images were put on.

    Returns:
        Objects, then detections, which have a ``score``.
    """
    assert len(found) == len(split), f"{len(found)} images were looked at, the split has {len(split)}"
    objects = _annotations(split.boxes, split.labels, split.sizes, canvas, "iscrowd", split.ignored)
    boxes, scores, labels = ([each[i] for each in found] for i in range(3))
    return objects, _annotations(boxes, labels, split.sizes, canvas, "score", scores)


def own_pixels(boxes: Sequence[Tensor], sizes: Tensor, canvas: Canvas) -> list[NDArray[np.float64]]:
    """Bring the boxes of every image back from the canvas.

    Args:
        boxes: float ``[n, 4]`` of each image, in canvas pixels, on any device.
        sizes: int64 ``[images, 2]``, height and width of each, pixels.
        canvas: what they were put on.

    Returns:
        ``[n, 4]`` of each image, in its own pixels, cut off at its edges.
    """
    counts = [len(each) for each in boxes]
    # One copy from the device, and one call a size that occurs: an epoch's images are often all of one size.
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
    """One for each box; `key` is what COCO calls `values`."""
    corners = np.concatenate([np.empty((0, 4)), *own_pixels(boxes, sizes, canvas)])
    sides = corners[:, 2:] - corners[:, :2]
    images = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    return [
        # COCO's ids begin at 1: 0 is how a match says that there is none.
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


def _say_nothing(*_: object) -> None:
    """In place of the library's printing."""
