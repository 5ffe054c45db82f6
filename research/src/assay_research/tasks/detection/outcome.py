"""What became of a detector's training: its best epoch's weights, scored once on the test split, and drawn."""

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

FIT = diagnosis.Yardstick(MAP.val, "mAP", "mAP {:.3f} on training images, {:.3f} on validation images")


def conclude(trainer: DetectorTrainer, trained: Trained) -> Outcome:
    """Score the best epoch's weights once on the test split.

    Args:
        trainer: that trained them.
        trained: as the run kept them, on the trainer's device.
    """
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
        FIT,
    )
    return Outcome(scores, fit, partial(_draw, trainer, found[""]))


def _draw(trainer: DetectorTrainer, found: Sequence[Found], folder: Path, title: str) -> None:
    from assay_research.reports import figures  # matplotlib
    from assay_research.tasks.detection.report import galleries  # matplotlib
    from assay_research.tasks.detection.report.analysis import UNDECIDED
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
        UNDECIDED if math.isnan(best) else best,
        folder / "predictions.png",
        title,
    )
