"""The detection task: build a trainer, evaluate and report its models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from assay_deploy.images.canvas import View
from assay_research.config.schema import EvaluationOptions
from assay_research.data.detection import DetectionData
from assay_research.errors import ConfigError
from assay_research.models.normalized import Normalized
from assay_research.runs.run import Run
from assay_research.runs.trained import Trained
from assay_research.schedules import Constant
from assay_research.tasks.task import Outcome, Task
from assay_research.training.loop import LoopOptions

if TYPE_CHECKING:  # torchvision and COCO metrics, which training a classifier does not need: imported in the methods
    from assay_research.data.box_augment import BoxAugment
    from assay_research.tasks.detection.metrics import BoxScores
    from assay_research.tasks.detection.trainer import DetectorTrainer


class DetectionTask(Task[DetectionData, "DetectorTrainer"]):
    """Task of detection: the model predicts a box, a score and a label for each object of an image."""

    model = "a detector"
    augment_module = "data.box_augment"
    augment_advice = "augment=images is for classifiers; a detector takes augment=boxes"
    options = frozenset({"fuse", "iou", "score"})

    def build_trainer(
        self,
        model: Normalized,
        data: DetectionData,
        optimizer: torch.optim.Optimizer,
        schedule: Constant,
        views: Sequence[View],
        augment: "BoxAugment",
        label_smoothing: float,
        options: LoopOptions,
    ) -> "DetectorTrainer":
        """See `Task.build_trainer`."""
        from assay_research.tasks.detection.trainer import DetectorTrainer

        if label_smoothing:
            raise ConfigError(f"label_smoothing={label_smoothing} is for classifiers; a detector needs 0")
        _dry_run(model, data, views)
        return DetectorTrainer(model, data, optimizer, schedule=schedule, view=views[0], settings=augment, **options)

    def evaluate(self, trainer: "DetectorTrainer", split: str) -> "BoxScores":
        """See `Task.evaluate`."""
        from assay_research.tasks.detection.metrics import measure

        chosen = getattr(trainer.data, split)
        return measure(trainer.predict(trainer.plain, chosen), chosen, trainer.data.canvas, trainer.data.classes)

    def conclude(self, trainer: "DetectorTrainer", trained: Trained) -> Outcome:
        """See `Task.conclude`."""
        from assay_research.tasks.detection.outcome import conclude

        return conclude(trainer, trained)

    def evaluate_run(
        self, run: Run, options: EvaluationOptions, data: DetectionData, names: Sequence[str], device: torch.device
    ) -> Path:
        """See `Task.evaluate_run`."""
        from assay_research.tasks.detection.evaluate import evaluate_detectors

        return evaluate_detectors(run, options, data, names, device)


def _dry_run(model: Normalized, data: DetectionData, views: Sequence[View]) -> None:
    """Run one image through model and views; raise ConfigError if they do not fit together."""
    from assay_research.tasks.detection.views import BoxViews

    image = data.train.images[:1].to(model.mean.device)
    try:
        with torch.no_grad():
            BoxViews(model.eval(), data.canvas, views).to(model.mean.device)(image)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"data, model and views do not fit each other: images are {data.canvas.height}x{data.canvas.width} "
            f"pixels with boxes, and {error}; detectors are model=retinanet_small, model=faster_rcnn_resnet50, ..."
        ) from error
