"""The gate's verdict on an artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay_export.errors import ExportError
from assay_export.formats.runner import Outputs
from assay_export.tasks.task import Finding, Worst


class ParityError(ExportError):
    """An artifact that is not the model it came from; there is no bundle.

    Attributes:
        verdicts: the gate's on every artifact, those that passed too.
    """

    def __init__(self, message: str, verdicts: "Sequence[Verdict]") -> None:
        super().__init__(message)
        self.verdicts = verdicts


DOES_NOT_RUN, TENSORS, TASK = "does not run", "tensors", "task"
"""Kinds of failure: the worst first."""


@dataclass(frozen=True)
class Reference:
    """What the eager model answers, on the CPU, in float32.

    Attributes:
        probe: outputs by name for the probe's images.
        test: the same for the test split.
    """

    probe: Outputs
    test: Outputs


@dataclass(frozen=True)
class Verdict:
    """What the gate found about one artifact on one device.

    Attributes:
        path, format, precision, views, dense, tolerances: the artifact's, from the manifest.
        engine: what ran it: ``torch``, or one of `assay_deploy.engines.registry.ENGINES`.
        device: where it ran, ``cpu`` or ``cuda``.
        passed: whether there is no reason against it.
        failures: the kinds of what is wrong: `DOES_NOT_RUN`, `TENSORS`, `TASK`.
        reasons: the same in words.
        differences: of each output on the probe, see `assay_deploy.tasks.task.Task.differences`; None if there are no
            numbers to compare.
        relative: the same as parts of the largest value the eager model gives.
        task: the task's figures of its answers to the test split; None if there are none.
        worst: test images whose answers are farthest apart.
        seconds: what the proof took.
    """

    path: str
    format: str
    precision: str
    engine: str
    device: str
    views: int
    dense: int | None
    passed: bool
    failures: tuple[str, ...]
    reasons: tuple[str, ...]
    tolerances: Mapping[str, float]
    differences: Mapping[str, float] | None
    relative: Mapping[str, float] | None
    task: Finding | None
    worst: tuple[Worst, ...]
    seconds: float
