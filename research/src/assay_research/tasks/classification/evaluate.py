"""Evaluate a run's classifier checkpoints on a split, with each requested variant: plain, TTA or dense."""

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
from assay_research.tasks.classification.dense import evaluate_view
from assay_research.tasks.classification.metrics import average, measure
from assay_research.tasks.classification.report import (
    ClassifierResult,
    ClassifierSubject,
    Variant,
    report_all,
    report_one,
)
from assay_research.tasks.options import chosen_views


def evaluate_classifiers(
    run: Run, options: EvaluationOptions, data: ClassificationData, names: Sequence[str], device: torch.device
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
        AssayError: a checkpoint is damaged or was trained on other data.
    """
    variants = choose_variants(options, views_of(run))
    subject = ClassifierSubject(run.name, data, options.split, data.fingerprint(), variants)
    split = subject.images.to(device)
    results = []
    with tqdm(total=len(names), unit="checkpoint", leave=False, disable=not sys.stderr.isatty()) as bar:
        for name in names:
            trained, epoch = load_checked(run, name, device, data, subject.fingerprint)
            logits = evaluate_variants(trained, variants, split, device, bar)
            scores = {variant: measure(each, split.labels, data.classes) for variant, each in logits.items()}
            results.append(ClassifierResult(name, epoch, scores))
            bar.update()
    folder = run.evaluation()
    if options.checkpoint == "all":
        return report_all(results, subject, folder)
    return report_one(results[0], logits["plain"], subject, folder)


def choose_variants(options: EvaluationOptions, own: tuple[View, ...]) -> dict[str, Variant]:
    """Return the requested variants by name: always ``plain``, ``tta`` with several views, ``dense`` if requested.

    Args:
        options: command-line options.
        own: the run's own views.

    Raises:
        ConfigError: a view is invalid, or ``views=`` is combined with ``sizes=`` or ``flip=``.
    """
    views = chosen_views(options, own)
    variants = {"plain": Variant(views[:1])}
    if len(views) > 1:
        variants["tta"] = Variant(views)
    if options.dense is not None:
        uncropped = dict.fromkeys(replace(view, crop="center") for view in views)
        variants["dense"] = Variant(tuple(uncropped), options.dense)
    return variants


def evaluate_variants(
    trained: Trained, variants: Mapping[str, Variant], split: Split, device: torch.device, bar: Any
) -> dict[str, Tensor]:
    """Compute log-probabilities, float64 ``[n, classes]``, for each variant; a view that variants share runs once."""
    model = trained.model.to(memory_format=torch.channels_last)
    logits: dict[tuple[View, int | None], Tensor] = {}
    wanted = dict.fromkeys((view, each.stride) for each in variants.values() for view in each.views)
    for i, (view, stride) in enumerate(wanted):
        bar.set_postfix_str(f"view {i + 1} of {len(wanted)}")
        try:
            logits[view, stride] = evaluate_view(model, trained.canvas, view, split, device, stride)
        except RuntimeError as error:  # mostly out of memory: sizes= and dense= have no upper limit
            reason = str(error).partition("\n")[0]
            raise DeviceError(f"cannot evaluate {view} on {device}: {reason}; try a smaller size") from error
    return {
        name: average([logits[view, variant.stride] for view in variant.views]) for name, variant in variants.items()
    }
