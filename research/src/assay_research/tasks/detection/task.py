"""The task of detection: put a training together, score what it leaves."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from assay_deploy.pictures.canvas import View
from assay_research.config.build import instantiate
from assay_research.config.schema import TrainConfig
from assay_research.data.detection import DetectionData
from assay_research.errors import ConfigError
from assay_research.models.boxes import Found
from assay_research.models.normalized import Normalized
from assay_research.runs.run import Trained
from assay_research.tasks.detection.metrics import BoxScores, measure
from assay_research.tasks.detection.trainer import Trainer, predict
from assay_research.tasks.detection.views import BoxViews
from assay_research.tasks.task import Outcome
from assay_research.training import diagnosis
from assay_research.training.loop import Options


def build(
    config: DictConfig,
    settings: TrainConfig,
    model: Normalized,
    data: DetectionData,
    views: Sequence[View],
    options: Options,
) -> Trainer:
    """A detector's trainer; see `classify.build`."""
    if not str(config.augment.get("_target_")).endswith(".BoxAugment"):
        raise ConfigError("augment=pictures is for classifiers; a detector takes augment=boxes")
    varied = instantiate(config.augment, "data")
    if settings.label_smoothing:
        raise ConfigError(f"label_smoothing={settings.label_smoothing} is for classifiers; a detector takes none")
    _try_out(model, data, views)
    return Trainer(
        model,
        data,
        instantiate(config.optim, "optim", model=model),
        schedule=instantiate(config.schedule, "schedules"),
        view=views[0],
        settings=varied,
        **options,
    )


def evaluate(trainer: Trainer, split: str) -> BoxScores:
    """Every metric of the weights as they are now, through the plain view, on ``train``, ``val`` or ``test``."""
    chosen = getattr(trainer.data, split)
    return measure(trainer.predict(trainer.plain, chosen), chosen, trainer.data.canvas, trainer.data.classes)


def conclude(trainer: Trainer, trained: Trained) -> Outcome:
    """Score the best epoch's weights once on the test split; see `classify.conclude`."""
    data, device = trainer.data, trainer.device
    ways = {"": trained.views[:1]} | ({"_tta": trained.views} if len(trained.views) > 1 else {})
    graphs = {suffix: BoxViews(trained.model, trained.canvas, views).to(device) for suffix, views in ways.items()}
    found = {suffix: predict(graph, data.test, device) for suffix, graph in graphs.items()}
    scores: dict[str, float] = {}
    for suffix, each in found.items():
        measured = measure(each, data.test, data.canvas, data.classes)
        scores |= {f"test_map{suffix}": measured.map, f"test_map50{suffix}": measured.map50}
    seen = data.train.subset(diagnosis.spread(len(data.train), len(data.val)).tolist())
    fit = diagnosis.fit(
        trainer.history,
        measure(predict(graphs[""], seen, device), seen, data.canvas, data.classes).map,
        diagnosis.DETECTION,
    )
    return Outcome(scores, fit, partial(_draw, trainer, found[""]))


def _try_out(model: Normalized, data: DetectionData, views: Sequence[View]) -> None:
    """Send one picture all the way, so that what does not fit is known before anything is trained."""
    picture = data.train.images[:1].to(model.mean.device)
    try:
        with torch.no_grad():
            BoxViews(model.eval(), data.canvas, views).to(model.mean.device)(picture)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"data, model and views do not fit each other: pictures are {data.canvas.height}x{data.canvas.width} "
            f"pixels with boxes, and {error}; detectors are model=retinanet_small, model=faster_rcnn_resnet50, ..."
        ) from error


def _draw(trainer: Trainer, found: Sequence[Found], folder: Path, title: str) -> None:
    from assay_research.reports import figures  # matplotlib
    from assay_research.tasks.detection.report import galleries as detection_galleries  # matplotlib
    from assay_research.tasks.detection.report.analysis import UNDECIDED
    from assay_research.tasks.detection.report.curves import best_threshold, curve
    from assay_research.tasks.detection.report.errors import match

    data = trainer.data
    figures.learning_curves(trainer.history, folder / "learning_curves.png", title)
    shown = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(trainer.seed))[:12].tolist()
    best = best_threshold(curve(match(found, data.test, data.canvas, data.classes, 0.5))).score
    detection_galleries.predictions(
        [found[i] for i in shown],
        data.test.subset(shown),
        data.canvas,
        data.classes,
        UNDECIDED if math.isnan(best) else best,
        folder / "predictions.png",
        title,
    )
