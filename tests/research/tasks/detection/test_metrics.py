"""The metrics of a detector are those of pycocotools on the same detections, in the images' own pixels."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from defusedxml import ElementTree
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from assay_deploy.images.canvas import Canvas, boxes_from_canvas, boxes_to_canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import SUMMARY, evaluate, measure

SQUARE = Canvas(100, 100, "letterbox")


def split_of(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    ignored: Sequence[Tensor] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> BoxSplit:
    """Black images with these objects on the canvas."""
    n = len(boxes)
    return BoxSplit(
        images=torch.zeros(n, 1, 1, 3, dtype=torch.uint8),
        boxes=tuple(boxes),
        labels=tuple(labels),
        ignored=tuple(ignored or [torch.zeros(len(each), dtype=torch.bool) for each in boxes]),
        sizes=torch.tensor(sizes or [(100, 100)] * n),
        names=tuple(map(str, range(n))),
    )


def one_image(
    objects: list[tuple[list[float], int]], found: list[tuple[list[float], float, int]]
) -> tuple[list[Found], BoxSplit]:
    boxes, labels = [box for box, _ in objects], [label for _, label in objects]
    split = split_of([torch.tensor(boxes).reshape(-1, 4)], [torch.tensor(labels, dtype=torch.int64)])
    return [
        Found(
            torch.tensor([box for box, _, _ in found]).reshape(-1, 4),
            torch.tensor([score for _, score, _ in found]),
            torch.tensor([label for _, _, label in found], dtype=torch.int64),
        )
    ], split


def random_found(split: BoxSplit, classes: int, seed: int, each: int, ties: bool = False) -> list[Found]:
    """Noisy copies of the objects, some of another class, and boxes of nothing."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for boxes, labels in zip(split.boxes, split.labels, strict=True):
        corner = 60 * torch.rand(each, 2, generator=random)
        drawn = torch.cat([corner, corner + 2 + 30 * torch.rand(each, 2, generator=random)], 1)
        label = torch.randint(classes, (each,), generator=random)
        if len(boxes):
            about = torch.randint(len(boxes), (each,), generator=random)
            sides = (boxes[about, 2:] - boxes[about, :2]).repeat(1, 2)
            near = torch.rand(each, generator=random) < 0.8
            noisy = boxes[about] + 0.1 * sides * torch.randn(each, 4, generator=random)
            drawn = torch.where(near[:, None], noisy, drawn)
            label = torch.where(torch.rand(each, generator=random) < 0.8, labels[about], label)
        scores = torch.rand(each, generator=random).sort(descending=True).values
        found.append(Found(drawn, (10 * scores).round() / 10 if ties else scores, label))
    return found


def random_split(n: int, classes: int, seed: int, canvas: Canvas, crowds: float = 0.0) -> BoxSplit:
    random = np.random.default_rng(seed)
    sizes = [(int(h), int(w)) for h, w in random.integers(40, 700, (n, 2))]
    boxes, labels, ignored = [], [], []
    for height, width in sizes:
        count = int(random.integers(0, 9))
        corners = np.sort(random.random((count, 2, 2)), axis=1).reshape(count, 4) * [width, height, width, height]
        corners[:, 2:] += 3
        boxes.append(torch.from_numpy(boxes_to_canvas(corners, (height, width), canvas)))
        labels.append(torch.from_numpy(random.integers(0, classes, count)))
        ignored.append(torch.from_numpy(random.random(count) < crowds))
    return split_of(boxes, labels, ignored, sizes)


def reference(found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: int) -> COCOeval:
    """Figures of pycocotools for the same boxes, each in the pixels of its own image."""

    def annotation(box: Tensor, label: Tensor, image: int) -> dict:
        left, top, right, bottom = boxes_from_canvas(box.numpy()[None], sizes[image], canvas)[0].tolist()
        bbox = [left, top, right - left, bottom - top]
        return {"image_id": image, "category_id": int(label), "bbox": bbox, "area": bbox[2] * bbox[3]}

    sizes = [(int(height), int(width)) for height, width in split.sizes]
    truth = [
        annotation(box, label, image) | {"iscrowd": int(crowd)}
        for image, objects in enumerate(zip(split.boxes, split.labels, split.ignored, strict=True))
        for box, label, crowd in zip(*objects, strict=True)
    ]
    results = [
        annotation(box, label, image) | {"score": float(score)}
        for image, each in enumerate(found)
        for box, score, label in zip(*each, strict=True)
    ]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(split))],
        "categories": [{"id": i} for i in range(classes)],
        "annotations": [each | {"id": i + 1} for i, each in enumerate(truth)],
    }
    coco.createIndex()
    if results:
        detections = coco.loadRes(results)
    else:  # it cannot load none
        detections = COCO()
        detections.dataset = coco.dataset | {"annotations": []}
        detections.createIndex()
    judge = COCOeval(coco, detections, "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge


def assert_as_pycocotools(found: Sequence[Found], split: BoxSplit, canvas: Canvas, classes: int) -> None:
    names = [f"class {i}" for i in range(classes)]
    expected = reference(found, split, canvas, classes)
    scores = measure(found, split, canvas, names)
    theirs = [value if value > -1 else math.nan for value in expected.stats]
    assert [getattr(scores, key) for key in SUMMARY] == pytest.approx(theirs, abs=1e-6, nan_ok=True)
    arrays = evaluate(found, split, canvas, classes).eval
    for key in ("precision", "recall"):
        np.testing.assert_allclose(arrays[key], expected.eval[key], atol=1e-6)
    for i, name in enumerate(names):
        for ours, precision in (
            (scores.ap[name], expected.eval["precision"][:, :, i, 0, -1]),
            (scores.ap50[name], expected.eval["precision"][0, :, i, 0, -1]),
        ):
            assert ours == pytest.approx(precision.mean() if precision.min() > -1 else math.nan, abs=1e-6, nan_ok=True)


@pytest.fixture(scope="module")
def bccd_truth(bccd: Path) -> Callable[[Canvas], BoxSplit]:
    """The objects of BCCD's 72 test images."""
    classes = ("RBC", "WBC", "Platelets")
    boxes, labels, sizes = [], [], []
    for stem in (bccd / "ImageSets" / "Main" / "test.txt").read_text().split():
        root = ElementTree.parse(bccd / "Annotations" / f"{stem}.xml").getroot()
        sizes.append((int(root.findtext("size/height")), int(root.findtext("size/width"))))
        objects = [
            ([float(each.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")], each)
            for each in root.iter("object")
        ]
        objects = [(box, each) for box, each in objects if box[2] > box[0] and box[3] > box[1]]
        boxes.append(np.array([box for box, _ in objects]))
        labels.append(torch.tensor([classes.index(each.findtext("name")) for _, each in objects]))

    def on(canvas: Canvas) -> BoxSplit:
        placed = [
            torch.from_numpy(boxes_to_canvas(each, size, canvas)) for each, size in zip(boxes, sizes, strict=True)
        ]
        return split_of(placed, labels, sizes=sizes)

    return on


@pytest.mark.parametrize("canvas", [Canvas(480, 640), Canvas(320, 320, "letterbox")], ids=["own size", "letterbox"])
def test_random_detections_on_bccd_score_as_with_pycocotools(
    bccd_truth: Callable[[Canvas], BoxSplit], canvas: Canvas
) -> None:
    split = bccd_truth(canvas)
    assert sum(map(len, split.boxes)) > 900
    assert_as_pycocotools(random_found(split, 3, 0, each=25), split, canvas, classes=3)


@pytest.mark.parametrize(
    ("n", "classes", "each", "crowds", "ties"),
    [
        pytest.param(20, 3, 15, 0.0, False, id="few classes"),
        pytest.param(20, 3, 15, 0.3, False, id="crowds"),
        pytest.param(15, 40, 30, 0.1, False, id="many classes, some without objects"),
        pytest.param(20, 2, 15, 0.1, True, id="tied scores"),
        pytest.param(4, 2, 260, 0.1, False, id="more detections than count"),
        pytest.param(20, 3, 0, 0.0, False, id="no detections"),
        pytest.param(5, 2, 20, 1.0, False, id="crowds alone"),
    ],
)
def test_random_detections_score_as_with_pycocotools(
    n: int, classes: int, each: int, crowds: float, ties: bool
) -> None:
    canvas = Canvas(96, 128, "letterbox")
    split = random_split(n, classes, 0, canvas, crowds)
    assert_as_pycocotools(random_found(split, classes, 1, each, ties), split, canvas, classes)


def test_all_found_in_place_is_one_and_nothing_found_is_zero() -> None:
    found, split = one_image([([10, 10, 60, 60], 0)], [([10, 10, 60, 60], 0.3, 0)])
    perfect = measure(found, split, SQUARE, ["a"])
    assert (perfect.map, perfect.map50, perfect.map75, perfect.mar1, perfect.map_medium) == (1, 1, 1, 1, 1)
    assert math.isnan(perfect.map_small)
    found, split = one_image([([10, 10, 60, 60], 0)], [])
    nothing = measure(found, split, SQUARE, ["a"])
    assert (nothing.map, nothing.map50, nothing.mar100) == (0, 0, 0)
    assert (nothing.images, nothing.objects) == (1, 1)


def test_half_of_the_objects_found_is_read_off_at_51_of_101_recalls() -> None:
    objects = [([0, 0, 20, 20], 0), ([50, 50, 70, 70], 0)]
    found, split = one_image(objects, [([0, 0, 20, 20], 0.9, 0)])
    assert measure(found, split, SQUARE, ["a"]).map == pytest.approx(51 / 101)


def test_a_box_counts_at_the_thresholds_its_iou_reaches() -> None:
    found, split = one_image([([0, 0, 100, 50], 0)], [([0, 0, 62, 50], 0.9, 0)])  # IoU 0.62: at 0.5, 0.55, 0.6
    scores = measure(found, split, SQUARE, ["a"])
    assert scores.map == pytest.approx(0.3)
    assert (scores.map50, scores.map75) == (1, 0)


def test_a_class_without_objects_is_nan_and_counts_for_nothing() -> None:
    found, split = one_image([([0, 0, 20, 20], 1)], [([0, 0, 20, 20], 0.9, 1), ([0, 0, 20, 20], 0.9, 0)])
    scores = measure(found, split, SQUARE, ["a", "b"])
    assert math.isnan(scores.ap["a"])
    assert math.isnan(scores.ap50["a"])
    assert (scores.ap["b"], scores.map) == (1, 1)


def test_without_objects_everything_is_nan() -> None:
    found, split = one_image([], [([0, 0, 20, 20], 0.9, 0)])
    scores = measure(found, split, SQUARE, ["a"])
    assert all(math.isnan(getattr(scores, key)) for key in SUMMARY)
    assert scores.objects == 0


def test_what_lies_on_an_ignored_object_counts_neither_way() -> None:
    found, split = one_image(
        [([0, 0, 20, 20], 0), ([50, 50, 90, 90], 0)], [([51, 51, 89, 89], 0.9, 0), ([0, 0, 20, 20], 0.8, 0)]
    )
    ignoring = split_of(split.boxes, split.labels, [torch.tensor([False, True])])
    scores = measure(found, ignoring, SQUARE, ["a"])
    assert (scores.map, scores.objects) == (1, 1)


def test_sizes_are_those_of_the_image_and_not_of_the_canvas() -> None:
    # 20x20 pixels of a 200x100 image, which the canvas shows at half its size, are small on both; 60x60 of it are
    # medium there and small on the canvas.
    canvas = Canvas(100, 100, "letterbox")
    for side, size in ((20.0, "map_small"), (60.0, "map_medium")):
        box = torch.from_numpy(boxes_to_canvas(np.array([[10, 30, 10 + side, 30 + side]]), (100, 200), canvas))
        split = split_of([box], [torch.tensor([0])], sizes=[(100, 200)])
        scores = measure([Found(box, torch.tensor([0.5]), torch.tensor([0]))], split, canvas, ["a"])
        assert getattr(scores, size) == 1
        assert sum(not math.isnan(scores.__dict__[key]) for key in ("map_small", "map_medium", "map_large")) == 1


def test_boxes_on_the_letterbox_margin_are_cut_off_with_the_image() -> None:
    split = split_of([torch.tensor([[0.0, 25, 50, 75]])], [torch.tensor([0])], sizes=[(50, 100)])
    reaching_out = Found(torch.tensor([[-9.0, 0, 50, 99]]), torch.tensor([0.9]), torch.tensor([0]))
    assert measure([reaching_out], split, SQUARE, ["a"]).map == 1


def test_measuring_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for found, split in (
        one_image([([0, 0, 20, 20], 0)], [([0, 0, 20, 20], 0.9, 0)]),
        one_image([([0, 0, 20, 20], 0)], []),
        one_image([], []),
    ):
        measure(found, split, SQUARE, ["a"])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
