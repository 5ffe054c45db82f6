"""The parity gate: an artifact fails if its outputs differ by more than rounding or if its predictions change."""

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
from assay_export.gate.probe import probe_for, runner_for_test
from assay_export.gate.verdict import DOES_NOT_RUN, TASK, TENSORS, Reference, Verdict
from assay_export.tasks.task import Task
from assay_research.data.protocol import Data

REASON_LENGTH = 400
"""Largest number of characters quoted from an engine's error message; some contain a stack trace."""


def run_eager(
    task: Task[Any], graph: nn.Module, variant: str, probe: Tensor, data: Data, dense: int | None = None
) -> Reference:
    """Run the eager model on the probe and the test split, to get the outputs that every artifact must reproduce.

    Args:
        task: the model's task.
        graph: the eager model of that variant.
        variant: `PLAIN`, `TTA` or `DENSE`.
        probe: images of `make_probe`, uint8 ``[images, height, width, 3]``.
        data: the data set.
        dense: stride of the dense graph in pixels; None for other variants.
    """
    run, images = module_runner(graph, task.outputs(variant)), probe_for(variant, probe)
    together = answers(run, images, len(images))
    return Reference(together, answers(runner_for_test(run, dense), data.test.images, task.reference_batch))


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
    """Run an artifact with the code that its users run, and compare its outputs with the eager model's.

    The probe is run in one batch and image by image, the test split in batches of another size with a smaller last
    batch, so a graph with a fixed batch size fails. A dense graph gets both in larger sizes.

    Args:
        folder: the artifact's folder.
        manifest: the manifest of that folder; the artifact's hash is checked.
        artifact: the artifact to prove.
        place: the engine and device that run it.
        task: the model's task.
        probe: uint8 ``[images, height, width, 3]``.
        data: the data set, whose test split is run.
        reference: the eager model's outputs for the same variant.
    """
    start = time.perf_counter()
    images = probe_for(artifact.variant, probe)
    failures, reasons = [], []
    off = relative = compared = None
    try:
        run = formats.start(folder, manifest, artifact, place)
        together, single = answers(run, images, len(images)), answers(run, images, 1)
        tested = answers(runner_for_test(run, artifact.dense), data.test.images, task.batch)
        _check(together, reference.probe)
        _check(single, reference.probe)
        _check(tested, reference.test)
    except Exception as error:  # an engine may raise anything for a broken graph; it is part of the verdict
        failures.append(DOES_NOT_RUN)
        reasons.append("does not run: " + " ".join(str(error).split())[:REASON_LENGTH])
    else:
        differences = TASKS[manifest.task].differences
        one, other = differences(together, reference.probe), differences(single, reference.probe)
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
    """Raise ValueError if shapes differ or a value is not finite."""
    shapes, wanted = ({name: list(array.shape) for name, array in each.items()} for each in (found, expected))
    if shapes != wanted:
        raise ValueError(f"gives outputs of the shapes {shapes}, expected {wanted}")
    if not all(np.isfinite(array).all() for array in found.values()):
        raise ValueError("gives outputs that are not finite")


def _scale(expected: np.ndarray) -> float:
    return max(float(np.abs(expected).max(initial=0)), 1e-12)
