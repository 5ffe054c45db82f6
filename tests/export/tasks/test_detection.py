"""The gate passes a detector in every format, and fails it where the model is another one."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import BOXES, DETECTION, PLAIN, Artifact, Manifest, Tensor
from assay_deploy.images.canvas import View
from assay_export.formats.format import Request
from assay_export.formats.names import DEFAULT_FORMATS
from assay_export.formats.registry import FORMATS, default_place
from assay_export.gate.gate import prove, run_eager
from assay_export.gate.probe import make_probe
from assay_export.gate.tolerances import TOLERANCES
from assay_export.gate.verdict import TASK, TENSORS, Verdict
from assay_export.tasks.registry import TASKS
from assay_research.models.normalized import Normalized
from assay_research.runs.trained import Trained
from tests.export.graphs.test_detector import trained
from tests.research.detectors import CANVAS, data


def subject() -> Trained:
    return Trained(copy.deepcopy(trained("retinanet_small")), ("bright", "dark"), CANVAS, (View(),))


@cache
def content(form: str) -> bytes:
    graph = TASKS[DETECTION].exported(subject(), PLAIN, None)
    return FORMATS[form].make(Request(graph, data().test.images[:2], BOXES, {"run": "a/1"}, False, "model")).content


def judge(form: str, manifest: Manifest, eager: Trained, folder: Path) -> Verdict:
    """The gate's verdict on the export of `subject`, beside another model."""
    made = FORMATS[form]
    artifact = Artifact(
        format=made.format,
        precision="fp32",
        device=made.device,
        views=1,
        dense=None,
        outputs=BOXES,
        tolerances=TOLERANCES[DETECTION, made.format, "fp32"],
        reproducible=made.reproducible,
        requires={},
        path=made.path(PLAIN),
        sha256=sha256(content(form)),
    )
    images = Tensor("images", "uint8", ("batch", CANVAS.height, CANVAS.width, 3), "")
    described = replace(
        manifest,
        task=DETECTION,
        inputs=(images,),
        outputs=TASKS[DETECTION].describe_outputs(eager, False),
        preprocess=CANVAS,
    )
    (folder / artifact.path).write_bytes(content(form))
    squares, probe = data(), make_probe(data().test.images)
    reference = run_eager(TASKS[DETECTION], TASKS[DETECTION].eager(eager, PLAIN, None), PLAIN, probe, squares)
    return prove(
        folder, described, artifact, default_place(artifact, "cpu"), TASKS[DETECTION], probe, squares, reference
    )


def scaled_boxes(model: Normalized) -> None:
    model.get_submodule("network.model.head.regression_head.bbox_reg").weight.mul_(1.05)


def scaled_scores(model: Normalized) -> None:
    model.get_submodule("network.model.head.classification_head.cls_logits").weight.mul_(1.01)


def swapped_labels(model: Normalized) -> None:
    logits = model.get_submodule("network.model.head.classification_head.cls_logits")
    assert isinstance(logits, nn.Conv2d)
    assert logits.bias is not None
    for each in (logits.weight, logits.bias):
        each.copy_(each.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))  # an anchor's classes follow each other


@pytest.mark.parametrize("form", DEFAULT_FORMATS)
def test_what_was_exported_passes(form: str, bundle, tmp_path: Path) -> None:
    verdict = judge(form, bundle.manifest, subject(), tmp_path)
    assert verdict.reasons == ()
    assert verdict.task.pairs > 50


@pytest.mark.parametrize("form", DEFAULT_FORMATS)
@pytest.mark.parametrize("fault", [scaled_boxes, scaled_scores, swapped_labels])
def test_another_model_fails(form: str, fault: Callable[[Normalized], None], bundle, tmp_path: Path) -> None:
    other = subject()
    with torch.no_grad():
        fault(other.model)
    assert judge(form, bundle.manifest, other, tmp_path).failures == (TENSORS, TASK)
