"""The protocol of a task in research: how a model of its kind is trained and scored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from assay_deploy.images.canvas import View
from assay_research.config.schema import EvaluationOptions
from assay_research.data.protocol import Data
from assay_research.models.normalized import Normalized
from assay_research.runs.run import Run
from assay_research.runs.trained import Trained
from assay_research.schedules import Constant
from assay_research.training.loop import Loop, LoopOptions

DataT = TypeVar("DataT", bound=Data, contravariant=True)
TrainerT = TypeVar("TrainerT", bound=Loop)


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes:
        scores: of the test split, ``test_`` and a metric's name, with ``_tta`` where it is seen through all views.
        fit: whether it fits its data too little or too well, in words and with the evidence.
        draw: writes the figures into a folder, under a title.
    """

    scores: dict[str, float]
    fit: str
    draw: Callable[[Path, str], None]


class Task(Protocol[DataT, TrainerT]):
    """A kind of question that models answer about images, with data and a trainer of its own.

    Attributes:
        model: a model of the kind, in words: ``a classifier``.
        augment_module: the module its augmentation may come from, relative to `assay_research`: ``data.augment``.
        augment_advice: the message to who chose another.
        options: those of `EvaluationOptions` that no other kind of model has.
    """

    model: ClassVar[str]
    augment_module: ClassVar[str]
    augment_advice: ClassVar[str]
    options: ClassVar[frozenset[str]]

    def build_trainer(
        self,
        model: Normalized,
        data: DataT,
        optimizer: torch.optim.Optimizer,
        schedule: Constant,
        views: Sequence[View],
        augment: Any,
        label_smoothing: float,
        options: LoopOptions,
    ) -> TrainerT:
        """A trainer, once one image went all the way through the model.

        Args:
            model: on its device.
            data: the three splits.
            optimizer: over the model's parameters.
            schedule: factor on its base rates.
            views: the plain one first.
            augment: built by a builder of `augment_module`.
            label_smoothing: of the cross-entropy; 0 where there is none.
            options: of the loop.

        Raises:
            ConfigError: they do not fit together.
        """

    def evaluate(self, trainer: TrainerT, split: str) -> Any:
        """Every metric of the weights as they are now, through the plain view, on ``train``, ``val`` or ``test``."""

    def conclude(self, trainer: TrainerT, trained: Trained) -> Outcome:
        """Score the best epoch's weights once on the test split.

        Args:
            trainer: that trained them.
            trained: as the run kept them, on the trainer's device.
        """

    def evaluate_run(
        self, run: Run, options: EvaluationOptions, data: DataT, names: Sequence[str], device: torch.device
    ) -> Path:
        """Score checkpoints of a run; write what was measured, then print the tables.

        Args:
            run: that they are of.
            options: of the command line; none is another task's.
            data: what the run was trained on.
            names: of the checkpoints.
            device: where to compute.

        Returns:
            The JSON file that holds it.

        Raises:
            AssayError: an impossible option, or a checkpoint that is damaged or of other data.
        """
