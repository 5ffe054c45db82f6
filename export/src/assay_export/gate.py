"""The parity gate: an artifact whose outputs differ by more than rounding, or that changes answers, fails."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay_deploy.bundle import Artifact, Manifest, read_verified
from assay_deploy.session import Session
from assay_export import torchscript
from assay_research.data import Split
from assay_research.evaluation import predict
from assay_research.views import Views

Outputs = NDArray[np.float32]
Runner = Callable[[NDArray[np.uint8]], Outputs]

TOLERANCES = {
    # The same kernels as eager. What differs is rounding, where a batch of one takes another algorithm than a
    # batch of nineteen: up to 1.9e-5 on logits up to 16 (TinyVGG A, C and E, with and without BatchNorm, trained).
    ("torchscript", "logits"): 2e-4,
    # Other kernels, and BatchNorm folded into weights: up to 1.6e-5 on the same models on the same processor. The
    # bundle is replayed with this tolerance on others, and on GPUs, whose sums run in yet another order. A kernel
    # scaled by 1.01, the smallest fault the tests plant, moves a logit by 2e-1.
    ("onnx", "logits"): 1e-3,
    # Soft-max and the average shrink rounding: up to 3.5e-6 on the same models; the kernel above moves 2e-2.
    ("onnx", "probabilities"): 1e-4,
}
"""Largest absolute difference from the eager model on the probe, by format and output."""

FLIPS_PER_PICTURE = 5 / 10_000
"""How many test pictures may change class: accuracy then stays within 0.05 points. Rounding alone flips a picture
only where two classes tie to five digits; the smallest planted fault flips 1 in 70."""

PROBE_PICTURES = 16
"""Of the test split, in the probe: enough to show all classes of a small data set, few enough to ship."""

BATCH = 256
"""Test pictures given to an artifact at once. Not the reference's batch, so that batches are proven not to matter."""

REASON_LENGTH = 400
"""Characters of an engine's own error that are kept; some add a stack of their own source code."""


@dataclass(frozen=True)
class Reference:
    """What the eager model answers, on the CPU, in float32: ``[pictures, classes]`` each.

    Attributes:
        probe: to the probe's pictures.
        test: to the test split.
    """

    probe: Outputs
    test: Outputs


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
class Verdict:
    """What the gate found about one artifact.

    Attributes:
        path, format, output, views, tolerance: the artifact's, from the manifest.
        passed: whether there is no reason against it.
        reasons: in words, what is wrong with it.
        probe_max_abs_diff: largest absolute difference on the probe; None if there are no numbers to compare.
        n: number of test pictures.
        top1_eager, top1_artifact: fractions of them whose highest output is their class.
        accuracy_difference: `top1_artifact` less `top1_eager`.
        agreement: fraction of them that both put in one class.
        flips_allowed: how many may change class.
        flipped: those that do.
    """

    path: str
    format: str
    output: str
    views: int
    passed: bool
    reasons: tuple[str, ...]
    probe_max_abs_diff: float | None
    tolerance: float
    n: int
    top1_eager: float
    top1_artifact: float | None
    accuracy_difference: float | None
    agreement: float | None
    flips_allowed: int
    flipped: tuple[Flip, ...]


def flips_allowed(n: int) -> int:
    """How many of n test pictures may change class; one is the smallest step there is.

    Accuracy cannot then differ by more than that many pictures either.
    """
    return max(1, int(n * FLIPS_PER_PICTURE))


def make_probe(test: Split) -> Tensor:
    """A few pictures that show a fault: test pictures from all over the split, black, white and coloured noise.

    Noise matters where the data set is grey: there the channels could be swapped and no test picture would tell.

    Returns:
        uint8 ``[pictures, height, width, 3]``, the same for the same split.
    """
    images = test.images
    chosen = images[torch.linspace(0, len(images) - 1, min(PROBE_PICTURES, len(images))).long()]
    noise = np.random.default_rng(0).integers(0, 256, images.shape[1:], dtype=np.uint8)
    extremes = [torch.zeros_like(images[0]), torch.full_like(images[0], 255), torch.from_numpy(noise)]
    return torch.cat([chosen, torch.stack(extremes)])


def ask_eager(graph: Views, probe: Tensor, test: Split) -> Reference:
    """The answers that every artifact has to give."""
    with torch.inference_mode():
        answers = graph.eval()(probe).numpy()
    return Reference(answers, predict(graph, test, torch.device("cpu")).numpy())


def prove(
    folder: Path, manifest: Manifest, artifact: Artifact, probe: Tensor, test: Split, reference: Reference
) -> Verdict:
    """Run an artifact as its users will, and compare its answers with the eager model's.

    The probe goes through it in one batch and picture by picture, the test split in batches of `BATCH` and what
    is left over, so a graph that knows only one size of batch fails.

    Args:
        folder: where the artifact is.
        manifest: of that folder; the artifact's hash is checked.
        artifact: which one.
        probe: uint8 ``[pictures, height, width, 3]``.
        test: the test split.
        reference: the eager model's outputs for the same views.
    """
    found, reasons = None, []
    try:
        run = _runner(folder, manifest, artifact)
        together, alone = _answers(run, probe, len(probe)), _answers(run, probe, 1)
        tested = _answers(run, test.images, BATCH)
    except Exception as error:  # whatever a broken graph makes its engine raise is the finding
        reasons.append("does not run: " + " ".join(str(error).split())[:REASON_LENGTH])
    else:
        shapes = [list(outputs.shape) for outputs in (together, alone, tested)]
        expected = [list(outputs.shape) for outputs in (reference.probe, reference.probe, reference.test)]
        if shapes != expected:
            reasons.append(f"gives outputs of the shapes {shapes}, expected {expected}")
        elif not all(np.isfinite(outputs).all() for outputs in (together, alone, tested)):
            reasons.append("gives outputs that are not finite")
        else:
            difference = np.abs(np.stack([together, alone]) - reference.probe).max()
            found = float(difference), tested
    return _judge(artifact, manifest.labels, test, reference, found, reasons)


def _runner(folder: Path, manifest: Manifest, artifact: Artifact) -> Runner:
    """The code that users run the artifact with, on the CPU as the reference is, whatever else the machine has."""
    if artifact.format == "onnx":
        return Session.load(folder, manifest, artifact, provider="cpu").run
    module = torchscript.load(read_verified(folder, artifact))

    def run(images: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            outputs: Outputs = module(torch.from_numpy(images)).numpy()
        return outputs

    return run


def _answers(run: Runner, images: Tensor, batch: int) -> Outputs:
    return np.concatenate([run(part.numpy()) for part in images.split(batch)])


def _judge(
    artifact: Artifact,
    labels: tuple[str, ...],
    test: Split,
    reference: Reference,
    found: tuple[float, Outputs] | None,
    reasons: list[str],
) -> Verdict:
    """Weigh what was found, the largest difference on the probe and the test outputs, or why there is nothing."""
    n, allowed = len(test), flips_allowed(len(test))
    truth, eager = test.labels.numpy(), reference.test.argmax(1)
    top1_eager = float((eager == truth).mean())
    difference = top1 = agreement = None
    flipped: tuple[Flip, ...] = ()
    if found is not None:
        difference, outputs = found
        answers = outputs.argmax(1)
        top1, agreement = float((answers == truth).mean()), float((answers == eager).mean())
        flipped = tuple(
            Flip(
                name=test.names[i],
                label=labels[truth[i]],
                eager=labels[eager[i]],
                artifact=labels[answers[i]],
                margin=float(reference.test[i, eager[i]] - reference.test[i, answers[i]]),
            )
            for i in np.flatnonzero(answers != eager)
        )
        if difference > artifact.tolerance:
            reasons.append(
                f"{artifact.output} differ by up to {difference:.2g} on the probe, allowed {artifact.tolerance:g}"
            )
        if len(flipped) > allowed:
            reasons.append(f"{len(flipped)} of {n} test pictures change class, allowed {allowed}")
    return Verdict(
        path=artifact.path,
        format=artifact.format,
        output=artifact.output,
        views=artifact.views,
        passed=not reasons,
        reasons=tuple(reasons),
        probe_max_abs_diff=difference,
        tolerance=artifact.tolerance,
        n=n,
        top1_eager=top1_eager,
        top1_artifact=top1,
        accuracy_difference=None if top1 is None else top1 - top1_eager,
        agreement=agreement,
        flips_allowed=allowed,
        flipped=flipped,
    )
