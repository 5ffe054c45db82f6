"""Detectors: padded boxes, judged by the boxes that lose their partner and by mean average precision."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from assay_deploy.bundle.difference import Match, differences, match_detections
from assay_deploy.bundle.manifest import BOXES, DETECTION, PLAIN, Artifact, Tensor
from assay_deploy.pictures.canvas import View
from assay_export.errors import ExportError
from assay_export.formats.runner import Outputs
from assay_export.graphs.detector import exportable
from assay_export.tasks.task import WORST, Weighed, Worst, same_views
from assay_research.data.detection import DetectionData
from assay_research.models.boxes import Detections
from assay_research.models.normalized import Normalized
from assay_research.runs.trained import Trained
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.views import BoxViews

NAME = DETECTION

METRIC = "map"

BATCH = 8
"""Test pictures given to an artifact at once. Not the reference's batch, so that batches are proven not to matter."""

REFERENCE_BATCH = 4

_FP32 = {"boxes": 0.05, "scores": 1e-3, "labels": 0.01}

TOLERANCES = {
    ("torchscript", "fp32"): _FP32,
    ("exported_program", "fp32"): _FP32,
    ("onnx", "fp32"): _FP32,
    ("aoti", "fp32"): _FP32,
    # The network rounded after every layer as a GPU does it, emulated on a CPU; RetinaNet on drawn diatoms, 192x256.
    # 99 of 100 pairs are within 0.09 pixels and 8e-4. The others are flips: of two boxes of like scores that overlap
    # rounding decides which suppresses the other. Those are a tenth of a side apart, whatever rounds: up to 3.1 pixels,
    # 0.047 and 1.3 % on the probe, 6.1 and 0.17 on the test split, most of them where two views are fused. Twenty
    # pixels are for sides of 200. Flips hide what is typical, which TYPICAL holds much closer.
    ("onnx", "fp16"): {"boxes": 20.0, "scores": 0.3, "labels": 0.05},
}
"""Largest difference from the eager model on the probe, by format and precision, then output: canvas pixels, score, and
the share of all scores that belongs to boxes without a partner. A box that lies within rounding of a threshold, or of
the overlap at which another suppresses it, may be there or not."""

DROP = {"fp32": 1e-3, "fp16": 2e-3}
"""By how much mAP may be lower than the eager model's. In emulated float16 it moved by 1.5e-4 at most."""

ALONE = {"fp32": 0.01, "fp16": 0.02}
"""Which share of all scores on the test split may belong to boxes without a partner. In emulated float16 it was 0.4 %
at most."""

TYPICAL = {"boxes": 0.1, "scores": 2e-3}
"""How far pairs may be apart on average, canvas pixels and score, in any precision. In emulated float16 it was 0.011
and 1.6e-4 at most; to scale a last layer by 1.01 moves it to 0.16 or 4e-3."""


@dataclass(frozen=True)
class Boxes:
    """What an artifact finds in n test pictures, beside the eager model.

    Attributes:
        n: number of test pictures.
        eager, artifact: COCO's mean average precision at IoU 0.50 to 0.95.
        difference: `artifact` less `eager`.
        drop_allowed: how much lower `artifact` may be.
        pairs: boxes that both find.
        mean_iou, least_iou: of the pairs; 1 where there is none.
        alone: boxes that only one of them finds.
        alone_share: their share of all scores.
        alone_allowed: how much of them there may be.
    """

    n: int
    eager: float
    artifact: float
    difference: float
    drop_allowed: float
    pairs: int
    mean_iou: float
    least_iou: float
    alone: int
    alone_share: float
    alone_allowed: float


def outputs(look: str) -> tuple[str, ...]:  # noqa: ARG001 - the same for any
    """Names of what a graph gives."""
    return BOXES


def described(trained: Trained, tta: bool) -> tuple[Tensor, ...]:  # noqa: ARG001 - the same with and without
    """The outputs of all graphs, as the manifest describes them."""
    assert isinstance(trained.model, Normalized)
    places = trained.model.network.detections
    assert isinstance(places, int)
    return (
        Tensor("boxes", "float32", ("batch", places, 4), "left, top, right, bottom in canvas pixels, 0 where empty"),
        Tensor("scores", "float32", ("batch", places), "falling, from 0 to 1; 0 where empty"),
        Tensor("labels", "int64", ("batch", places), "indices of the labels; -1 where empty"),
    )


def eager(trained: Trained, look: str, dense: int | None) -> nn.Module:
    """The model as it was trained, looking at pictures that way: what every artifact has to equal.

    Raises:
        ExportError: the views do not fit the canvas, or there is to be a dense graph.
    """
    views = _views(trained, look, dense)
    return same_views(lambda: BoxViews(trained.model, trained.canvas, views), trained.canvas)


def exported(trained: Trained, look: str, dense: int | None) -> nn.Module:
    """The graph that leaves: the same weights, with selections of fixed size.

    Raises:
        ExportError: the views do not fit the canvas, or there is to be a dense graph.
    """
    model, views = trained.model, _views(trained, look, dense)
    assert isinstance(model, Normalized)
    return same_views(lambda: exportable(model, trained.canvas, views), trained.canvas)


def _views(trained: Trained, look: str, dense: int | None) -> tuple[View, ...]:
    if dense is not None:
        raise ExportError("dense= is for classifiers; this run has trained a detector")
    return trained.views[:1] if look == PLAIN else trained.views


def score(data: DetectionData, found: Outputs) -> float:
    """Mean average precision on the test split."""
    tensors = Detections(*(torch.from_numpy(found[name]) for name in BOXES))
    pictures = [tensors.picture(i) for i in range(len(data.test))]
    return measure(pictures, data.test, data.canvas, data.classes).map


def drop_allowed(n: int, precision: str) -> float:  # noqa: ARG001 - the same for any number
    """By how much mAP on n pictures may fall."""
    return DROP[precision]


def apart(found: Outputs, expected: Outputs) -> float:
    """How far the detections of a float16 graph are from those in float32; 1 is as far as the gate lets them be.

    By averages and shares, not by the largest difference: that is a flip's, which no block kept in float32 prevents.
    """
    match = match_detections(found, expected)
    typical = _typical(match)
    return float(np.max([match.alone_share / ALONE["fp16"], *(typical[name] / TYPICAL[name] for name in TYPICAL)]))


def weigh(artifact: Artifact, data: DetectionData, reference: Outputs, found: Outputs) -> Weighed:
    """Compare what an artifact finds in the test split with what the eager model finds.

    Args:
        artifact: which.
        data: the data set.
        reference: the eager model's outputs.
        found: the artifact's.
    """
    before, after = score(data, reference), score(data, found)
    match = match_detections(found, reference)
    finding = Boxes(
        n=len(data.test),
        eager=before,
        artifact=after,
        difference=after - before,
        drop_allowed=drop_allowed(len(data.test), artifact.precision),
        pairs=len(match.ious),
        mean_iou=float(match.ious.mean()) if len(match.ious) else 1.0,
        least_iou=float(match.ious.min(initial=1.0)),
        alone=len(match.alone),
        alone_share=match.alone_share,
        alone_allowed=ALONE[artifact.precision],
    )
    reasons = []
    if not before - after <= finding.drop_allowed and not np.isnan(before):
        reasons.append(f"mAP falls from {before:.4f} to {after:.4f}, allowed {finding.drop_allowed:g}")
    if not finding.alone_share <= finding.alone_allowed:
        reasons.append(
            f"{finding.alone} boxes on the test pictures, {finding.alone_share:.2%} of all scores, are found by one of "
            f"eager and artifact alone, allowed {finding.alone_allowed:.0%}"
        )
    for name, mean in _typical(match).items():
        if not mean <= TYPICAL[name]:
            reasons.append(f"{name} on the test pictures differ by {mean:.2g} on average, allowed {TYPICAL[name]:g}")
    return Weighed(finding, reasons, _worst(data, reference, found))


def _typical(match: Match) -> dict[str, float]:
    """Mean differences of the pairs."""
    pairs = max(len(match.ious), 1)
    return {"boxes": float(match.boxes.sum() / pairs), "scores": float(match.scores.sum() / pairs)}


def _worst(data: DetectionData, reference: Outputs, found: Outputs) -> tuple[Worst, ...]:
    """The pictures with the largest share of boxes without a partner, then with the boxes farthest apart."""
    apart = []
    for i in range(len(data.test)):
        one, other = ({name: each[name][i : i + 1] for name in BOXES} for each in (found, reference))
        difference = differences(one, other)
        apart.append((difference["labels"], difference["boxes"], i))
    return tuple(
        Worst(
            index=i,
            name=data.test.names[i],
            difference=share,
            truth=f"{len(data.test.boxes[i])} objects",
            eager=f"{int((reference['labels'][i] >= 0).sum())} boxes",
            artifact=f"{int((found['labels'][i] >= 0).sum())} boxes, up to {pixels:.2g} pixels apart",
            eager_boxes=_boxes(reference, i),
            artifact_boxes=_boxes(found, i),
        )
        for share, pixels, i in sorted(apart, key=lambda each: (-each[0], -each[1], each[2]))[:WORST]
    )


def _boxes(found: Outputs, index: int) -> tuple[tuple[float, ...], ...]:
    boxes, scores, labels = (found[name][index] for name in BOXES)
    return tuple(
        (*(round(float(side), 2) for side in box), round(float(score), 4), int(label))
        for box, score, label in zip(boxes, scores, labels, strict=True)
        if label >= 0
    )
