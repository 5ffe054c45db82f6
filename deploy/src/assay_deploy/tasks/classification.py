"""A classifier's answer to a picture, as Python, text and JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Manifest
from assay_deploy.tasks.result import ESCAPES, Unreadable, _error_json


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture.

    Attributes:
        path: the picture's file.
        index: of the most probable class.
        label: its name.
        confidence: its probability.
        probabilities: float32 ``[classes]``, in the order of the manifest's labels.
    """

    path: Path
    index: int
    label: str
    confidence: float
    probabilities: NDArray[np.float32]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``[batch, classes]`` of logits ``[batch, classes]``."""
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _predictions(
    outputs: dict[str, NDArray[Any]], read: Sequence[tuple[Path, tuple[int, int]]], manifest: Manifest
) -> Iterator[Prediction]:
    rows = outputs["probabilities"] if "probabilities" in outputs else softmax(outputs["logits"])
    for (path, _), probabilities in zip(read, rows, strict=True):
        index = int(np.argmax(probabilities))
        yield Prediction(path, index, manifest.labels[index], float(probabilities[index]), probabilities)


def _ranking(prediction: Prediction, top: int) -> list[int]:
    ranking: list[int] = np.argsort(-prediction.probabilities, kind="stable")[:top].tolist()
    return ranking


def _text(result: Prediction | Unreadable, manifest: Manifest, top: int) -> str:
    if not isinstance(result, Prediction):
        return ""
    columns = [str(result.path).translate(ESCAPES)]
    for index in _ranking(result, top):
        columns += manifest.labels[index], f"{result.probabilities[index]:.4f}"
    return "\t".join(columns) + "\n"


def _json(result: Prediction | Unreadable, manifest: Manifest, top: int) -> str:
    if not isinstance(result, Prediction):
        return _error_json(result)
    ranked = [
        {"label": manifest.labels[i], "index": i, "confidence": round(float(result.probabilities[i]), 6)}
        for i in _ranking(result, top)
    ]
    return json.dumps({"path": str(result.path), **ranked[0], "top": ranked}) + "\n"
