"""Classifiers: logits or averaged probabilities, judged by the pictures that change class."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from torch import nn

from assay_deploy.bundle.difference import differences
from assay_deploy.bundle.manifest import CLASSIFICATION, DENSE, PLAIN, TTA, Artifact, Tensor
from assay_deploy.pictures.canvas import View
from assay_export.formats.runner import Outputs
from assay_export.tasks.task import WORST, Weighed, Worst, same_views
from assay_research.data.classification import ClassificationData
from assay_research.runs.trained import Trained
from assay_research.tasks.classification.dense import sliding
from assay_research.tasks.classification.views import Views

NAME = CLASSIFICATION

METRIC = "top1"

BATCH = 256
"""Test pictures given to an artifact at once. Not the reference's batch, so that batches are proven not to matter."""

REFERENCE_BATCH = 500

TOLERANCES = {
    # The same kernels as eager. What differs is rounding, where a batch of one takes another algorithm than a
    # batch of nineteen: up to 1.9e-5 on logits up to 16 (TinyVGG A, C and E, with and without BatchNorm, trained).
    # Soft-max and the average over views shrink it to a tenth.
    ("torchscript", "fp32"): {"logits": 2e-4, "probabilities": 1e-4},
    ("exported_program", "fp32"): {"logits": 2e-4, "probabilities": 1e-4},
    # Other kernels, and BatchNorm folded into weights: up to 1.6e-5 on the same models on the same processor. The
    # bundle is replayed with this tolerance on others, and on GPUs, whose sums run in yet another order. A kernel
    # scaled by 1.01, the smallest fault the tests plant, moves a logit by 2e-1 and a probability by 2e-2.
    ("onnx", "fp32"): {"logits": 1e-3, "probabilities": 1e-4},
    ("aoti", "fp32"): {"logits": 1e-3, "probabilities": 1e-4},
    # Rounded after every layer as a GPU does it: up to 0.020 of 20.8 and 0.0037 on TinyVGG D and ResNet-14, on a CPU.
    ("onnx", "fp16"): {"logits": 0.1, "probabilities": 0.02},
    # 8 bits a weight and an activation: up to 0.72 of 20.8 and 0.084 on TinyVGG D and ResNet-14, trained on digits.
    ("onnx", "int8"): {"logits": 1.5, "probabilities": 0.2},
}
"""Largest absolute difference from the eager model on the probe, by format and precision, then output."""

FLIPS = {"fp32": 5e-4, "fp16": 5e-3, "int8": 0.05}
"""Which share of the test pictures may change class. In fp32 rounding alone flips a picture only where two classes tie
to five digits; the smallest planted fault flips 1 in 70."""

DROP = {"fp32": 5e-4, "fp16": 2e-3, "int8": 1e-2}
"""By how much top-1 may be lower than the eager model's; one picture may always be lost."""

MEANINGS = {
    "logits": "unnormalised log-probabilities of the labels, from the first view or averaged over a dense map",
    "probabilities": "probabilities of the labels, averaged over all views",
}

NORMAL_95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Flip:
    """A test picture that the artifact puts in another class than the eager model.

    Attributes:
        name: of the picture.
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
    """How an artifact names the classes of n test pictures, beside the eager model.

    Attributes:
        n: number of test pictures.
        eager, artifact: fractions of them whose highest output is their class.
        difference: `artifact` less `eager`.
        interval: 95 % confidence interval of the difference on pictures like these; see `paired_interval`.
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


def outputs(look: str) -> tuple[str, ...]:
    """Names of what a graph gives that looks at pictures that way."""
    return ("probabilities",) if look == TTA else ("logits",)


def described(trained: Trained, tta: bool) -> tuple[Tensor, ...]:
    """The outputs of all graphs, as the manifest describes them."""
    names = ("logits", "probabilities") if tta else ("logits",)
    return tuple(Tensor(name, "float32", ("batch", len(trained.classes)), MEANINGS[name]) for name in names)


def eager(trained: Trained, look: str, dense: int | None) -> nn.Module:
    """The model as it was trained, looking at pictures that way: what every artifact has to equal.

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


exported = eager
"""The graph that leaves; a classifier's leaves as it is."""


def score(data: ClassificationData, found: Outputs) -> float:
    """Top-1 on the test split."""
    return float((_scores(found).argmax(1) == data.test.labels.numpy()).mean())


def flips_allowed(n: int, precision: str) -> int:
    """How many of n test pictures may change class; one is the smallest step there is."""
    return max(1, int(n * FLIPS[precision]))


def drop_allowed(n: int, precision: str) -> float:
    """By how much top-1 on n pictures may fall; one picture is the smallest step there is."""
    return max(1 / n, DROP[precision])


def apart(found: Outputs, expected: Outputs) -> float:
    """How far the outputs of a float16 graph are from those in float32; 1 is the tolerance."""
    tolerances = TOLERANCES["onnx", "fp16"]
    return max(each / tolerances[name] for name, each in differences(found, expected).items())


def weigh(artifact: Artifact, data: ClassificationData, reference: Outputs, found: Outputs) -> Weighed:
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
        reasons.append(f"{len(flipped)} of {n} test pictures change class, allowed {finding.flips_allowed}")
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
    return Weighed(finding, reasons, worst)


def paired_interval(lost: int, won: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of the difference of two accuracies on the same n pictures.

    Args:
        lost: pictures that the first alone gets right.
        won: pictures that the second alone gets right.
        n: pictures.

    Returns:
        Least and largest difference, second less first, after Agresti and Min, "Simple improved confidence intervals
        for comparing matched proportions", Statistics in Medicine 24 (2005): Wald's interval with half a picture more
        in each of the four cells.
    """
    b, c, total = lost + 0.5, won + 0.5, n + 2
    difference = (c - b) / total
    half = NORMAL_95 * sqrt(max(b + c - (c - b) ** 2 / total, 0.0)) / total
    return max(difference - half, -1.0), min(difference + half, 1.0)


def _scores(found: Outputs) -> np.ndarray:
    (scores,) = found.values()
    return scores
