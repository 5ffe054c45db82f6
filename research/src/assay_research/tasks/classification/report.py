"""Report of a classifier's evaluation: printed tables, a JSON file and figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from assay_deploy.images.canvas import View
from assay_research.data.classification import ClassificationData, Split
from assay_research.runs import finite_json
from assay_research.tasks.classification.metrics import Scores, worst_mistakes
from assay_research.terminal import say

MISTAKES = 32
"""Largest number of images in the figure of the worst mistakes."""


@dataclass(frozen=True)
class Variant:
    """One variant of evaluation: plain, test-time augmentation or dense.

    Attributes:
        views: views whose probabilities are averaged.
        stride: distance between two outputs of dense evaluation in pixels; None if views are cropped.
    """

    views: tuple[View, ...]
    stride: int | None = None

    def __str__(self) -> str:
        count = f"{len(self.views)} view{'s' if len(self.views) > 1 else ''}"
        return count if self.stride is None else f"stride {self.stride}, {count}"


@dataclass(frozen=True)
class ClassifierSubject:
    """Subject of an evaluation: run, data set, split and variants.

    Attributes:
        run: name of the run.
        data: data set that the run was trained on.
        split: ``val`` or ``test``.
        fingerprint: fingerprint of the data set.
        variants: variants by name; ``plain`` is always among them.
    """

    run: str
    data: ClassificationData
    split: str
    fingerprint: str
    variants: dict[str, Variant]

    @property
    def images(self) -> Split:
        """Images and labels of the split."""
        return {"val": self.data.val, "test": self.data.test}[self.split]

    def __str__(self) -> str:
        return f"{self.run}: {self.data.name} {self.split}, n {len(self.images)}"

    def name(self, variant: str) -> str:
        """Return a variant's label for tables and legends."""
        return f"{variant}, {self.variants[variant]}"

    def record(self) -> dict[str, Any]:
        """Return the common header of every JSON file."""
        return {
            "run": self.run,
            "dataset": self.data.name,
            "split": self.split,
            "n": len(self.images),
            "fingerprint": self.fingerprint,
            "variants": {name: asdict(variant) for name, variant in self.variants.items()},
        }


@dataclass(frozen=True)
class ClassifierResult:
    """Scores of one checkpoint's classifier, by variant."""

    checkpoint: str
    epoch: int
    scores: dict[str, Scores]


def report_one(result: ClassifierResult, logits: Tensor, subject: ClassifierSubject, folder: Path) -> Path:
    """Write ``<checkpoint>-<split>.json`` and three figures; print one checkpoint's table.

    Args:
        result: scores of the checkpoint.
        logits: float ``[n, classes]``, logits of the plain view.
        subject: subject of the evaluation.
        folder: folder to write to.

    Returns:
        Path of the JSON file.
    """
    from assay_research.tasks.classification import figures  # matplotlib, which only figures need

    plain, split, classes = result.scores["plain"], subject.images, subject.data.classes
    path = folder / f"{result.checkpoint}-{subject.split}.json"
    finite_json.write(subject.record() | asdict(result), path)
    title = (
        f"{subject.run}\n{result.checkpoint}, epoch {result.epoch}; {subject.data.name} {subject.split}, n {plain.n}"
    )
    figures.confusion_matrix(plain.confusion, classes, folder / "confusion.png", title)
    figures.reliability_diagram(plain.reliability, folder / "reliability.png", title)
    chosen = worst_mistakes(logits, split.labels, MISTAKES)
    confidence, predicted = (each[chosen].tolist() for each in logits.softmax(1).max(1))
    figures.worst_mistakes(
        split.images[chosen].numpy(),
        [split.names[i] for i in chosen],
        [classes[i] for i in split.labels[chosen]],
        [classes[i] for i in predicted],
        confidence,
        folder / "worst_mistakes.png",
        f"{title}: wrong predictions with the highest confidence",
    )
    say(f"{subject}; checkpoint {result.checkpoint}, epoch {result.epoch}")
    say(_table({subject.name(variant): scores for variant, scores in result.scores.items()}))
    weakest = sorted(plain.per_class.items(), key=lambda item: (math.isnan(item[1]), item[1]))[:5]
    say("weakest classes, plain: " + ", ".join(f"{name} {share:.4f}" for name, share in weakest))
    say(f"written: {path}, and in the same folder confusion.png, reliability.png, worst_mistakes.png")
    return path


def report_all(results: Sequence[ClassifierResult], subject: ClassifierSubject, folder: Path) -> Path:
    """Write ``all-<split>.json`` and a figure over epochs; print a table of all checkpoints for each variant.

    Args:
        results: scores of the checkpoints, epochs first and ascending.
        subject: subject of the evaluation.
        folder: folder to write to.

    Returns:
        Path of the JSON file.
    """
    from assay_research.tasks.classification import figures  # matplotlib, which only figures need

    path = folder / f"all-{subject.split}.json"
    records = [asdict(result) for result in results]
    for record in records:
        for scores in record["scores"].values():  # a matrix for each of hundreds of epochs would be most of the file
            del scores["confusion"], scores["reliability"]
    finite_json.write(subject.record() | {"checkpoints": records}, path)
    epochs = [result for result in results if result.checkpoint.startswith("epoch-")]
    metrics = {
        subject.name(variant): {
            key: [getattr(result.scores[variant], key) for result in epochs]
            for key in ("cross_entropy", "top1", "top5", "ece")
        }
        for variant in subject.variants
    }
    drawn = path.with_suffix(".png")
    figures.metrics_over_epochs([result.epoch for result in epochs], metrics, drawn, str(subject))
    say(str(subject))
    for variant in subject.variants:
        table = _table({result.checkpoint: result.scores[variant] for result in results})
        say(f"{subject.name(variant)}\n{table}")
    say(f"written: {path}, {drawn.name}")
    return path


def _table(rows: Mapping[str, Scores]) -> str:
    width = max(map(len, rows))
    best = min(5, *(len(scores.confusion) for scores in rows.values()))
    lines = [f"  {'':{width}}  cross-entropy   top-1   top-{best}  balanced     ECE"]
    lines += [
        f"  {name:{width}}  {each.cross_entropy:13.4f}  {each.top1:.4f}  {each.top5:.4f}  "
        f"{each.balanced_accuracy:8.4f}  {each.ece:.4f}"
        for name, each in rows.items()
    ]
    return "\n".join(lines)
