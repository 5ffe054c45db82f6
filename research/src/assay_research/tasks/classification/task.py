"""The task of classification: put a training together, score what it leaves."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from assay_deploy.pictures.canvas import View
from assay_research.config.build import instantiate
from assay_research.config.schema import TrainConfig
from assay_research.data.augment import Augment, augment, draw
from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import ConfigError
from assay_research.models.normalized import Normalized
from assay_research.runs.run import Trained
from assay_research.tasks.classification.dense import predict
from assay_research.tasks.classification.metrics import Scores, measure, top1
from assay_research.tasks.classification.trainer import Trainer
from assay_research.tasks.classification.views import Views
from assay_research.tasks.task import Outcome
from assay_research.training import diagnosis
from assay_research.training.loop import Options


def build(
    config: DictConfig,
    settings: TrainConfig,
    model: Normalized,
    data: ClassificationData,
    views: Sequence[View],
    options: Options,
) -> Trainer:
    """A classifier's trainer.

    Args:
        config: whole.
        settings: the same, typed.
        model: on its device.
        data: the three splits.
        views: the plain one first.
        options: of the loop.

    Raises:
        ConfigError: what the config says does not fit together.
    """
    if not str(config.augment.get("_target_")).endswith(".Augment"):
        raise ConfigError("augment=boxes is for detectors; a classifier takes augment=pictures")
    varied = instantiate(config.augment, "data")
    _try_out(model, data, varied, views)
    return Trainer(
        model,
        data,
        instantiate(config.optim, "optim", model=model),
        schedule=instantiate(config.schedule, "schedules"),
        view=views[0],
        settings=varied,
        label_smoothing=settings.label_smoothing,
        **options,
    )


def evaluate(trainer: Trainer, split: str) -> Scores:
    """Every metric of the weights as they are now, through the plain view, on ``train``, ``val`` or ``test``."""
    chosen: Split = getattr(trainer.data, split)
    return measure(predict(trainer.plain, chosen, trainer.device), chosen.labels, trainer.data.classes)


def conclude(trainer: Trainer, trained: Trained) -> Outcome:
    """Score the best epoch's weights once on the test split.

    Args:
        trainer: that trained them.
        trained: as the run kept them, on the trainer's device.
    """
    data, device = trainer.data, trainer.device
    views = {"test_top1": trained.views[:1]} | ({"test_top1_tta": trained.views} if len(trained.views) > 1 else {})
    graphs = {key: Views(trained.model, trained.canvas, which).to(device) for key, which in views.items()}
    outputs = {key: predict(graph, data.test, device) for key, graph in graphs.items()}
    few = diagnosis.spread(len(data.train), len(data.val))
    names = tuple(data.train.names[i] for i in few.tolist())
    seen = Split(data.train.images[few], data.train.labels[few], names)
    return Outcome(
        {key: top1(output, data.test.labels) for key, output in outputs.items()},
        diagnosis.fit(trainer.history, top1(predict(graphs["test_top1"], seen, device), seen.labels)),
        partial(_draw, trainer, outputs["test_top1"].softmax(1).cpu()),
    )


def _try_out(model: Normalized, data: ClassificationData, settings: Augment, views: Sequence[View]) -> None:
    """Send one picture all the way, so that what does not fit is known before anything is trained."""
    device = model.mean.device
    picture = data.train.images[:1].to(device)
    try:
        with torch.no_grad():
            logits = model.eval()(augment(picture, settings, draw(1, settings, torch.Generator(device))))
            if not isinstance(logits, Tensor):
                raise ConfigError(f"the model is a detector, and '{data.name}' has classes alone; try model=tinyvgg_a")
            Views(model, data.canvas, views).to(device)(picture)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"data, augment, model and views do not fit each other: pictures are {data.canvas.height}x"
            f"{data.canvas.width} pixels, and {error}"
        ) from error


def _draw(trainer: Trainer, probabilities: Tensor, folder: Path, title: str) -> None:
    from assay_research.reports import figures  # matplotlib, which a training without figures can do without

    data = trainer.data
    figures.learning_curves(trainer.history, folder / "learning_curves.png", title)
    shown = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(trainer.seed))[:32]
    figures.sample_predictions(
        data.test.images[shown].numpy(),
        data.test.labels[shown].numpy(),
        probabilities[shown].numpy(),
        data.classes,
        folder / "predictions.png",
        title,
    )
