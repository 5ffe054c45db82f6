"""Protocol of a task: how its models are trained and evaluated."""

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
    """Results of a finished training.

    Attributes:
        scores: test scores in [0, 1] by name: ``test_<metric>``, and ``test_<metric>_tta`` for test-time augmentation.
        fit: sentence that says whether the model over- or underfits, with the figures it is based on.
        draw: function that writes the figures; takes the folder and their title.
    """

    scores: dict[str, float]
    fit: str
    draw: Callable[[Path, str], None]


class Task(Protocol[DataT, TrainerT]):
    """A task such as classification or detection, with its own type of data and trainer.

    Attributes:
        model: name of its kind of model, for messages: ``a classifier``.
        augment_module: module that its augmentation must come from, relative to `assay_research`: ``data.augment``.
        augment_advice: error message for augmentation from another module.
        options: names of the `EvaluationOptions` that only this task has.
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
        """Build a trainer, after a test run of one image through augmentation, model and views.

        Args:
            model: the model, on its device.
            data: the data set with its three splits.
            optimizer: optimizer over the model's parameters.
            schedule: learning-rate schedule, a factor on the optimizer's base rates.
            views: test-time views, the plain view first.
            augment: augmentation settings, built by a builder of `augment_module`.
            label_smoothing: label smoothing of the cross-entropy, in [0, 1); 0 for none.
            options: options of the training loop.

        Raises:
            ConfigError: data, augmentation, model and views do not fit together.
        """

    def evaluate(self, trainer: TrainerT, split: str) -> Any:
        """Compute every metric of the current weights with the plain view, on ``train``, ``val`` or ``test``."""

    def conclude(self, trainer: TrainerT, trained: Trained) -> Outcome:
        """Score the best epoch's weights once on the test split.

        Args:
            trainer: the trainer that produced the weights.
            trained: the best checkpoint's model, on the trainer's device.
        """

    def evaluate_run(
        self, run: Run, options: EvaluationOptions, data: DataT, names: Sequence[str], device: torch.device
    ) -> Path:
        """Score checkpoints of a run, write the results and print the tables.

        Args:
            run: the run that the checkpoints belong to.
            options: command-line options, without those of another task.
            data: the data set that the run was trained on.
            names: names of the checkpoints.
            device: device to compute on.

        Returns:
            Path of the JSON file with the results.

        Raises:
            AssayError: an option is invalid, or a checkpoint is damaged or was trained on other data.
        """
