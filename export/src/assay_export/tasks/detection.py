"""Export of detectors: padded boxes, compared by unmatched boxes and by mean average precision."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from assay_deploy.bundle.difference import DetectionMatch, detection_differences, match_detections
from assay_deploy.bundle.manifest import BOXES, DETECTION, PLAIN, Artifact, Tensor
from assay_deploy.images.canvas import View
from assay_export.errors import ExportError
from assay_export.formats.runner import Outputs
from assay_export.gate.tolerances import ON_TEST_SPLIT
from assay_export.graphs.detector import exportable
from assay_export.tasks.task import WORST_IMAGES, Comparison, WorstImage, build_graph
from assay_research.data.detection import DetectionData
from assay_research.models.boxes import Detections
from assay_research.models.normalized import Normalized
from assay_research.runs.trained import Trained
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.views import BoxViews


@dataclass(frozen=True)
class Boxes:
    """Comparison of an artifact's boxes with the eager model's on n test images.

    Attributes:
        n: number of test images.
        eager, artifact: COCO's mean average precision at IoU 0.50 to 0.95, of the eager model and of the artifact.
        difference: `artifact` minus `eager`.
        drop_allowed: largest allowed decrease of the mean average precision.
        pairs: number of matched pairs of boxes.
        mean_iou, least_iou: mean and least IoU of the pairs; 1 if there is none.
        unmatched: number of boxes without a partner, of both models.
        unmatched_share: their share of the sum of all scores.
        unmatched_allowed: largest allowed share.
    """

    n: int
    eager: float
    artifact: float
    difference: float
    drop_allowed: float
    pairs: int
    mean_iou: float
    least_iou: float
    unmatched: int
    unmatched_share: float
    unmatched_allowed: float

    def changed(self) -> str:
        """See `assay_export.tasks.task.Finding.changed`."""
        return f"{self.unmatched} of {self.unmatched + 2 * self.pairs:,} boxes"

    def difference_text(self) -> str:
        """See `assay_export.tasks.task.Finding.difference_text`."""
        return f"{self.difference:+.4f}; paired boxes have a mean IoU of {self.mean_iou:.4f}"


def _views(trained: Trained, variant: str, dense: int | None) -> tuple[View, ...]:
    if dense is not None:
        raise ExportError("dense= is only for classifiers, and this run trained a detector; leave out dense=")
    return trained.views[:1] if variant == PLAIN else trained.views


def _typical(match: DetectionMatch) -> dict[str, float]:
    """Return the mean differences of boxes (pixels) and scores over the matched pairs."""
    pairs = max(len(match.ious), 1)
    return {"boxes": float(match.boxes.sum() / pairs), "scores": float(match.scores.sum() / pairs)}


def _worst(data: DetectionData, reference: Outputs, found: Outputs) -> tuple[WorstImage, ...]:
    """Return the images with the largest share of unmatched boxes, and among equals the largest box difference."""
    order = []
    for i in range(len(data.test)):
        one, other = ({name: each[name][i : i + 1] for name in BOXES} for each in (found, reference))
        difference = detection_differences(one, other)
        order.append((difference["labels"], difference["boxes"], i))
    return tuple(
        WorstImage(
            index=i,
            name=data.test.names[i],
            difference=share,
            truth=f"{len(data.test.boxes[i])} objects",
            eager=f"{int((reference['labels'][i] >= 0).sum())} boxes",
            artifact=f"{int((found['labels'][i] >= 0).sum())} boxes, matched ones differ by up to {pixels:.2g} pixels",
            eager_boxes=_boxes(reference, i),
            artifact_boxes=_boxes(found, i),
        )
        for share, pixels, i in sorted(order, key=lambda each: (-each[0], -each[1], each[2]))[:WORST_IMAGES]
    )


def _boxes(found: Outputs, index: int) -> tuple[tuple[float, ...], ...]:
    boxes, scores, labels = (found[name][index] for name in BOXES)
    return tuple(
        (*(round(float(side), 2) for side in box), round(float(score), 4), int(label))
        for box, score, label in zip(boxes, scores, labels, strict=True)
        if label >= 0
    )


class DetectorExport:
    """Export of detectors; see `assay_export.tasks.task.Task`."""

    name: ClassVar[str] = DETECTION
    metric: ClassVar[str] = "map"
    metric_name: ClassVar[str] = "mAP"
    batch: ClassVar[int] = 8
    reference_batch: ClassVar[int] = 4
    labelled: ClassVar[bool] = False

    def outputs(self, variant: str) -> tuple[str, ...]:  # noqa: ARG002 - the same for any
        """Return the names of a graph's outputs."""
        return BOXES

    def describe_outputs(self, trained: Trained, tta: bool) -> tuple[Tensor, ...]:  # noqa: ARG002 - the same without
        """Return the descriptions of the outputs of all graphs, for the manifest."""
        assert isinstance(trained.model, Normalized)
        places = trained.model.network.detections
        assert isinstance(places, int)
        return (
            Tensor(
                "boxes", "float32", ("batch", places, 4), "left, top, right, bottom in canvas pixels, 0 where empty"
            ),
            Tensor("scores", "float32", ("batch", places), "in descending order, from 0 to 1; 0 where empty"),
            Tensor("labels", "int64", ("batch", places), "indices of the labels; -1 where empty"),
        )

    def eager(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        """Return the eager module of a variant, which every artifact is compared with; `dense` must be None.

        Raises:
            ExportError: the views do not fit the canvas, or `dense` is not None.
        """
        views = _views(trained, variant, dense)
        return build_graph(lambda: BoxViews(trained.model, trained.canvas, views), trained.canvas)

    def exported(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        """Return the module to export: the same weights, with selections of fixed size.

        Raises:
            ExportError: the views do not fit the canvas, or `dense` is not None.
        """
        model, views = trained.model, _views(trained, variant, dense)
        assert isinstance(model, Normalized)
        return build_graph(lambda: exportable(model, trained.canvas, views), trained.canvas)

    def score(self, data: DetectionData, found: Outputs) -> float:
        """Return the mean average precision on the test split."""
        tensors = Detections(*(torch.from_numpy(found[name]) for name in BOXES))
        images = [tensors.image(i) for i in range(len(data.test))]
        return measure(images, data.test, data.canvas, data.classes).map

    def drop_allowed(self, n: int, precision: str) -> float:  # noqa: ARG002 - the same for any number
        """Largest allowed decrease of mean average precision, whatever the number of images."""
        return ON_TEST_SPLIT[DETECTION, precision]["drop"]

    def distance(self, found: Outputs, expected: Outputs) -> float:
        """Distance of a float16 graph's detections from those in float32, as a multiple of the gate's tolerance.

        Computed from averages and shares. The largest difference is that of a flip, which can happen whichever blocks
        stay in float32.
        """
        match = match_detections(found, expected)
        typical, allowed = _typical(match), ON_TEST_SPLIT[DETECTION, "fp16"]
        shares = (mean / allowed[name] for name, mean in typical.items())
        return float(np.max([match.unmatched_share / allowed["unmatched"], *shares]))

    def compare(self, artifact: Artifact, data: DetectionData, reference: Outputs, found: Outputs) -> Comparison:
        """Compare an artifact's detections on the test split with the eager model's.

        Args:
            artifact: the artifact that gave the outputs.
            data: the data set.
            reference: the eager model's outputs.
            found: the artifact's outputs.
        """
        before, after = self.score(data, reference), self.score(data, found)
        match, allowed = match_detections(found, reference), ON_TEST_SPLIT[DETECTION, artifact.precision]
        finding = Boxes(
            n=len(data.test),
            eager=before,
            artifact=after,
            difference=after - before,
            drop_allowed=allowed["drop"],
            pairs=len(match.ious),
            mean_iou=float(match.ious.mean()) if len(match.ious) else 1.0,
            least_iou=float(match.ious.min(initial=1.0)),
            unmatched=len(match.unmatched),
            unmatched_share=match.unmatched_share,
            unmatched_allowed=allowed["unmatched"],
        )
        reasons = []
        if not before - after <= finding.drop_allowed and not np.isnan(before):
            reasons.append(f"mAP falls from {before:.4f} to {after:.4f}, allowed {finding.drop_allowed:g}")
        if not finding.unmatched_share <= finding.unmatched_allowed:
            reasons.append(
                f"{finding.unmatched} boxes on the test images, {finding.unmatched_share:.2%} of all scores, are found "
                f"only by the eager model or only by the artifact, allowed {finding.unmatched_allowed:.0%}"
            )
        for name, mean in _typical(match).items():
            if not mean <= allowed[name]:
                reasons.append(f"{name} on the test images differ by {mean:.2g} on average, allowed {allowed[name]:g}")
        return Comparison(finding, reasons, _worst(data, reference, found))
