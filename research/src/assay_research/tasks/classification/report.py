"""What an evaluation leaves: a table to read, JSON to keep, and figures."""

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
"""Images in the gallery."""


@dataclass(frozen=True)
class Look:
    """One way to look at an image.

    Attributes:
        views: their probabilities are averaged.
        stride: of dense evaluation, pixels; None where views are cropped.
    """

    views: tuple[View, ...]
    stride: int | None = None

    def __str__(self) -> str:
        count = f"{len(self.views)} view{'s' if len(self.views) > 1 else ''}"
        return count if self.stride is None else f"stride {self.stride}, {count}"


@dataclass(frozen=True)
class ClassifierSubject:
    """What is evaluated, and how.

    Attributes:
        run: its name.
        data: what it was trained on.
        split: ``val`` or ``test``.
        fingerprint: of the data.
        looks: ways to look, by name; ``plain`` is one of them.
    """

    run: str
    data: ClassificationData
    split: str
    fingerprint: str
    looks: dict[str, Look]

    @property
    def images(self) -> Split:
        """Of the split."""
        return {"val": self.data.val, "test": self.data.test}[self.split]

    def __str__(self) -> str:
        return f"{self.run}: {self.data.name} {self.split}, n {len(self.images)}"

    def name(self, look: str) -> str:
        """A way to look, for tables and legends."""
        return f"{look}, {self.looks[look]}"

    def record(self) -> dict[str, Any]:
        """What every JSON file begins with."""
        return {
            "run": self.run,
            "dataset": self.data.name,
            "split": self.split,
            "n": len(self.images),
            "fingerprint": self.fingerprint,
            "looks": {name: asdict(look) for name, look in self.looks.items()},
        }


@dataclass(frozen=True)
class ClassifierResult:
    """What the classifier of a checkpoint is worth, by way of looking."""

    checkpoint: str
    epoch: int
    scores: dict[str, Scores]


def report_one(result: ClassifierResult, logits: Tensor, subject: ClassifierSubject, folder: Path) -> Path:
    """Write ``<checkpoint>-<split>.json`` and three figures; print one checkpoint's table.

    Args:
        result: of the checkpoint.
        logits: float ``[n, classes]``, of the plain view.
        subject: what was evaluated.
        folder: where to write.

    Returns:
        The JSON file.
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
        f"{title}: surest mistakes",
    )
    say(f"{subject}; checkpoint {result.checkpoint}, epoch {result.epoch}")
    say(_table({subject.name(look): scores for look, scores in result.scores.items()}))
    weakest = sorted(plain.per_class.items(), key=lambda item: (math.isnan(item[1]), item[1]))[:5]
    say("weakest classes, plain: " + ", ".join(f"{name} {share:.4f}" for name, share in weakest))
    say(f"written: {path}, and beside it confusion.png, reliability.png, worst_mistakes.png")
    return path


def report_all(results: Sequence[ClassifierResult], subject: ClassifierSubject, folder: Path) -> Path:
    """Write ``all-<split>.json`` and a figure over epochs; print a table of all checkpoints for each way of looking.

    Args:
        results: of the checkpoints, epochs first and rising.
        subject: what was evaluated.
        folder: where to write.

    Returns:
        The JSON file.
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
        subject.name(look): {
            key: [getattr(result.scores[look], key) for result in epochs]
            for key in ("cross_entropy", "top1", "top5", "ece")
        }
        for look in subject.looks
    }
    drawn = path.with_suffix(".png")
    figures.metrics_over_epochs([result.epoch for result in epochs], metrics, drawn, str(subject))
    say(str(subject))
    for look in subject.looks:
        say(subject.name(look) + "\n" + _table({result.checkpoint: result.scores[look] for result in results}))
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
