"""Markdown page of a detector's evaluation, and its tables."""

import math
from collections.abc import Sequence

from assay_research.reports.tables import table
from assay_research.tasks.detection.metrics import SUMMARY
from assay_research.tasks.detection.report.analysis import Analysis, DetectorResult, DetectorSubject
from assay_research.tasks.detection.report.confusion import genus
from assay_research.tasks.detection.report.errors import DetectionKind, ObjectStatus
from assay_research.tasks.detection.report.nms import best

HEADS = (
    *("mAP", "mAP@50", "mAP@75", "small", "medium", "large"),
    *("AR@1", "AR@10", "AR@100", "AR small", "AR medium", "AR large"),
)
COCO = dict(zip(SUMMARY, HEADS, strict=True))
"""COCO metrics and their column headings."""

OVER_EPOCHS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "mar100")

KINDS = {
    DetectionKind.CORRECT: "matches an object of its class",
    DetectionKind.CONFUSED: "overlaps an object of another class",
    DetectionKind.DUPLICATE: "its object is matched by a detection with a higher score",
    DetectionKind.BADLY_PLACED: "an object of its class is near, but the IoU is too small",
    DetectionKind.BACKGROUND: "no object of its class is near",
}
"""Descriptions of the kinds of detections for the page."""


def one(result: DetectorResult, analysis: Analysis, subject: DetectorSubject, figures: str) -> str:
    """Return the page about one checkpoint.

    Args:
        result: metrics of the checkpoint.
        analysis: error analysis of its detections with the plain view.
        subject: subject of the evaluation.
        figures: name of the folder of figures, next to the page.
    """
    errors, plain = analysis.errors, result.scores["plain"]
    judged = f"score >= {errors.score:.3f}, IoU >= {analysis.matching.iou:g}"
    parts = [
        f"# {subject.run}, {result.checkpoint}\n",
        f"Epoch {result.epoch}; {subject.data.name} {subject.split}: {plain.images:,} images, "
        f"{plain.objects:,} objects of {len(analysis.matching.classes)} classes.\n",
        "## COCO metrics\n",
        metrics(result, subject),
        "mAP is the mean over classes and IoU thresholds from 0.50 to 0.95. Gain and cost are relative to the plain "
        "view; ms is per image. Objects are small below 32x32 pixels of the image, large from 96x96.\n",
        "## Errors\n",
        f"Plain view, {judged}. {object_summary(analysis)}\n",
        _kinds(analysis),
        _confusions(analysis),
        _figure(figures, "confusion", "Confusion matrix with background"),
        "A row's sum is the number of objects of a class, a column's sum the number of its detections. The last column "
        "counts the missed objects. The last row counts the detections that are not counted for an object: "
        "background, badly placed, duplicates, and those of another class on an object that was also found.\n",
    ]
    if _grouped(analysis):
        parts.append(_figure(figures, "genus", "The same by genus"))
    parts += [
        "## Classes\n",
        _classes(result, analysis),
        _figure(figures, "precision_recall", "Precision against recall"),
        "## Score thresholds\n",
        f"With one threshold for all classes F1 is highest at {_number(analysis.overall.score)}: F1 "
        f"{_number(analysis.overall.f1)}, precision {_number(analysis.overall.precision)}, recall "
        f"{_number(analysis.overall.recall)}. A class' own threshold is chosen and scored on the same objects: with "
        "few objects it is not reliable.\n",
        _thresholds(analysis),
        _figure(figures, "thresholds", "Score threshold with the best F1 of every class"),
        "## Non-maximum suppression\n",
        f"Additional NMS per class on the detector's output; {judged}. {_best_nms(analysis)}\n",
        _nms(analysis),
        _figure(figures, "nms", "Duplicates, lost objects and scores by NMS threshold"),
        "## Galleries\n",
        *(
            _figure(figures, name, caption)
            for name, caption in (
                ("missed", "Missed objects, the largest first"),
                ("confused", "Detections of another class, the highest score first; some objects are also found"),
                ("duplicates", "Duplicates, the highest score first"),
                ("badly_placed", "Badly placed, the highest score first"),
                ("background", "Detections of background, the highest score first"),
            )
        ),
    ]
    return "\n".join(part for part in parts if part)


def several(results: Sequence[DetectorResult], subject: DetectorSubject, figure: str) -> str:
    """Return the page about all checkpoints.

    Args:
        results: results of the checkpoints, in order.
        subject: subject of the evaluation.
        figure: file name of the figure over epochs, next to the page.
    """
    parts = [f"# {subject}\n", f"![COCO metrics over epochs]({figure})\n"]
    for variant in subject.variants:
        parts += [f"## {subject.name(variant)}\n", over_epochs(results, variant)]
    return "\n".join(parts)


def metrics(result: DetectorResult, subject: DetectorSubject) -> str:
    """Return a table of all COCO metrics, a row for each variant, with its gain and cost relative to the plain view."""
    plain, usual = result.scores["plain"], result.seconds["plain"]
    rows = [["", "mAP", "gain", "mAP@50", "gain", *list(COCO.values())[2:], "ms", "cost"]]
    for variant, scores in result.scores.items():
        pairs = [
            cell
            for key in ("map", "map50")
            for cell in (_number(getattr(scores, key)), _gain(getattr(scores, key) - getattr(plain, key), variant))
        ]
        others = [_number(getattr(scores, key)) for key in list(COCO)[2:]]
        seconds = result.seconds[variant]
        cost = "" if variant == "plain" else f"{seconds / usual:.2f}"
        rows.append([subject.name(variant), *pairs, *others, f"{1e3 * seconds:.1f}", cost])
    return table(rows)


def over_epochs(results: Sequence[DetectorResult], variant: str) -> str:
    """Return a table of the main metrics, a row for each checkpoint.

    Args:
        results: results of the checkpoints, in order.
        variant: name of the variant.
    """
    rows = [["checkpoint", "epoch", *(COCO[key] for key in OVER_EPOCHS)]]
    rows += [
        [each.checkpoint, str(each.epoch), *(_number(getattr(each.scores[variant], key)) for key in OVER_EPOCHS)]
        for each in results
    ]
    return table(rows)


def object_summary(analysis: Analysis) -> str:
    """Return a sentence with the numbers of found, confused and missed objects."""
    found, confused, missed = (
        analysis.errors.count_objects(status)
        for status in (ObjectStatus.FOUND, ObjectStatus.CONFUSED, ObjectStatus.MISSED)
    )
    return (
        f"Of {found + confused + missed:,} objects, {found:,} are found, {confused:,} confused with another class, "
        f"{missed:,} missed."
    )


def _kinds(analysis: Analysis) -> str:
    errors = analysis.errors
    total = max(1, sum(errors.count(kind) for kind in KINDS))
    rows = [["detections", "count", "share", "description"]]
    rows += [
        [_words(kind.name), f"{errors.count(kind)}", f"{errors.count(kind) / total:.1%}", description]
        for kind, description in KINDS.items()
    ]
    return table(rows)


def _confusions(analysis: Analysis) -> str:
    """Return a sentence and a table of the most frequent confusions; "" if there are none."""
    if not analysis.mistaken:
        return ""
    total = sum(each.count for each in analysis.mistaken)
    rank = {name: i for i, name in enumerate(analysis.matching.classes)}
    frequent = sum(each.count for each in analysis.mistaken if rank[each.predicted] < rank[each.true])
    text = f"Of {total} confused objects, {frequent} were detected as a class that is more frequent in the data set"
    if _grouped(analysis):
        kin = sum(each.count for each in analysis.mistaken if genus(each.true) == genus(each.predicted))
        text += f", and {kin} as one of the same genus"
    rows = [["true class", "detected as", "objects", "of"]]
    rows += [[each.true, each.predicted, str(each.count), str(each.objects)] for each in analysis.mistaken[:10]]
    return f"{text}. The most frequent confusions:\n\n{table(rows)}"


def _classes(result: DetectorResult, analysis: Analysis) -> str:
    plain = result.scores["plain"]
    shown = (ObjectStatus.FOUND, ObjectStatus.CONFUSED, ObjectStatus.MISSED)
    boxes = (f"{_words(kind.name)} boxes" for kind in KINDS)
    rows = [["class", "objects", "AP", "AP@50", *(_words(status.name) for status in shown), *boxes]]
    for label, name in enumerate(analysis.matching.classes):
        counts = analysis.counts(label)
        objects = [counts["objects"][each.name.lower()] for each in shown]
        cells = [*objects, *counts["detections"].values()]
        rows.append([name, str(sum(objects)), _number(plain.ap[name]), _number(plain.ap50[name]), *map(str, cells)])
    return table(rows)


def _thresholds(analysis: Analysis) -> str:
    rows = [["class", "objects", "score", "F1", "precision", "recall"]]
    rows += [
        [name, str(analysis.curves[name].objects), *map(_number, (each.score, each.f1, each.precision, each.recall))]
        for name, each in analysis.thresholds.items()
    ]
    return table(rows)


def _nms(analysis: Analysis) -> str:
    rows = [["NMS threshold", "detections", "duplicates", "objects lost", "precision", "recall", "F1", "mAP"]]
    rows += [
        [
            "none" if each.threshold is None else f"{each.threshold:g}",
            *map(str, (each.detections, each.duplicates, each.lost)),
            *map(_number, (each.precision, each.recall, each.f1, each.map)),
        ]
        for each in analysis.nms
    ]
    return table(rows)


def _best_nms(analysis: Analysis) -> str:
    before, chosen = analysis.nms[0], best(analysis.nms)
    if chosen.threshold is None:
        return "None of the thresholds gives a better F1 than the detector's output without additional NMS."
    changes = (
        ("duplicates", str(before.duplicates), str(chosen.duplicates)),
        ("F1", _number(before.f1), _number(chosen.f1)),
        ("mAP", _number(before.map), _number(chosen.map)),
    )
    text = ", ".join(f"{name} from {old} to {new}" for name, old, new in changes)
    return f"The best F1 is at threshold {chosen.threshold:g}, which changes {text}; objects lost: {chosen.lost}."


def _grouped(analysis: Analysis) -> bool:
    """Return True if any genus has several classes."""
    classes = analysis.matching.classes
    return len(set(map(genus, classes))) < len(classes)


def _figure(folder: str, name: str, caption: str) -> str:
    return f"![{caption}]({folder}/{name}.png)\n"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _number(value: float) -> str:
    """Format with four decimals, or as a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def _gain(value: float, variant: str) -> str:
    return "" if variant == "plain" or math.isnan(value) else f"{value:+.4f}"
