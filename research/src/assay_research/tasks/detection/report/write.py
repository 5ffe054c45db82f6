"""Report of a detector's evaluation: a Markdown page, a JSON file and figures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from assay_research.models.boxes import Found
from assay_research.runs import finite_json
from assay_research.runs.disk import write_atomically
from assay_research.tasks.detection.report import page
from assay_research.tasks.detection.report.analysis import Analysis, DetectorResult, DetectorSubject, analyse
from assay_research.tasks.detection.report.confusion import by_genus
from assay_research.tasks.detection.report.errors import IOU, DetectionKind
from assay_research.tasks.detection.report.nms import best
from assay_research.terminal import say

GALLERIES: dict[str, DetectionKind | None] = {
    "missed": None,
    "confused": DetectionKind.CONFUSED,
    "duplicates": DetectionKind.DUPLICATE,
    "badly_placed": DetectionKind.BADLY_PLACED,
    "background": DetectionKind.BACKGROUND,
}
"""Gallery figures: file name -> kind of the detections; None for missed objects."""


def report_one(
    result: DetectorResult,
    found: Sequence[Found],
    subject: DetectorSubject,
    folder: Path,
    iou: float = IOU,
    score: float | None = None,
) -> Path:
    """Write ``<checkpoint>-<split>.json``, ``.md`` and a folder of figures; print one checkpoint's table.

    Args:
        result: metrics of the checkpoint.
        found: detections of each image with the plain view, in canvas pixels.
        subject: subject of the evaluation.
        folder: folder to write to.
        iou: smallest IoU of a detection with the object that it matches.
        score: score threshold of the detections; None uses the one with the best F1 over all classes together.

    Returns:
        Path of the JSON file.
    """
    split, classes = subject.images, subject.data.classes
    analysis = analyse(found, split, subject.data.canvas, classes, iou, score)
    path = folder / f"{result.checkpoint}-{subject.split}.json"
    drawn = path.with_suffix("")
    drawn.mkdir(exist_ok=True)
    _draw(result, analysis, subject, drawn)
    finite_json.write(subject.record() | asdict(result) | {"errors": analysis.record()}, path)
    written = path.with_suffix(".md")
    write_atomically(page.one(result, analysis, subject, drawn.name).encode(), written)
    say(f"{subject}; checkpoint {result.checkpoint}, epoch {result.epoch}")
    say(page.metrics(result, subject).rstrip())
    say(f"plain, score >= {analysis.errors.score:.3f}, IoU >= {iou:g}: {page.object_summary(analysis)}")
    say(f"written: {written}, {path.name}, and figures in {drawn.name}/")
    return path


def report_all(results: Sequence[DetectorResult], subject: DetectorSubject, folder: Path) -> Path:
    """Write ``all-<split>.json``, ``.md`` and a figure over epochs; print a table for each variant.

    Args:
        results: results of the checkpoints, epochs first and ascending.
        subject: subject of the evaluation.
        folder: folder to write to.

    Returns:
        Path of the JSON file.
    """
    from assay_research.tasks.detection.report import figures  # matplotlib, which only figures need

    path = folder / f"all-{subject.split}.json"
    finite_json.write(subject.record() | {"checkpoints": [asdict(result) for result in results]}, path)
    epochs = [result for result in results if result.checkpoint.startswith("epoch-")]
    scores = {subject.name(variant): [result.scores[variant] for result in epochs] for variant in subject.variants}
    drawn, written = path.with_suffix(".png"), path.with_suffix(".md")
    figures.metrics_over_epochs([result.epoch for result in epochs], scores, drawn, str(subject))
    write_atomically(page.several(results, subject, drawn.name).encode(), written)
    say(str(subject))
    for variant in subject.variants:
        say(subject.name(variant) + "\n" + page.over_epochs(results, variant).rstrip())
    say(f"written: {written}, {path.name}, {drawn.name}")
    return path


def _draw(result: DetectorResult, analysis: Analysis, subject: DetectorSubject, folder: Path) -> None:
    """Write every figure of one checkpoint."""
    from assay_research.tasks.detection.report import (
        figures,  # matplotlib
        galleries,
    )

    matching, errors, split = analysis.matching, analysis.errors, subject.images
    classes, canvas = matching.classes, subject.data.canvas
    about = f"{subject.run}\n{result.checkpoint}, epoch {result.epoch}; {subject.data.name} {subject.split}"
    judged = f"{about}; IoU >= {matching.iou:g}, score >= {errors.score:.3f}"
    figures.confusion_matrix(errors.confusion, classes, folder / "confusion.png", judged)
    genera, grouped = by_genus(errors.confusion, classes)
    if len(genera) < len(classes):
        figures.confusion_matrix(grouped, genera, folder / "genus.png", f"{judged}, by genus")
    matched = f"{about}; IoU >= {matching.iou:g}"
    figures.precision_recall(analysis.curves, folder / "precision_recall.png", matched)
    figures.thresholds(analysis.thresholds, folder / "thresholds.png", f"{matched}; best F1 of every class")
    figures.nms_sweep(analysis.nms, best(analysis.nms), folder / "nms.png", judged)
    for name, kind in GALLERIES.items():
        cases = galleries.cases(matching, errors, kind)
        shown = cases[: galleries.CASES]
        title = f"{judged}\n{name.replace('_', ' ')}" + (f": {len(cases)}" if cases else "")
        title += f", the first {len(shown)}" if len(shown) < len(cases) else ""
        galleries.gallery(matching, errors, shown, split, canvas, folder / f"{name}.png", title)
