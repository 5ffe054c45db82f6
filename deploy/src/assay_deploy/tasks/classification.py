"""Classification: a classifier's rules for a manifest, and its answer to an image as Python, text and JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.difference import largest_differences
from assay_deploy.bundle.manifest import CLASSIFICATION, SCORES_OF_CLASSES, Manifest
from assay_deploy.errors import BundleError
from assay_deploy.tasks.options import Option, Shown, positive
from assay_deploy.tasks.result import columns, named
from assay_deploy.tasks.task import Demanded, ImageInfo, Outputs


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        path: the image's file; None for bytes and arrays.
        index: of the most probable class.
        label: its name.
        confidence: its probability.
        probabilities: float32 ``[classes]``.
        labels: names of all classes, in the order of `probabilities`.
    """

    path: Path | None
    index: int
    label: str
    confidence: float
    probabilities: NDArray[np.float32]
    labels: tuple[str, ...]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities ``[batch, classes]`` of logits ``[batch, classes]``."""
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


class Classification:
    """Classifiers: a score for each label."""

    name = CLASSIFICATION
    holds = "classifier"
    dense = True
    options = (Option("top", "K", positive, "of a classifier: classes shown", in_text=1, in_json=5),)

    def outputs(self, manifest: Manifest) -> list[Demanded]:
        """Logits, probabilities or both, float32 ``[batch, labels]``."""
        names = [tensor.name for tensor in manifest.outputs]
        if not names or not set(names) <= set(SCORES_OF_CLASSES) or len(set(names)) < len(names):
            raise BundleError(f"outputs {names}, expected of {', '.join(SCORES_OF_CLASSES)}")
        return [(tensor, "float32", ("batch", len(manifest.labels))) for tensor in manifest.outputs]

    def computed(self, manifest: Manifest) -> list[tuple[str, ...]]:
        """Any one of the manifest's outputs."""
        return [(tensor.name,) for tensor in manifest.outputs]

    def answers(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[Prediction]:
        """The probabilities of each image, those of logits by softmax."""
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
        """The largest absolute difference of each output."""
        return largest_differences(found, expected)

    def text(self, result: Prediction, options: Shown) -> str:
        """One line: path, then label and confidence of the ``top`` likeliest classes."""
        ranked = ((result.labels[i], f"{result.probabilities[i]:.4f}") for i in _ranking(result, options["top"]))
        return columns(result.path, *(cell for pair in ranked for cell in pair))

    def json(self, result: Prediction, options: Shown) -> dict[str, Any]:
        """The likeliest class, and in ``top`` the likeliest ones."""
        ranked = [
            {"label": result.labels[i], "index": i, "confidence": round(float(result.probabilities[i]), 6)}
            for i in _ranking(result, options["top"])
        ]
        return {"path": named(result.path), **ranked[0], "top": ranked}


def _ranking(prediction: Prediction, top: int) -> list[int]:
    ranking: list[int] = np.argsort(-prediction.probabilities, kind="stable")[:top].tolist()
    return ranking
