"""The classification task: build a trainer, evaluate and report its models."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from assay_deploy.images.canvas import View
from assay_research.config.schema import EvaluationOptions
from assay_research.data.augment import Augment, augment, draw
from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import ConfigError
from assay_research.models.normalized import Normalized
from assay_research.runs.run import Run
from assay_research.runs.score import TOP1
from assay_research.runs.trained import Trained
from assay_research.schedules import Constant
from assay_research.tasks.classification.evaluate import evaluate_classifiers
from assay_research.tasks.classification.metrics import Scores, measure, top1
from assay_research.tasks.classification.predict import predict
from assay_research.tasks.classification.trainer import ClassifierTrainer
from assay_research.tasks.classification.views import Views
from assay_research.tasks.task import Outcome, Task
from assay_research.training import diagnosis
from assay_research.training.loop import LoopOptions

FIT = diagnosis.FitMetric(TOP1.val, "accuracy", "{:.3f} of training images correct, {:.3f} of validation images")


class ClassificationTask(Task[ClassificationData, ClassifierTrainer]):
    """Task of classification: the model predicts logits of one class per image."""

    model = "a classifier"
    augment_module = "data.augment"
    augment_advice = "augment=boxes is for detectors; a classifier takes augment=images"
    options = frozenset({"dense"})

    def build_trainer(
        self,
        model: Normalized,
        data: ClassificationData,
        optimizer: torch.optim.Optimizer,
        schedule: Constant,
        views: Sequence[View],
        augment: Augment,
        label_smoothing: float,
        options: LoopOptions,
    ) -> ClassifierTrainer:
        """See `Task.build_trainer`."""
        _dry_run(model, data, augment, views)
        return ClassifierTrainer(
            model,
            data,
            optimizer,
            schedule=schedule,
            view=views[0],
            settings=augment,
            label_smoothing=label_smoothing,
            **options,
        )

    def evaluate(self, trainer: ClassifierTrainer, split: str) -> Scores:
        """See `Task.evaluate`."""
        chosen: Split = getattr(trainer.data, split)
        return measure(predict(trainer.plain, chosen, trainer.device), chosen.labels, trainer.data.classes)

    def conclude(self, trainer: ClassifierTrainer, trained: Trained) -> Outcome:
        """See `Task.conclude`."""
        data, device = trainer.data, trainer.device
        views = {"test_top1": trained.views[:1]} | ({"test_top1_tta": trained.views} if len(trained.views) > 1 else {})
        graphs = {key: Views(trained.model, trained.canvas, each).to(device) for key, each in views.items()}
        outputs = {key: predict(graph, data.test, device) for key, graph in graphs.items()}
        few = diagnosis.evenly_spaced(len(data.train), len(data.val))
        names = tuple(data.train.names[i] for i in few.tolist())
        sample = Split(data.train.images[few], data.train.labels[few], names)
        return Outcome(
            {key: top1(output, data.test.labels) for key, output in outputs.items()},
            diagnosis.fit(trainer.history, top1(predict(graphs["test_top1"], sample, device), sample.labels), FIT),
            partial(_draw, trainer, outputs["test_top1"].softmax(1).cpu()),
        )

    def evaluate_run(
        self,
        run: Run,
        options: EvaluationOptions,
        data: ClassificationData,
        names: Sequence[str],
        device: torch.device,
    ) -> Path:
        """See `Task.evaluate_run`."""
        return evaluate_classifiers(run, options, data, names, device)


def _dry_run(model: Normalized, data: ClassificationData, settings: Augment, views: Sequence[View]) -> None:
    """Run one image through augmentation, model and views; raise ConfigError if they do not fit together."""
    device = model.mean.device
    image = data.train.images[:1].to(device)
    try:
        with torch.no_grad():
            logits = model.eval()(augment(image, settings, draw(1, settings, torch.Generator(device))))
            if not isinstance(logits, Tensor):
                raise ConfigError(f"the model is a detector, but '{data.name}' has no boxes; try model=tinyvgg_a")
            Views(model, data.canvas, views).to(device)(image)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"data, augment, model and views do not fit each other: images are {data.canvas.height}x"
            f"{data.canvas.width} pixels, and {error}"
        ) from error


def _draw(trainer: ClassifierTrainer, probabilities: Tensor, folder: Path, title: str) -> None:
    from assay_research.reports.figures import learning_curves  # matplotlib, which only figures need
    from assay_research.tasks.classification.figures import sample_predictions

    data = trainer.data
    learning_curves(trainer.history, TOP1, folder / "learning_curves.png", title)
    shown = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(trainer.seed))[:32]
    sample_predictions(
        data.test.images[shown].numpy(),
        data.test.labels[shown].numpy(),
        probabilities[shown].numpy(),
        data.classes,
        folder / "predictions.png",
        title,
    )
