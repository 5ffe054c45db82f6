"""Detectors: padded boxes, judged by the boxes that lose their partner and by mean average precision."""

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
from assay_export.tasks.task import WORST, Comparison, Worst, same_views
from assay_research.data.detection import DetectionData
from assay_research.models.boxes import Detections
from assay_research.models.normalized import Normalized
from assay_research.runs.trained import Trained
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.views import BoxViews


@dataclass(frozen=True)
class Boxes:
    """What an artifact finds in n test images, beside the eager model.

    Attributes:
        n: number of test images.
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

    def changed(self) -> str:
        """See `assay_export.tasks.task.Finding.changed`."""
        return f"{self.alone} of {self.alone + 2 * self.pairs:,} boxes"

    def difference_text(self) -> str:
        """See `assay_export.tasks.task.Finding.difference_text`."""
        return f"{self.difference:+.4f}; paired boxes have a mean IoU of {self.mean_iou:.4f}"


def _views(trained: Trained, look: str, dense: int | None) -> tuple[View, ...]:
    if dense is not None:
        raise ExportError("dense= is for classifiers; this run has trained a detector")
    return trained.views[:1] if look == PLAIN else trained.views


def _typical(match: DetectionMatch) -> dict[str, float]:
    """Mean differences of the pairs."""
    pairs = max(len(match.ious), 1)
    return {"boxes": float(match.boxes.sum() / pairs), "scores": float(match.scores.sum() / pairs)}


def _worst(data: DetectionData, reference: Outputs, found: Outputs) -> tuple[Worst, ...]:
    """The images with the largest share of boxes without a partner, then with the boxes farthest apart."""
    apart = []
    for i in range(len(data.test)):
        one, other = ({name: each[name][i : i + 1] for name in BOXES} for each in (found, reference))
        difference = detection_differences(one, other)
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


class DetectorExport:
    """An `assay_export.tasks.task.Task`: boxes, judged by those without a partner and by mean average precision."""

    name: ClassVar[str] = DETECTION
    metric: ClassVar[str] = "map"
    metric_name: ClassVar[str] = "mAP"
    batch: ClassVar[int] = 8
    reference_batch: ClassVar[int] = 4
    labelled: ClassVar[bool] = False

    def outputs(self, look: str) -> tuple[str, ...]:  # noqa: ARG002 - the same for any
        """Names of what a graph gives."""
        return BOXES

    def described(self, trained: Trained, tta: bool) -> tuple[Tensor, ...]:  # noqa: ARG002 - the same without
        """The outputs of all graphs, as the manifest describes them."""
        assert isinstance(trained.model, Normalized)
        places = trained.model.network.detections
        assert isinstance(places, int)
        return (
            Tensor(
                "boxes", "float32", ("batch", places, 4), "left, top, right, bottom in canvas pixels, 0 where empty"
            ),
            Tensor("scores", "float32", ("batch", places), "falling, from 0 to 1; 0 where empty"),
            Tensor("labels", "int64", ("batch", places), "indices of the labels; -1 where empty"),
        )

    def eager(self, trained: Trained, look: str, dense: int | None) -> nn.Module:
        """The model as it was trained, looking at images that way: what every artifact has to equal.

        Raises:
            ExportError: the views do not fit the canvas, or there is to be a dense graph.
        """
        views = _views(trained, look, dense)
        return same_views(lambda: BoxViews(trained.model, trained.canvas, views), trained.canvas)

    def exported(self, trained: Trained, look: str, dense: int | None) -> nn.Module:
        """The graph that leaves: the same weights, with selections of fixed size.

        Raises:
            ExportError: the views do not fit the canvas, or there is to be a dense graph.
        """
        model, views = trained.model, _views(trained, look, dense)
        assert isinstance(model, Normalized)
        return same_views(lambda: exportable(model, trained.canvas, views), trained.canvas)

    def score(self, data: DetectionData, found: Outputs) -> float:
        """Mean average precision on the test split."""
        tensors = Detections(*(torch.from_numpy(found[name]) for name in BOXES))
        images = [tensors.image(i) for i in range(len(data.test))]
        return measure(images, data.test, data.canvas, data.classes).map

    def drop_allowed(self, n: int, precision: str) -> float:  # noqa: ARG002 - the same for any number
        """See `Task.drop_allowed`."""
        return ON_TEST_SPLIT[DETECTION, precision]["drop"]

    def distance(self, found: Outputs, expected: Outputs) -> float:
        """How far the detections of a float16 graph are from those in float32; 1 is as far as the gate lets them be.

        By averages and shares, not by the largest difference: that is a flip's, which no block kept in float32
        prevents.
        """
        match = match_detections(found, expected)
        typical, allowed = _typical(match), ON_TEST_SPLIT[DETECTION, "fp16"]
        shares = (mean / allowed[name] for name, mean in typical.items())
        return float(np.max([match.unmatched_share / allowed["unmatched"], *shares]))

    def compare(self, artifact: Artifact, data: DetectionData, reference: Outputs, found: Outputs) -> Comparison:
        """Compare what an artifact finds in the test split with what the eager model finds.

        Args:
            artifact: which.
            data: the data set.
            reference: the eager model's outputs.
            found: the artifact's.
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
            alone=len(match.unmatched),
            alone_share=match.unmatched_share,
            alone_allowed=allowed["unmatched"],
        )
        reasons = []
        if not before - after <= finding.drop_allowed and not np.isnan(before):
            reasons.append(f"mAP falls from {before:.4f} to {after:.4f}, allowed {finding.drop_allowed:g}")
        if not finding.alone_share <= finding.alone_allowed:
            reasons.append(
                f"{finding.alone} boxes on the test images, {finding.alone_share:.2%} of all scores, are found by "
                f"one of eager and artifact alone, allowed {finding.alone_allowed:.0%}"
            )
        for name, mean in _typical(match).items():
            if not mean <= allowed[name]:
                reasons.append(f"{name} on the test images differ by {mean:.2g} on average, allowed {allowed[name]:g}")
        return Comparison(finding, reasons, _worst(data, reference, found))
