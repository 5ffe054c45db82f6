"""Evaluate a run's detector checkpoints on a split and analyse their errors."""

import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from assay_deploy.images.canvas import View
from assay_research.config.schema import EvaluationOptions
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.errors import ConfigError, DeviceError, nearest
from assay_research.models.boxes import Found
from assay_research.runs.run import Run
from assay_research.runs.trained import Trained, load_checked, views_of
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.predict import predict
from assay_research.tasks.detection.report.analysis import DetectorResult, DetectorSubject
from assay_research.tasks.detection.report.errors import IOU
from assay_research.tasks.detection.report.write import report_all, report_one
from assay_research.tasks.detection.views import FUSIONS, BoxViews
from assay_research.tasks.options import chosen_views


def evaluate_detectors(
    run: Run, options: EvaluationOptions, data: DetectionData, names: Sequence[str], device: torch.device
) -> Path:
    """Score the checkpoints, write the results and print the tables.

    Args:
        run: the run that the checkpoints belong to.
        options: command-line options.
        data: the data set that the run was trained on.
        names: names of the checkpoints.
        device: device to compute on.

    Returns:
        Path of the JSON file with the results.

    Raises:
        AssayError: an option is invalid, or a checkpoint is damaged or was trained on other data.
    """
    fuse, iou = options.fuse or FUSIONS[0], IOU if options.iou is None else options.iou
    if fuse not in FUSIONS:
        raise ConfigError(f"fuse={fuse}: there is no such fusion; {nearest(fuse, FUSIONS)}")
    for name, value in (("iou", iou), ("score", options.score)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{name} must be between 0 and 1, got {value}")
    views = chosen_views(options, views_of(run))
    variants = {"plain": views[:1]} | ({"tta": views} if len(views) > 1 else {})
    descriptions = {"plain": "1 view", "tta": f"{len(views)} views, {fuse}"}
    described = {variant: descriptions[variant] for variant in variants}
    subject = DetectorSubject(run.name, data, options.split, data.fingerprint(), described)
    split, results, found = subject.images, [], dict[str, list[Found]]()
    with tqdm(total=len(names), unit="checkpoint", leave=False, disable=not sys.stderr.isatty()) as bar:
        for name in names:
            trained, epoch = load_checked(run, name, device, data, subject.fingerprint)
            seconds = {}
            for variant, chosen in variants.items():
                bar.set_postfix_str(variant)
                graph = _graph(trained, chosen, fuse, device)
                begun = perf_counter()
                found[variant] = _predict(graph, split, device)
                seconds[variant] = (perf_counter() - begun) / len(split)
            scores = {variant: measure(each, split, data.canvas, data.classes) for variant, each in found.items()}
            results.append(DetectorResult(name, epoch, scores, seconds))
            bar.update()
    folder = run.evaluation()
    if options.checkpoint == "all":
        return report_all(results, subject, folder)
    return report_one(results[0], found["plain"], subject, folder, iou, options.score)


def _graph(trained: Trained, views: Sequence[View], fuse: str, device: torch.device) -> BoxViews:
    try:
        model = trained.model.to(memory_format=torch.channels_last)
        return BoxViews(model, trained.canvas, views, fuse=fuse).to(device)
    except ValueError as error:
        raise ConfigError(f"views: {error}") from error


def _predict(graph: BoxViews, split: BoxSplit, device: torch.device) -> list[Found]:
    try:
        return predict(graph, split, device)
    except RuntimeError as error:  # mostly out of memory: sizes= has no upper limit
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"cannot run the detector on {device}: {reason}; try smaller sizes") from error
