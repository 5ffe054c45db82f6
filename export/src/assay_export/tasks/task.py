"""The protocol of a task in export: the graphs that leave, and how their answers to the test split are judged."""

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

WORST = 8
"""Images shown for each artifact, those whose answers are farthest apart."""


@dataclass(frozen=True)
class Worst:
    """A test image whose answers are far apart.

    Attributes:
        index: of the image in the test split.
        name: of the image.
        difference: how far, in the unit that the task orders by.
        truth, eager, artifact: in words.
        eager_boxes, artifact_boxes: of detectors: left, top, right, bottom, score and label's index, canvas pixels.
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
    """A task's figures of an artifact's answers to the test split, a dataclass; ``parity.json`` holds its fields."""

    @property
    def eager(self) -> float:
        """The eager model's score."""

    @property
    def artifact(self) -> float:
        """The artifact's score."""

    def changed(self) -> str:
        """Number of answers that are not the eager model's, and how many may be, in words."""

    def difference_text(self) -> str:
        """The difference of the two scores, with what tells how sure it is."""


@dataclass(frozen=True)
class Comparison:
    """An artifact's answers to the test split beside the eager model's.

    Attributes:
        finding: the task's figures.
        reasons: against the artifact, in words.
        worst: images, the worst first.
    """

    finding: Finding
    reasons: list[str]
    worst: tuple[Worst, ...]


DataT = TypeVar("DataT", bound=Data, contravariant=True)


class Task(Protocol[DataT]):
    """What is exported of a kind of model, and how its answers are judged.

    Attributes:
        name: as the manifest and the data sets have it, ``classification``.
        metric: key of the score in the manifest, ``top1``.
        metric_name: the same in words, ``top-1``.
        batch: test images given to an artifact at once. Not `reference_batch`, so that batches are proven not to
            matter.
        reference_batch: test images given to the eager model at once.
        labelled: whether each output has a value for each label.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    metric_name: ClassVar[str]
    batch: ClassVar[int]
    reference_batch: ClassVar[int]
    labelled: ClassVar[bool]

    def outputs(self, look: str) -> tuple[str, ...]:
        """Names of the outputs of a graph that looks at images that way."""

    def described(self, trained: Trained, tta: bool) -> tuple[Tensor, ...]:
        """The outputs of all graphs, as the manifest describes them."""

    def eager(self, trained: Trained, look: str, dense: int | None) -> nn.Module:
        """The model as it was trained, looking at images that way: every artifact has to equal it.

        Args:
            trained: the model.
            look: `PLAIN`, `TTA` or `DENSE`.
            dense: of the last, the pixels between two answers.

        Raises:
            AssayError: the views do not fit the canvas, or the model has no fully convolutional form.
        """

    def exported(self, trained: Trained, look: str, dense: int | None) -> nn.Module:
        """The graph that leaves; arguments and errors are those of `eager`."""

    def score(self, data: DataT, found: Outputs) -> float:
        """The metric of answers to the test split."""

    def drop_allowed(self, n: int, precision: str) -> float:
        """How much lower the metric may be on n images."""

    def distance(self, found: Outputs, expected: Outputs) -> float:
        """How far the outputs of a float16 graph are from those in float32; 1 is as far as the gate lets them be."""

    def compare(self, artifact: Artifact, data: DataT, reference: Outputs, found: Outputs) -> Comparison:
        """Compare an artifact's answers to the test split with the eager model's.

        Args:
            artifact: which.
            data: the data set.
            reference: the eager model's outputs.
            found: the artifact's.
        """


def same_views(build: Callable[[], nn.Module], canvas: Canvas) -> nn.Module:
    """A graph in eval mode.

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
