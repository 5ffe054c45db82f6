"""Final test of a trained detector: scores of the best epoch on the test split, and figures."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from assay_research.models.boxes import Found
from assay_research.runs.score import MAP
from assay_research.runs.trained import Trained
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.predict import predict
from assay_research.tasks.detection.trainer import DetectorTrainer
from assay_research.tasks.detection.views import BoxViews
from assay_research.tasks.task import Outcome
from assay_research.training import diagnosis

FIT = diagnosis.FitMetric(MAP.val, "mAP", "mAP {:.3f} on training images, {:.3f} on validation images")


def conclude(trainer: DetectorTrainer, trained: Trained) -> Outcome:
    """Score the best epoch's weights once on the test split.

    Args:
        trainer: the trainer that produced the weights.
        trained: the best checkpoint's model, on the trainer's device.
    """
    data, device = trainer.data, trainer.device
    variants = {"": trained.views[:1]} | ({"_tta": trained.views} if len(trained.views) > 1 else {})
    graphs = {suffix: BoxViews(trained.model, trained.canvas, views).to(device) for suffix, views in variants.items()}
    found = {suffix: predict(graph, data.test, device) for suffix, graph in graphs.items()}
    scores: dict[str, float] = {}
    for suffix, each in found.items():
        measured = measure(each, data.test, data.canvas, data.classes)
        scores |= {f"test_map{suffix}": measured.map, f"test_map50{suffix}": measured.map50}
    sample = data.train.subset(diagnosis.evenly_spaced(len(data.train), len(data.val)).tolist())
    fit = diagnosis.fit(
        trainer.history,
        measure(predict(graphs[""], sample, device), sample, data.canvas, data.classes).map,
        FIT,
    )
    return Outcome(scores, fit, partial(_draw, trainer, found[""]))


def _draw(trainer: DetectorTrainer, found: Sequence[Found], folder: Path, title: str) -> None:
    from assay_research.reports import figures  # matplotlib
    from assay_research.tasks.detection.report import galleries  # matplotlib
    from assay_research.tasks.detection.report.analysis import DEFAULT_SCORE
    from assay_research.tasks.detection.report.curves import best_threshold, curve
    from assay_research.tasks.detection.report.errors import match

    data = trainer.data
    figures.learning_curves(trainer.history, MAP, folder / "learning_curves.png", title)
    shown = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(trainer.seed))[:12].tolist()
    best = best_threshold(curve(match(found, data.test, data.canvas, data.classes))).score
    galleries.predictions(
        [found[i] for i in shown],
        data.test.subset(shown),
        data.canvas,
        data.classes,
        DEFAULT_SCORE if math.isnan(best) else best,
        folder / "predictions.png",
        title,
    )
