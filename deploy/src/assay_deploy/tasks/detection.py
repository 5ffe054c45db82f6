"""A detector's answer to a picture, as Python, text and JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Manifest
from assay_deploy.errors import BundleError
from assay_deploy.pictures.canvas import boxes_from_canvas
from assay_deploy.tasks.result import ESCAPES, Unreadable, _error_json


@dataclass(frozen=True)
class Detected:
    """What a detector finds in one picture, by falling score.

    Attributes:
        path: the picture's file.
        size: height and width of the picture, pixels.
        boxes: float32 ``[detections, 4]``: left, top, right, bottom in the picture's own pixels.
        scores: float32 ``[detections]``.
        indices: int64 ``[detections]``: of the labels.
        labels: their names.
    """

    path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    indices: NDArray[np.int64]
    labels: tuple[str, ...]


def _detected(
    outputs: dict[str, NDArray[Any]], read: Sequence[tuple[Path, tuple[int, int]]], manifest: Manifest
) -> Iterator[Detected]:
    for (path, size), boxes, scores, labels in zip(
        read, outputs["boxes"], outputs["scores"], outputs["labels"], strict=True
    ):
        there = labels >= 0
        indices = labels[there]
        if indices.max(initial=0) >= len(manifest.labels):
            raise BundleError(f"the graph gives label {indices.max()}, but the bundle has {len(manifest.labels)}")
        yield Detected(
            path=path,
            size=size,
            boxes=boxes_from_canvas(boxes[there], size, manifest.preprocess),
            scores=scores[there],
            indices=indices,
            labels=tuple(manifest.labels[index] for index in indices),
        )


def _boxes_text(result: Detected | Unreadable, least: float) -> str:
    if not isinstance(result, Detected):
        return ""
    path = str(result.path).translate(ESCAPES)
    return "".join(
        "\t".join([path, label, f"{score:.4f}", *(f"{side:.1f}" for side in box)]) + "\n"
        for label, score, box in zip(result.labels, result.scores, result.boxes, strict=True)
        if score >= least
    )


def _boxes_json(result: Detected | Unreadable, least: float) -> str:
    if not isinstance(result, Detected):
        return _error_json(result)
    found = [
        {
            "label": label,
            "index": int(index),
            "score": round(float(score), 6),
            "box": [round(float(side), 2) for side in box],
        }
        for label, index, score, box in zip(result.labels, result.indices, result.scores, result.boxes, strict=True)
        if score >= least
    ]
    height, width = result.size
    return json.dumps({"path": str(result.path), "height": height, "width": width, "detections": found}) + "\n"
