"""Score a run's classifiers on a split, by every way of looking that was asked for."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from assay_deploy.images.canvas import View
from assay_research.config.schema import EvaluationOptions
from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import DeviceError
from assay_research.runs.run import Run
from assay_research.runs.trained import Trained, load_checked, views_of
from assay_research.tasks.classification.dense import look
from assay_research.tasks.classification.metrics import average, measure
from assay_research.tasks.classification.report import ClassifierResult, ClassifierSubject, Look, report_all, report_one
from assay_research.tasks.options import chosen_views


def evaluate_classifiers(
    run: Run, options: EvaluationOptions, data: ClassificationData, names: Sequence[str], device: torch.device
) -> Path:
    """Score the checkpoints; write what was measured, then print the tables.

    Args:
        run: that they are of.
        options: of the command line.
        data: what the run was trained on.
        names: of the checkpoints.
        device: where to compute.

    Returns:
        The JSON file that holds it.

    Raises:
        AssayError: a checkpoint that is damaged or of other data.
    """
    looks = choose_looks(options, views_of(run))
    subject = ClassifierSubject(run.name, data, options.split, data.fingerprint(), looks)
    split = subject.images.to(device)
    results = []
    with tqdm(total=len(names), unit="checkpoint", leave=False, disable=not sys.stderr.isatty()) as bar:
        for name in names:
            trained, epoch = load_checked(run, name, device, data, subject.fingerprint)
            logits = answers(trained, looks, split, device, bar)
            scores = {way: measure(said, split.labels, data.classes) for way, said in logits.items()}
            results.append(ClassifierResult(name, epoch, scores))
            bar.update()
    folder = run.evaluation()
    if options.checkpoint == "all":
        return report_all(results, subject, folder)
    return report_one(results[0], logits["plain"], subject, folder)


def choose_looks(options: EvaluationOptions, own: tuple[View, ...]) -> dict[str, Look]:
    """The ways to look at images that the options ask for: plain, and if there are more, tta and dense.

    Args:
        options: of the command line.
        own: the run's own views.

    Raises:
        ConfigError: an impossible view, or two lists of views.
    """
    views = chosen_views(options, own)
    looks = {"plain": Look(views[:1])}
    if len(views) > 1:
        looks["tta"] = Look(views)
    if options.dense is not None:
        uncropped = dict.fromkeys(replace(view, crop="center") for view in views)
        looks["dense"] = Look(tuple(uncropped), options.dense)
    return looks


def answers(
    trained: Trained, looks: Mapping[str, Look], split: Split, device: torch.device, bar: Any
) -> dict[str, Tensor]:
    """Logarithms of probabilities, float64 ``[n, classes]``, by way of looking; no view is computed twice."""
    model = trained.model.to(memory_format=torch.channels_last)
    seen: dict[tuple[View, int | None], Tensor] = {}
    wanted = dict.fromkeys((view, each.stride) for each in looks.values() for view in each.views)
    for i, (view, stride) in enumerate(wanted):
        bar.set_postfix_str(f"view {i + 1} of {len(wanted)}")
        try:
            seen[view, stride] = look(model, trained.canvas, view, split, device, stride)
        except RuntimeError as error:  # memory, mostly: sizes= and dense= ask for as much as one likes
            reason = str(error).partition("\n")[0]
            raise DeviceError(f"cannot look through {view} on {device}: {reason}; try a smaller size") from error
    return {way: average([seen[view, each.stride] for view in each.views]) for way, each in looks.items()}
