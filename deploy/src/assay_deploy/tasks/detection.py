"""Detection: a detector's rules for a manifest, and its answer to an image as Python, text and JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.difference import detection_differences
from assay_deploy.bundle.manifest import BOXES, DETECTION, Manifest
from assay_deploy.errors import BundleError
from assay_deploy.images.canvas import boxes_from_canvas
from assay_deploy.tasks.options import Option, Shown, fraction
from assay_deploy.tasks.result import columns, named
from assay_deploy.tasks.task import Demanded, ImageInfo, Outputs


@dataclass(frozen=True)
class Detected:
    """What a detector finds in one image, by falling score.

    Attributes:
        path: the image's file; None for bytes and arrays.
        size: height and width of the image, pixels.
        boxes: float32 ``[detections, 4]``: left, top, right, bottom in the image's own pixels.
        scores: float32 ``[detections]``.
        indices: int64 ``[detections]``: of the labels.
        labels: their names.
    """

    path: Path | None
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    labels: tuple[str, ...]


class Detection:
    """Detectors: boxes with a score and a label, a fixed number of places for them an image."""

    name = DETECTION
    holds = "detector"
    dense = False
    options = (Option("score", "S", fraction, "of a detector: least score of what is shown", in_text=0.5, in_json=0.5),)

    def outputs(self, manifest: Manifest) -> list[Demanded]:
        """Boxes float32 ``[batch, places, 4]``, scores float32 and labels int64 ``[batch, places]``."""
        names = tuple(tensor.name for tensor in manifest.outputs)
        if names != BOXES:
            raise BundleError(f"outputs {list(names)}, expected {', '.join(BOXES)}")
        boxes, scores, labels = manifest.outputs
        places = scores.shape[1] if len(scores.shape) == 2 and isinstance(scores.shape[1], int) else 1
        return [
            (boxes, "float32", ("batch", places, 4)),
            (scores, "float32", ("batch", places)),
            (labels, "int64", ("batch", places)),
        ]

    def computed(self, manifest: Manifest) -> list[tuple[str, ...]]:
        """All three."""
        return [tuple(tensor.name for tensor in manifest.outputs)]

    def answers(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[Detected]:
        """What is there of each image, its boxes brought back from the canvas."""
        for image, boxes, scores, labels in zip(
            read, outputs["boxes"], outputs["scores"], outputs["labels"], strict=True
        ):
            there = labels >= 0
            indices = labels[there]
            if indices.max(initial=0) >= len(manifest.labels):
                raise BundleError(f"the graph gives label {indices.max()}, but the bundle has {len(manifest.labels)}")
            yield Detected(
                path=image.path,
                size=image.size,
                boxes=boxes_from_canvas(boxes[there], image.size, manifest.preprocess),
                scores=scores[there],
                indices=indices,
                labels=tuple(manifest.labels[index] for index in indices),
            )

    def differences(self, found: Outputs, expected: Outputs) -> dict[str, float]:
        """Those of paired detections; see `detection_differences`."""
        return detection_differences(found, expected)

    def text(self, result: Detected, options: Shown) -> str:
        """A line an object: path, label, score, left, top, right and bottom."""
        return "".join(
            columns(result.path, label, f"{score:.4f}", *(f"{side:.1f}" for side in box))
            for label, score, box in zip(result.labels, result.scores, result.boxes, strict=True)
            if score >= options["score"]
        )

    def json(self, result: Detected, options: Shown) -> dict[str, Any]:
        """The image's size and, in ``detections``, an object for each thing found."""
        found = [
            {
                "label": label,
                "index": int(index),
                "score": round(float(score), 6),
                "box": [round(float(side), 2) for side in box],
            }
            for label, index, score, box in zip(result.labels, result.indices, result.scores, result.boxes, strict=True)
            if score >= options["score"]
        ]
        height, width = result.size
        return {"path": named(result.path), "height": height, "width": width, "detections": found}
