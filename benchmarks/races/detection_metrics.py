"""Compare the speed of the detection metrics with pycocotools on the same detections; the figures must be equal.

    python -m benchmarks.races.detection_metrics [--rounds 15] [--report bench]

Both start with boxes in tensors and end with COCO's twelve figures; they share the code that converts boxes to
annotations. Boxes and scores are random; their numbers are those of BCCD's test split and COCO's validation split.
"""

import argparse
import contextlib
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import SUMMARY, annotations, measure
from benchmarks.measure.environment import describe
from benchmarks.measure.interleave import figures
from benchmarks.report import document as report

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Size:
    """Size of a random data set.

    Attributes:
        like: name of a real data set of about this size.
        images: number of images.
        classes: number of object classes.
        objects: average number of objects per image.
        detections: number of detections per image.
    """

    like: str
    images: int
    classes: int
    objects: int
    detections: int

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.detections} detections per image, like {self.like}"


SIZES = (Size("BCCD", 72, 3, 13, 100), Size("COCO", 5000, 80, 7, 100))


def draw(size: Size, canvas: Canvas) -> tuple[list[Found], BoxSplit]:
    """Draw random objects and detections near them: four in five slightly moved, one in five with a random class.

    Args:
        size: numbers of images, classes, objects and detections.
        canvas: canvas of the images; all images have its size.
    """
    random = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 2 * size.objects, (size.images,), generator=random).tolist()
    boxes, labels, found = [], [], []
    for count in counts:
        corner = torch.rand(count, 2, generator=random) * torch.tensor([0.8 * canvas.width, 0.8 * canvas.height])
        box = torch.cat([corner, corner + 8 + 120 * torch.rand(count, 2, generator=random)], 1)
        label = torch.randint(size.classes, (count,), generator=random)
        about = torch.randint(count, (size.detections,), generator=random)
        sides = (box[:, 2:] - box[:, :2])[about].repeat(1, 2)
        noise = torch.where(torch.rand(size.detections, 1, generator=random) < 0.8, 0.08, 0.8)
        moved = box[about] + noise * sides * (torch.rand(size.detections, 4, generator=random) - 0.5)
        other = torch.randint(size.classes, (size.detections,), generator=random)
        correct = torch.rand(size.detections, generator=random) < 0.8
        scores = torch.rand(size.detections, generator=random).sort(descending=True).values
        boxes.append(box)
        labels.append(label)
        found.append(Found(moved, scores, torch.where(correct, label[about], other)))
    split = BoxSplit(
        images=torch.zeros(size.images, 1, 1, 3, dtype=torch.uint8),
        boxes=tuple(boxes),
        labels=tuple(labels),
        ignored=tuple(torch.zeros(count, dtype=torch.bool) for count in counts),
        sizes=torch.tensor([[canvas.height, canvas.width]]).repeat(size.images, 1),
        names=tuple(map(str, range(size.images))),
    )
    return found, split


def measure_with_pycocotools(found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: int) -> list[float]:
    """Return COCO's twelve figures by pycocotools; NaN where there are no objects to evaluate."""
    truth, detections = annotations(found, split, canvas)
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(split))],
        "categories": [{"id": i} for i in range(classes)],
        "annotations": truth,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(detections), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [value if value > -1 else math.nan for value in judge.stats.tolist()]


def compare(size: Size, rounds: int) -> dict[str, Any]:
    """Time both in alternation and check that their figures are equal.

    Args:
        size: size of the random data set.
        rounds: number of rounds.

    Raises:
        ValueError: the figures differ by more than `TOLERANCE`.
    """
    canvas = Canvas(480, 640)
    found, split = draw(size, canvas)
    names = [str(i) for i in range(size.classes)]
    baseline, target = [], []
    for _ in range(rounds):
        start = perf_counter()
        theirs = measure_with_pycocotools(found, split, canvas, size.classes)
        between = perf_counter()
        scores = measure(found, split, canvas, names)
        baseline.append(between - start)
        target.append(perf_counter() - between)
    ours = [getattr(scores, key) for key in SUMMARY]
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True) if not (math.isnan(a) and math.isnan(b)))
    if not difference <= TOLERANCE:
        raise ValueError(f"{size}: the figures differ by {difference:.3g}: {ours}, pycocotools {theirs}")
    sys.stdout.write(f"{size}: mAP {scores.map:.4f}, equal to {difference:.1g}\n")
    named = {"group": "Detection metrics", "device": "cpu", "target": str(size), "baseline": "pycocotools"}
    return named | figures(baseline, target, [size.images] * rounds)


def main(typed: Sequence[str] | None = None) -> None:
    """Run the command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds",
        type=int,
        default=15,
        help="rounds of the smaller data set, a third of them for the larger; default 15",
    )
    parser.add_argument(
        "--report", type=Path, default=Path("bench"), metavar="FOLDER", help="folder of the report; default bench"
    )
    arguments = parser.parse_args(typed)
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {arguments.rounds}")
    environment = describe()
    try:
        small, large = SIZES
        timings = [compare(small, arguments.rounds), compare(large, math.ceil(arguments.rounds / 3))]
        subject = {
            "what": "COCO's twelve figures",
            **{name: version(name) for name in ("faster-coco-eval", "pycocotools")},
        }
        document = report.document(environment, subject, timings=timings)
        report.show(document, arguments.report)
    except (ValueError, OSError) as error:
        sys.exit(f"detection_metrics: {error}")
    except KeyboardInterrupt:
        sys.exit("detection_metrics: interrupted")


if __name__ == "__main__":
    main()
