"""Export of classifiers: logits or averaged probabilities, compared by the predicted classes of the test images."""

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
from assay_export.tasks.task import WORST_IMAGES, Comparison, WorstImage, build_graph
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
    """A test image for which artifact and eager model predict different classes.

    Attributes:
        name: name of the image.
        label: its true class.
        eager: class predicted by the eager model.
        artifact: class predicted by the artifact.
        margin: the eager model's output for its own class minus its output for the artifact's class.
    """

    name: str
    label: str
    eager: str
    artifact: str
    margin: float


@dataclass(frozen=True)
class Top1:
    """Comparison of an artifact's top-1 accuracy and predicted classes with the eager model's on n test images.

    Attributes:
        n: number of test images.
        eager, artifact: top-1 accuracy of the eager model and of the artifact, 0 to 1.
        difference: `artifact` minus `eager`.
        interval: 95 % confidence interval of the difference; see `paired_interval`.
        drop_allowed: largest allowed decrease of the accuracy.
        agreement: fraction of images with the same predicted class.
        flips_allowed: largest allowed number of images whose predicted class changes.
        flipped: the images whose predicted class changes.
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
    """Largest allowed decrease of top-1 on n images, at least that of one image."""
    return max(1 / n, ON_TEST_SPLIT[CLASSIFICATION, precision]["drop"])


def flips_allowed(n: int, precision: str) -> int:
    """Largest allowed number of n test images whose predicted class changes, at least 1."""
    return max(1, int(n * ON_TEST_SPLIT[CLASSIFICATION, precision]["flips"]))


def paired_interval(lost: int, won: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of the difference of two accuracies on the same n images.

    Args:
        lost: number of images that only the first model classifies correctly.
        won: number of images that only the second model classifies correctly.
        n: number of images.

    Returns:
        Least and largest difference, second minus first, after Agresti and Min, "Simple improved confidence intervals
        for comparing matched proportions", Statistics in Medicine 24 (2005): Wald's interval with half an image added
        to each of the four cells.
    """
    b, c, total = lost + 0.5, won + 0.5, n + 2
    difference = (c - b) / total
    half = NORMAL_95 * sqrt(max(b + c - (c - b) ** 2 / total, 0.0)) / total
    return max(difference - half, -1.0), min(difference + half, 1.0)


def _scores(found: Outputs) -> np.ndarray:
    (scores,) = found.values()
    return scores


class ClassifierExport:
    """Export of classifiers; see `assay_export.tasks.task.Task`."""

    name: ClassVar[str] = CLASSIFICATION
    metric: ClassVar[str] = "top1"
    metric_name: ClassVar[str] = "top-1"
    batch: ClassVar[int] = 256
    reference_batch: ClassVar[int] = 500
    labelled: ClassVar[bool] = True

    def outputs(self, variant: str) -> tuple[str, ...]:
        """Return the names of the outputs of a graph of that variant."""
        return ("probabilities",) if variant == TTA else ("logits",)

    def describe_outputs(self, trained: Trained, tta: bool) -> tuple[Tensor, ...]:
        """Return the descriptions of the outputs of all graphs, for the manifest; `tta` if there is such a graph."""
        names = ("logits", "probabilities") if tta else ("logits",)
        return tuple(Tensor(name, "float32", ("batch", len(trained.classes)), MEANINGS[name]) for name in names)

    def eager(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        """Return the eager module of a variant, which every artifact is compared with.

        Args:
            trained: the trained model.
            variant: `PLAIN`, `TTA` or `DENSE`.
            dense: stride of the dense graph in pixels; None for other variants.

        Raises:
            ExportError: the views do not fit the canvas.
            ConfigError: the model has no fully convolutional form.
        """
        if variant == DENSE:
            assert dense is not None
            return Views(sliding(trained.model, dense), trained.canvas, [View()]).eval()
        views = trained.views[:1] if variant == PLAIN else trained.views
        return build_graph(lambda: Views(trained.model, trained.canvas, views), trained.canvas)

    def exported(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        """Return the module to export; for classifiers it is the eager module."""
        return self.eager(trained, variant, dense)

    def score(self, data: ClassificationData, found: Outputs) -> float:
        """Return the top-1 accuracy on the test split."""
        return float((_scores(found).argmax(1) == data.test.labels.numpy()).mean())

    def drop_allowed(self, n: int, precision: str) -> float:
        """Largest allowed decrease of top-1 on n images, at least that of one image."""
        return drop_allowed(n, precision)

    def distance(self, found: Outputs, expected: Outputs) -> float:
        """Distance of a float16 graph's outputs from those in float32, as a multiple of the tolerance."""
        tolerances = TOLERANCES[CLASSIFICATION, "onnx", "fp16"]
        return max(each / tolerances[name] for name, each in largest_differences(found, expected).items())

    def compare(self, artifact: Artifact, data: ClassificationData, reference: Outputs, found: Outputs) -> Comparison:
        """Compare an artifact's predictions on the test split with the eager model's.

        Args:
            artifact: the artifact that gave the outputs.
            data: the data set.
            reference: the eager model's outputs, ``[n, classes]``.
            found: the artifact's outputs, ``[n, classes]``.
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
        order = np.abs(before - after).max(1) + 1e6 * (found_class != eager_class)  # changed classes first
        worst = tuple(
            WorstImage(
                index=int(i),
                name=test.names[i],
                difference=float(np.abs(before[i] - after[i]).max()),
                truth=data.classes[truth[i]],
                eager=f"{data.classes[eager_class[i]]} {before[i].max():.4f}",
                artifact=f"{data.classes[found_class[i]]} {after[i].max():.4f}",
            )
            for i in np.argsort(-order, kind="stable")[:WORST_IMAGES]
        )
        return Comparison(finding, reasons, worst)
