"""Classification task: manifest rules of classifiers, and their results as objects, text and JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.difference import largest_differences
from assay_deploy.bundle.manifest import CLASSIFICATION, CLASSIFIER_OUTPUTS, Manifest
from assay_deploy.errors import BundleError
from assay_deploy.tasks.options import Option, OptionValues, positive
from assay_deploy.tasks.result import columns, path_text
from assay_deploy.tasks.task import ImageInfo, Outputs, RequiredTensor


@dataclass(frozen=True)
class Prediction:
    """Result of a classifier for one image.

    Attributes:
        path: the image's file; None for bytes and arrays.
        index: index of the most probable class.
        label: name of the most probable class.
        confidence: probability of the most probable class.
        probabilities: probabilities of all classes, float32 ``[classes]``.
        labels: names of all classes, in the order of `probabilities`.
    """

    path: Path | None
    index: int
    label: str
    confidence: float
    probabilities: NDArray[np.float32]
    labels: tuple[str, ...]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert logits ``[batch, classes]`` to probabilities ``[batch, classes]``."""
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


class Classification:
    """Classification task: the graph computes logits or probabilities for each label."""

    name = CLASSIFICATION
    model_kind = "classifier"
    dense = True
    options = (
        Option(
            "top", "K", positive, "classifiers only: number of most probable classes to print", in_text=1, in_json=5
        ),
    )

    def outputs(self, manifest: Manifest) -> list[RequiredTensor]:
        """Return the required outputs: logits, probabilities or both, float32 ``[batch, labels]``."""
        names = [tensor.name for tensor in manifest.outputs]
        if not names or not set(names) <= set(CLASSIFIER_OUTPUTS) or len(set(names)) < len(names):
            raise BundleError(f"outputs {names}, expected {', '.join(CLASSIFIER_OUTPUTS)} or both")
        return [(tensor, "float32", ("batch", len(manifest.labels))) for tensor in manifest.outputs]

    def artifact_outputs(self, manifest: Manifest) -> list[tuple[str, ...]]:
        """Return each of the manifest's outputs by itself: an artifact computes exactly one."""
        return [(tensor.name,) for tensor in manifest.outputs]

    def results(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[Prediction]:
        """Yield the prediction for each image; logits are converted by softmax."""
        rows = outputs["probabilities"] if "probabilities" in outputs else softmax(outputs["logits"])
        for image, probabilities in zip(read, rows, strict=True):
            index = int(np.argmax(probabilities))
            yield Prediction(
                path=image.path,
                index=index,
                label=manifest.labels[index],
                confidence=float(probabilities[index]),
                probabilities=probabilities,
                labels=manifest.labels,
            )

    def differences(self, found: Outputs, expected: Outputs) -> dict[str, float]:
        """Return the largest absolute difference of each output."""
        return largest_differences(found, expected)

    def text(self, result: Prediction, options: OptionValues) -> str:
        """Format one line: path, then label and confidence of the ``top`` most probable classes."""
        ranked = ((result.labels[i], f"{result.probabilities[i]:.4f}") for i in _ranking(result, options["top"]))
        return columns(result.path, *(cell for pair in ranked for cell in pair))

    def json(self, result: Prediction, options: OptionValues) -> dict[str, Any]:
        """Return the most probable class and, under ``top``, the ``top`` most probable ones."""
        ranked = [
            {"label": result.labels[i], "index": i, "confidence": round(float(result.probabilities[i]), 6)}
            for i in _ranking(result, options["top"])
        ]
        return {"path": path_text(result.path), **ranked[0], "top": ranked}


def _ranking(prediction: Prediction, top: int) -> list[int]:
    ranking: list[int] = np.argsort(-prediction.probabilities, kind="stable")[:top].tolist()
    return ranking
