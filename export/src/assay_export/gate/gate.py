"""The parity gate: an artifact whose outputs differ by more than rounding, or that changes answers, fails."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.tasks.registry import TASKS
from assay_export.formats import registry as formats
from assay_export.formats.places import Place
from assay_export.formats.runner import Outputs, answers, module_runner
from assay_export.gate.probe import for_test, probe_for
from assay_export.gate.verdict import DOES_NOT_RUN, TASK, TENSORS, Reference, Verdict
from assay_export.tasks.task import Task
from assay_research.data.protocol import Data

REASON_LENGTH = 400
"""Characters of an engine's own error that are kept; some add a stack of their own source code."""


def ask_eager(
    task: Task[Any], graph: nn.Module, look: str, probe: Tensor, data: Data, dense: int | None = None
) -> Reference:
    """The answers that every artifact has to give.

    Args:
        task: whose answers they are.
        graph: the eager model, looking at images that way.
        look: which way.
        probe: of `make_probe`.
        data: whose test split is asked for.
        dense: where it looks densely, the pixels between two answers.
    """
    run, images = module_runner(graph, task.outputs(look)), probe_for(look, probe)
    together = answers(run, images, len(images))
    return Reference(together, answers(for_test(run, dense), data.test.images, task.reference_batch))


def prove(
    folder: Path,
    manifest: Manifest,
    artifact: Artifact,
    place: Place,
    task: Task[Any],
    probe: Tensor,
    data: Data,
    reference: Reference,
) -> Verdict:
    """Run an artifact as its users will, and compare its answers with the eager model's.

    The probe goes through it in one batch and image by image, the test split in batches of another size and what
    is left over, so a graph that knows only one size of batch fails. A dense graph is shown both in other sizes.

    Args:
        folder: where the artifact is.
        manifest: of that folder; the artifact's hash is checked.
        artifact: which one.
        place: engine and device that run it.
        task: whose answers they are.
        probe: uint8 ``[images, height, width, 3]``.
        data: whose test split it has to answer.
        reference: the eager model's outputs, looking the same way.
    """
    start = time.perf_counter()
    images = probe_for(artifact.variant, probe)
    failures, reasons = [], []
    off = relative = compared = None
    try:
        run = formats.start(folder, manifest, artifact, place)
        together, alone = answers(run, images, len(images)), answers(run, images, 1)
        tested = answers(for_test(run, artifact.dense), data.test.images, task.batch)
        _check(together, reference.probe)
        _check(alone, reference.probe)
        _check(tested, reference.test)
    except Exception as error:  # whatever a broken graph makes its engine raise is the finding
        failures.append(DOES_NOT_RUN)
        reasons.append("does not run: " + " ".join(str(error).split())[:REASON_LENGTH])
    else:
        differences = TASKS[manifest.task].differences
        one, other = differences(together, reference.probe), differences(alone, reference.probe)
        off = {name: float(np.fmax(one[name], other[name])) for name in one}
        relative = {name: each / _scale(reference.probe[name]) for name, each in off.items()}
        for name, each in off.items():
            if not each <= artifact.tolerances[name]:
                failures.append(TENSORS)
                reasons.append(f"{name} differ by up to {each:.2g} on the probe, allowed {artifact.tolerances[name]:g}")
        compared = task.compare(artifact, data, reference.test, tested)
        failures += [TASK] * bool(compared.reasons)
        reasons += compared.reasons
    return Verdict(
        path=artifact.path,
        format=artifact.format,
        precision=artifact.precision,
        engine=place.engine,
        device=place.device,
        views=artifact.views,
        dense=artifact.dense,
        passed=not reasons,
        failures=tuple(dict.fromkeys(failures)),
        reasons=tuple(reasons),
        tolerances=artifact.tolerances,
        differences=off,
        relative=relative,
        task=compared.finding if compared else None,
        worst=compared.worst if compared else (),
        seconds=round(time.perf_counter() - start, 2),
    )


def _check(found: Outputs, expected: Outputs) -> None:
    """Refuse what cannot be compared."""
    shapes, wanted = ({name: list(array.shape) for name, array in each.items()} for each in (found, expected))
    if shapes != wanted:
        raise ValueError(f"gives outputs of the shapes {shapes}, expected {wanted}")
    if not all(np.isfinite(array).all() for array in found.values()):
        raise ValueError("gives outputs that are not finite")


def _scale(expected: np.ndarray) -> float:
    return max(float(np.abs(expected).max(initial=0)), 1e-12)
