"""What a task is to an export: the graphs that leave, and what their answers to the test split are worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from assay_deploy.pictures.canvas import Canvas
from assay_export.errors import ExportError

WORST = 8
"""Pictures shown for each artifact, those whose answers are farthest apart."""


@dataclass(frozen=True)
class Worst:
    """A test picture whose answers are far apart.

    Attributes:
        index: of the picture in the test split.
        name: of the picture.
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


@dataclass(frozen=True)
class Weighed:
    """What an artifact's answers to the test split are worth.

    Attributes:
        finding: the task's figures, a dataclass.
        reasons: against the artifact, in words.
        worst: pictures, the worst first.
    """

    finding: Any
    reasons: list[str]
    worst: tuple[Worst, ...]


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
