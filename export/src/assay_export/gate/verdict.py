"""Verdicts of the parity gate on artifacts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay_export.errors import ExportError
from assay_export.formats.runner import Outputs
from assay_export.tasks.task import Finding, WorstImage


class ParityError(ExportError):
    """An artifact differs from the model by more than the tolerances, so no bundle was written.

    Attributes:
        verdicts: the gate's verdicts on every artifact, including those that passed.
    """

    def __init__(self, message: str, verdicts: "Sequence[Verdict]") -> None:
        super().__init__(message)
        self.verdicts = verdicts


DOES_NOT_RUN, TENSORS, TASK = "does not run", "tensors", "task"
"""Kinds of failure, the worst first: no or unusable outputs, outputs on the probe differ, predictions differ."""


@dataclass(frozen=True)
class Reference:
    """Outputs of the eager model on the CPU in float32.

    Attributes:
        probe: outputs for the probe images, by name.
        test: outputs for the test split, by name.
    """

    probe: Outputs
    test: Outputs


@dataclass(frozen=True)
class Verdict:
    """Result of the gate for one artifact in one engine on one device.

    Attributes:
        path, format, precision, views, dense, tolerances: the artifact's entries in the manifest.
        engine: engine that ran it: ``torch``, or one of `assay_deploy.engines.registry.ENGINES`.
        device: device that ran it: ``cpu`` or ``cuda``.
        passed: True if there are no failures.
        failures: kinds of the failures: `DOES_NOT_RUN`, `TENSORS`, `TASK`.
        reasons: descriptions of the failures.
        differences: difference of each output on the probe, see `assay_deploy.tasks.task.Task.differences`; None if it
            does not run.
        relative: the same as fractions of the eager model's largest value.
        task: the task's figures for the test split; None if it does not run.
        worst: the test images whose outputs differ most, the worst first.
        seconds: time of the proof.
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
    worst: tuple[WorstImage, ...]
    seconds: float
