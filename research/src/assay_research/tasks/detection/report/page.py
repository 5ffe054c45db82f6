"""The page about a detector's evaluation, in Markdown, and its tables."""

import math
from collections.abc import Sequence

from assay_research.reports.tables import table
from assay_research.tasks.detection.metrics import SUMMARY
from assay_research.tasks.detection.report.analysis import Analysis, DetectorResult, DetectorSubject
from assay_research.tasks.detection.report.confusion import genus
from assay_research.tasks.detection.report.errors import Fate, Judgement
from assay_research.tasks.detection.report.nms import best

HEADS = (
    *("mAP", "mAP@50", "mAP@75", "small", "medium", "large"),
    *("AR@1", "AR@10", "AR@100", "AR small", "AR medium", "AR large"),
)
COCO = dict(zip(SUMMARY, HEADS, strict=True))
"""COCO's figures, as tables head them."""

OVER_EPOCHS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "mar100")

KINDS = {
    Judgement.CORRECT: "takes an object of its class",
    Judgement.CONFUSED: "an object of another class is in its place",
    Judgement.DUPLICATE: "its object was taken by a higher score",
    Judgement.BADLY_PLACED: "an object of its class is near, with too small an IoU",
    Judgement.BACKGROUND: "nothing of its class is there",
}
"""What a detection can be, for a reader."""


def one(result: DetectorResult, analysis: Analysis, subject: DetectorSubject, figures: str) -> str:
    """The page about one checkpoint.

    Args:
        result: its metrics.
        analysis: of what it found with the plain view.
        subject: what was evaluated.
        figures: folder of the figures, beside the page.
    """
    errors, plain = analysis.errors, result.scores["plain"]
    judged = f"score from {errors.score:.3f}, IoU from {analysis.matching.iou:g}"
    parts = [
        f"# {subject.run}, {result.checkpoint}\n",
        f"Epoch {result.epoch}; {subject.data.name} {subject.split}: {plain.images:,} images, "
        f"{plain.objects:,} objects of {len(analysis.matching.classes)} classes.\n",
        "## COCO metrics\n",
        metrics(result, subject),
        "mAP is the mean over IoU 0.50 to 0.95 and classes. Gain and cost are against the plain view; ms is per "
        "image. Small is below 32x32 pixels of the image, large from 96x96.\n",
        "## Errors\n",
        f"Plain view, {judged}. {fates(analysis)}\n",
        _kinds(analysis),
        _confusions(analysis),
        _figure(figures, "confusion", "Confusion matrix with background"),
        "A row sums up to the objects of a class, a column to its detections. The last column is the missed objects. "
        "The last row is the detections that no object is counted for: background, badly placed, duplicates, and "
        "those of another class on an object that was found all the same.\n",
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
        f"{_number(analysis.overall.recall)}. A class' own threshold was chosen on the very objects it is measured "
        "by: with few of them it says little.\n",
        _thresholds(analysis),
        _figure(figures, "thresholds", "Score threshold with the best F1 of every class"),
        "## Non-maximum suppression\n",
        f"Class by class, on the detections as the detector gave them; {judged}. {_best_nms(analysis)}\n",
        _nms(analysis),
        _figure(figures, "nms", "What NMS removes and costs"),
        "## Galleries\n",
        *(
            _figure(figures, name, caption)
            for name, caption in (
                ("missed", "Missed objects, the largest first"),
                ("confused", "Detections of another class, the highest score first; some objects are found as well"),
                ("duplicates", "Duplicates, the highest score first"),
                ("badly_placed", "Badly placed, the highest score first"),
                ("background", "Detections of nothing, the highest score first"),
            )
        ),
    ]
    return "\n".join(part for part in parts if part)


def several(results: Sequence[DetectorResult], subject: DetectorSubject, figure: str) -> str:
    """The page about all checkpoints.

    Args:
        results: of the checkpoints, in their order.
        subject: what was evaluated.
        figure: over epochs, a file beside the page.
    """
    parts = [f"# {subject}\n", f"![COCO metrics over epochs]({figure})\n"]
    for look in subject.looks:
        parts += [f"## {subject.name(look)}\n", over_epochs(results, look)]
    return "\n".join(parts)


def metrics(result: DetectorResult, subject: DetectorSubject) -> str:
    """Every COCO figure, a row for each way of looking, with its gain over the plain one and what that costs."""
    plain, usual = result.scores["plain"], result.seconds["plain"]
    rows = [["", "mAP", "gain", "mAP@50", "gain", *list(COCO.values())[2:], "ms", "cost"]]
    for look, scores in result.scores.items():
        pairs = [
            cell
            for key in ("map", "map50")
            for cell in (_number(getattr(scores, key)), _gain(getattr(scores, key) - getattr(plain, key), look))
        ]
        others = [_number(getattr(scores, key)) for key in list(COCO)[2:]]
        seconds = result.seconds[look]
        cost = "" if look == "plain" else f"{seconds / usual:.2f}"
        rows.append([subject.name(look), *pairs, *others, f"{1e3 * seconds:.1f}", cost])
    return table(rows)


def over_epochs(results: Sequence[DetectorResult], look: str) -> str:
    """The main figures, a row for each checkpoint.

    Args:
        results: of the checkpoints, in their order.
        look: the way of looking.
    """
    rows = [["checkpoint", "epoch", *(COCO[key] for key in OVER_EPOCHS)]]
    rows += [
        [each.checkpoint, str(each.epoch), *(_number(getattr(each.scores[look], key)) for key in OVER_EPOCHS)]
        for each in results
    ]
    return table(rows)


def fates(analysis: Analysis) -> str:
    """What became of the objects, in a sentence."""
    found, confused, missed = (analysis.errors.fates(fate) for fate in (Fate.FOUND, Fate.CONFUSED, Fate.MISSED))
    return (
        f"Of {found + confused + missed:,} objects {found:,} are found, {confused:,} taken for another class, "
        f"{missed:,} missed."
    )


def _kinds(analysis: Analysis) -> str:
    errors = analysis.errors
    total = max(1, sum(errors.count(kind) for kind in KINDS))
    rows = [["detections", "count", "share", "what they are"]]
    rows += [
        [_words(kind.name), f"{errors.count(kind)}", f"{errors.count(kind) / total:.1%}", what]
        for kind, what in KINDS.items()
    ]
    return table(rows)


def _confusions(analysis: Analysis) -> str:
    """The most frequent confusions, and where they go."""
    if not analysis.mistaken:
        return ""
    total = sum(each.count for each in analysis.mistaken)
    rank = {name: i for i, name in enumerate(analysis.matching.classes)}
    frequent = sum(each.count for each in analysis.mistaken if rank[each.predicted] < rank[each.true])
    said = f"Of {total} confused objects {frequent} were taken for a class that is more frequent in the data set"
    if _grouped(analysis):
        kin = sum(each.count for each in analysis.mistaken if genus(each.true) == genus(each.predicted))
        said += f", and {kin} for one of the same genus"
    rows = [["is", "taken for", "objects", "of"]]
    rows += [[each.true, each.predicted, str(each.count), str(each.objects)] for each in analysis.mistaken[:10]]
    return f"{said}. The most frequent confusions:\n\n{table(rows)}"


def _classes(result: DetectorResult, analysis: Analysis) -> str:
    plain = result.scores["plain"]
    shown = (Fate.FOUND, Fate.CONFUSED, Fate.MISSED)
    boxes = (f"{_words(kind.name)} boxes" for kind in KINDS)
    rows = [["class", "objects", "AP", "AP@50", *(_words(fate.name) for fate in shown), *boxes]]
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
        return "None of the thresholds gives a better F1 than the detections as they came."
    changes = (
        ("duplicates", str(before.duplicates), str(chosen.duplicates)),
        ("F1", _number(before.f1), _number(chosen.f1)),
        ("mAP", _number(before.map), _number(chosen.map)),
    )
    said = ", ".join(f"{what} from {old} to {new}" for what, old, new in changes)
    return f"The best F1 is at {chosen.threshold:g}, which takes {said}; objects lost: {chosen.lost}."


def _grouped(analysis: Analysis) -> bool:
    """Whether any genus has several classes."""
    classes = analysis.matching.classes
    return len(set(map(genus, classes))) < len(classes)


def _figure(folder: str, name: str, caption: str) -> str:
    return f"![{caption}]({folder}/{name}.png)\n"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _number(value: float) -> str:
    """Four decimals, or a dash where there was nothing to measure by."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def _gain(value: float, look: str) -> str:
    return "" if look == "plain" or math.isnan(value) else f"{value:+.4f}"
