"""Protocol of a task in export: the graphs to export, and the comparison of their predictions on the test split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from torch import nn

from assay_deploy.bundle.manifest import Artifact, Tensor
from assay_deploy.images.canvas import Canvas
from assay_export.errors import ExportError
from assay_export.formats.runner import Outputs
from assay_research.data.protocol import Data
from assay_research.runs.trained import Trained

WORST_IMAGES = 8
"""Number of images reported for each artifact, those whose outputs differ most."""


@dataclass(frozen=True)
class WorstImage:
    """A test image for which the outputs of artifact and eager model differ much.

    Attributes:
        index: index of the image in the test split.
        name: name of the image.
        difference: size of the difference, in a unit chosen by the task.
        truth, eager, artifact: descriptions of the annotation, the eager model's and the artifact's prediction.
        eager_boxes, artifact_boxes: boxes of detectors: left, top, right, bottom in canvas pixels, score, label index.
    """

    index: int
    name: str
    difference: float
    truth: str
    eager: str
    artifact: str
    eager_boxes: tuple[tuple[float, ...], ...] = ()
    artifact_boxes: tuple[tuple[float, ...], ...] = ()


class Finding(Protocol):
    """Figures of an artifact's predictions on the test split: a dataclass, stored field by field in ``parity.json``."""

    @property
    def eager(self) -> float:
        """Return the eager model's metric."""

    @property
    def artifact(self) -> float:
        """Return the artifact's metric."""

    def changed(self) -> str:
        """Describe how many predictions differ from the eager model's, and how many may."""

    def difference_text(self) -> str:
        """Describe the difference of the two metrics and its uncertainty."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of an artifact's predictions on the test split with the eager model's.

    Attributes:
        finding: the task's figures.
        reasons: reasons why the artifact fails; empty if it passes.
        worst: the images that differ most, the worst first.
    """

    finding: Finding
    reasons: list[str]
    worst: tuple[WorstImage, ...]


DataT = TypeVar("DataT", bound=Data, contravariant=True)


class Task(Protocol[DataT]):
    """Export of the models of one task, and the comparison of their predictions.

    Attributes:
        name: name in the manifest and the data sets, for example ``classification``.
        metric: key of the metric in the manifest, for example ``top1``.
        metric_name: name of the metric in reports, for example ``top-1``.
        batch: batch size for the artifact on the test split. Different from `reference_batch`, to prove that outputs do
            not depend on the batch.
        reference_batch: batch size for the eager model on the test split.
        labelled: whether each output has one value per label.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    metric_name: ClassVar[str]
    batch: ClassVar[int]
    reference_batch: ClassVar[int]
    labelled: ClassVar[bool]

    def outputs(self, variant: str) -> tuple[str, ...]:
        """Return the names of the outputs of a graph of that variant."""

    def describe_outputs(self, trained: Trained, tta: bool) -> tuple[Tensor, ...]:
        """Return the descriptions of the outputs of all graphs, for the manifest; `tta` if there is such a graph."""

    def eager(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        """Return the eager module of a variant, which every artifact is compared with.

        Args:
            trained: the trained model.
            variant: `PLAIN`, `TTA` or `DENSE`.
            dense: stride of the dense graph in pixels; None for other variants.

        Raises:
            AssayError: the views do not fit the canvas, or the model has no fully convolutional form.
        """

    def exported(self, trained: Trained, variant: str, dense: int | None) -> nn.Module:
        """Return the module to export; arguments and errors are those of `eager`."""

    def score(self, data: DataT, found: Outputs) -> float:
        """Return the metric of outputs for the test split."""

    def drop_allowed(self, n: int, precision: str) -> float:
        """Largest allowed decrease of the metric on n images."""

    def distance(self, found: Outputs, expected: Outputs) -> float:
        """Distance of a float16 graph's outputs from those in float32, as a multiple of the gate's tolerance."""

    def compare(self, artifact: Artifact, data: DataT, reference: Outputs, found: Outputs) -> Comparison:
        """Compare an artifact's predictions on the test split with the eager model's.

        Args:
            artifact: the artifact that gave the outputs.
            data: the data set.
            reference: the eager model's outputs.
            found: the artifact's outputs.
        """


def build_graph(build: Callable[[], nn.Module], canvas: Canvas) -> nn.Module:
    """Build a graph and put it in eval mode.

    Raises:
        ExportError: the run's views do not fit its canvas.
    """
    try:
        return build().eval()
    except ValueError as error:
        raise ExportError(
            f"views on a canvas of {canvas.height}x{canvas.width} pixels: {error}; correct them in the run's "
            "config.yaml"
        ) from error
