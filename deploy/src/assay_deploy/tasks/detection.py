"""Detection task: manifest rules of detectors, and their results as objects, text and JSON."""

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
from assay_deploy.tasks.options import Option, OptionValues, fraction
from assay_deploy.tasks.result import columns, path_text
from assay_deploy.tasks.task import ImageInfo, Outputs, RequiredTensor


@dataclass(frozen=True)
class Detected:
    """Detections of a detector in one image, by falling score.

    Attributes:
        path: the image's file; None for bytes and arrays.
        size: height and width of the image in pixels.
        boxes: float32 ``[detections, 4]``: left, top, right, bottom in pixels of the original image.
        scores: confidence scores, float32 ``[detections]``.
        indices: class indices, int64 ``[detections]``.
        labels: class names, one for each detection.
    """

    path: Path | None
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    labels: tuple[str, ...]


class Detection:
    """Detection task: the graph computes a fixed number of boxes per image, each with a score and a label."""

    name = DETECTION
    model_kind = "detector"
    dense = False
    options = (
        Option(
            "score", "S", fraction, "detectors only: minimum score of the objects to print", in_text=0.5, in_json=0.5
        ),
    )

    def outputs(self, manifest: Manifest) -> list[RequiredTensor]:
        """Return the required outputs: boxes float32 ``[batch, n, 4]``, scores float32, labels int64 ``[batch, n]``."""
        names = tuple(tensor.name for tensor in manifest.outputs)
        if names != BOXES:
            raise BundleError(f"outputs {list(names)}, expected {', '.join(BOXES)}")
        boxes, scores, labels = manifest.outputs
        slots = scores.shape[1] if len(scores.shape) == 2 and isinstance(scores.shape[1], int) else 1
        return [
            (boxes, "float32", ("batch", slots, 4)),
            (scores, "float32", ("batch", slots)),
            (labels, "int64", ("batch", slots)),
        ]

    def artifact_outputs(self, manifest: Manifest) -> list[tuple[str, ...]]:
        """Return the names of boxes, scores and labels as one group: every artifact computes these three outputs."""
        return [tuple(tensor.name for tensor in manifest.outputs)]

    def results(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[Detected]:
        """Yield the detections of each image, with boxes in pixels of the original image."""
        for image, boxes, scores, labels in zip(
            read, outputs["boxes"], outputs["scores"], outputs["labels"], strict=True
        ):
            there = labels >= 0
            indices = labels[there]
            if indices.max(initial=0) >= len(manifest.labels):
                raise BundleError(
                    f"the graph returned class index {indices.max()}, but the bundle has {len(manifest.labels)} labels"
                    ": its files do not belong together, export the run again"
                )
            yield Detected(
                path=image.path,
                size=image.size,
                boxes=boxes_from_canvas(boxes[there], image.size, manifest.preprocess),
                scores=scores[there],
                indices=indices,
                labels=tuple(manifest.labels[index] for index in indices),
            )

    def differences(self, found: Outputs, expected: Outputs) -> dict[str, float]:
        """Return the differences between matched detections; see `detection_differences`."""
        return detection_differences(found, expected)

    def text(self, result: Detected, options: OptionValues) -> str:
        """Format one line per object: path, label, score, left, top, right and bottom."""
        return "".join(
            columns(result.path, label, f"{score:.4f}", *(f"{side:.1f}" for side in box))
            for label, score, box in zip(result.labels, result.scores, result.boxes, strict=True)
            if score >= options["score"]
        )

    def json(self, result: Detected, options: OptionValues) -> dict[str, Any]:
        """Return the image's size and, under ``detections``, an entry for each detected object."""
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
        return {"path": path_text(result.path), "height": height, "width": width, "detections": found}
