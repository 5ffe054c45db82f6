"""Classifiers: logits or averaged probabilities, judged by the images that change class."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
from torch import nn

from assay_deploy.bundle.difference import largest_differences
from assay_deploy.bundle.manifest import CLASSIFICATION, DENSE, PLAIN, TTA, Artifact, Tensor
from assay_deploy.images.canvas import View
from assay_export.formats.runner import Outputs
from assay_export.gate.tolerances import ON_TEST_SPLIT, TOLERANCES
from assay_export.tasks.task import WORST, Comparison, Worst, same_views
from assay_research.data.classification import ClassificationData
from assay_research.runs.trained import Trained
from assay_research.tasks.classification.dense import sliding
from assay_research.tasks.classification.views import Views

MEANINGS = {
    "logits": "unnormalised log-probabilities of the labels, from the first view or averaged over a dense map",
    "probabilities": "probabilities of the labels, averaged over all views",
}

NORMAL_95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Flip:
    """A test image that the artifact puts in another class than the eager model.

    Attributes:
        name: of the image.
        label: its class.
        eager: the eager model's answer.
        artifact: the artifact's answer.
        margin: by how much the eager model prefers its own answer to the artifact's, in the output's unit.
    """

    name: str
    label: str
    eager: str
    artifact: str
    margin: float


@dataclass(frozen=True)
class Top1:
    """How an artifact names the classes of n test images, beside the eager model.

    Attributes:
        n: number of test images.
        eager, artifact: fractions of them whose highest output is their class.
        difference: `artifact` less `eager`.
        interval: 95 % confidence interval of the difference on images like these; see `paired_interval`.
        drop_allowed: how much lower `artifact` may be.
        agreement: fraction of them that both put in one class.
        flips_allowed: how many may change class.
        flipped: those that do.
    """

    n: int
    eager: float
    artifact: float
    difference: float
    interval: tuple[float, float]
    drop_allowed: float
    agreement: float
    flips_allowed: int
    flipped: tuple[Flip, ...]

    def changed(self) -> str:
        """See `assay_export.tasks.task.Finding.changed`."""
        return f"{len(self.flipped)} of {self.n:,}, allowed {self.flips_allowed}"

    def difference_text(self) -> str:
        """See `assay_export.tasks.task.Finding.difference_text`."""
        low, high = self.interval
        return f"{self.difference:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"


def drop_allowed(n: int, precision: str) -> float:
    """How much lower top-1 on n images may be; one image is the smallest step there is."""
    return max(1 / n, ON_TEST_SPLIT[CLASSIFICATION, precision]["drop"])


def flips_allowed(n: int, precision: str) -> int:
    """How many of n test images may change class; one is the smallest step there is."""
    return max(1, int(n * ON_TEST_SPLIT[CLASSIFICATION, precision]["flips"]))


def paired_interval(lost: int, won: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of the difference of two accuracies on the same n images.

    Args:
        lost: images that the first alone gets right.
        won: images that the second alone gets right.
        n: images.

    Returns:
        Least and largest difference, second less first, after Agresti and Min, "Simple improved confidence intervals
        for comparing matched proportions", Statistics in Medicine 24 (2005): Wald's interval with half an image more
        in each of the four cells.
    """
    b, c, total = lost + 0.5, won + 0.5, n + 2
    difference = (c - b) / total
    half = NORMAL_95 * sqrt(max(b + c - (c - b) ** 2 / total, 0.0)) / total
    return max(difference - half, -1.0), min(difference + half, 1.0)


def _scores(found: Outputs) -> np.ndarray:
    (scores,) = found.values()
    return scores


class ClassifierExport:
    """An `assay_export.tasks.task.Task`: a class an image, judged by the images that change theirs."""

    name: ClassVar[str] = CLASSIFICATION
    metric: ClassVar[str] = "top1"
    metric_name: ClassVar[str] = "top-1"
    batch: ClassVar[int] = 256
    reference_batch: ClassVar[int] = 500
    labelled: ClassVar[bool] = True

    def outputs(self, look: str) -> tuple[str, ...]:
        """Names of what a graph gives that looks at images that way."""
        return ("probabilities",) if look == TTA else ("logits",)

    def described(self, trained: Trained, tta: bool) -> tuple[Tensor, ...]:
        """The outputs of all graphs, as the manifest describes them."""
        names = ("logits", "probabilities") if tta else ("logits",)
        return tuple(Tensor(name, "float32", ("batch", len(trained.classes)), MEANINGS[name]) for name in names)

    def eager(self, trained: Trained, look: str, dense: int | None) -> nn.Module:
        """The model as it was trained, looking at images that way: what every artifact has to equal.

        Args:
            trained: the model.
            look: `PLAIN`, `TTA` or `DENSE`.
            dense: of the last, the pixels between two answers.

        Raises:
            ExportError: the views do not fit the canvas.
            ConfigError: the model has no fully convolutional form.
        """
        if look == DENSE:
            assert dense is not None
            return Views(sliding(trained.model, dense), trained.canvas, [View()]).eval()
        views = trained.views[:1] if look == PLAIN else trained.views
        return same_views(lambda: Views(trained.model, trained.canvas, views), trained.canvas)

    def exported(self, trained: Trained, look: str, dense: int | None) -> nn.Module:
        """The graph that leaves; a classifier's leaves as it is."""
        return self.eager(trained, look, dense)

    def score(self, data: ClassificationData, found: Outputs) -> float:
        """Top-1 on the test split."""
        return float((_scores(found).argmax(1) == data.test.labels.numpy()).mean())

    def drop_allowed(self, n: int, precision: str) -> float:
        """See `Task.drop_allowed`; one image is the smallest step there is."""
        return drop_allowed(n, precision)

    def distance(self, found: Outputs, expected: Outputs) -> float:
        """How far the outputs of a float16 graph are from those in float32; 1 is the tolerance."""
        tolerances = TOLERANCES[CLASSIFICATION, "onnx", "fp16"]
        return max(each / tolerances[name] for name, each in largest_differences(found, expected).items())

    def compare(self, artifact: Artifact, data: ClassificationData, reference: Outputs, found: Outputs) -> Comparison:
        """Compare an artifact's answers to the test split with the eager model's.

        Args:
            artifact: which.
            data: the data set.
            reference: the eager model's outputs, ``[n, classes]``.
            found: the artifact's.
        """
        test, n = data.test, len(data.test)
        truth, (before, after) = test.labels.numpy(), (_scores(reference), _scores(found))
        eager_class, found_class = before.argmax(1), after.argmax(1)
        right, still = eager_class == truth, found_class == truth
        flipped = tuple(
            Flip(
                name=test.names[i],
                label=data.classes[truth[i]],
                eager=data.classes[eager_class[i]],
                artifact=data.classes[found_class[i]],
                margin=float(before[i, eager_class[i]] - before[i, found_class[i]]),
            )
            for i in np.flatnonzero(found_class != eager_class)
        )
        lost, won = int((right & ~still).sum()), int((~right & still).sum())
        finding = Top1(
            n=n,
            eager=float(right.mean()),
            artifact=float(still.mean()),
            difference=(won - lost) / n,
            interval=paired_interval(lost, won, n),
            drop_allowed=drop_allowed(n, artifact.precision),
            agreement=float((found_class == eager_class).mean()),
            flips_allowed=flips_allowed(n, artifact.precision),
            flipped=flipped,
        )
        reasons = []
        if len(flipped) > finding.flips_allowed:
            reasons.append(f"{len(flipped)} of {n} test images change class, allowed {finding.flips_allowed}")
        if lost - won > finding.drop_allowed * n + 1e-9:
            reasons.append(
                f"top-1 falls from {finding.eager:.4f} to {finding.artifact:.4f}, allowed {finding.drop_allowed:.4f}"
            )
        apart = np.abs(before - after).max(1) + 1e6 * (found_class != eager_class)  # what changes class comes first
        worst = tuple(
            Worst(
                index=int(i),
                name=test.names[i],
                difference=float(np.abs(before[i] - after[i]).max()),
                truth=data.classes[truth[i]],
                eager=f"{data.classes[eager_class[i]]} {before[i].max():.4f}",
                artifact=f"{data.classes[found_class[i]]} {after[i].max():.4f}",
            )
            for i in np.argsort(-apart, kind="stable")[:WORST]
        )
        return Comparison(finding, reasons, worst)
