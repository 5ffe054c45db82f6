"""Every detection and object is judged as a person would by hand, and every number of the analysis follows from it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.report.analysis import analyse
from assay_research.tasks.detection.report.confusion import Mistaken, by_genus, mistaken
from assay_research.tasks.detection.report.curves import Threshold, best_threshold, curve, curves
from assay_research.tasks.detection.report.errors import (
    NONE,
    DetectionKind,
    Errors,
    Matching,
    ObjectStatus,
    classify,
    match,
)
from assay_research.tasks.detection.report.nms import best, suppress, sweep

CANVAS = Canvas(100, 100)
CLASSES = ("Navicula minuta", "Navicula gracilis", "Diatoma vulgare")

A, B, FAR = [0.0, 0, 20, 20], [50.0, 50, 70, 70], [80.0, 0, 100, 20]

Object = tuple[list[float], int]
Detection = tuple[list[float], float, int]


def shifted(box: list[float], right: float) -> list[float]:
    """Moved by so many pixels; a 20x20 box keeps IoU (20 - right) / (20 + right) with itself."""
    return [box[0] + right, box[1], box[2] + right, box[3]]


def case(
    *images: tuple[list[Object], list[Detection]], ignored: tuple[tuple[int, int], ...] = ()
) -> tuple[list[Found], BoxSplit]:
    """Detections and truth of some images; `ignored` names objects by image and place."""
    n = len(images)
    split = BoxSplit(
        images=torch.zeros(n, 100, 100, 3, dtype=torch.uint8),
        boxes=tuple(torch.tensor([box for box, _ in objects]).reshape(-1, 4) for objects, _ in images),
        labels=tuple(torch.tensor([label for _, label in objects], dtype=torch.int64) for objects, _ in images),
        ignored=tuple(
            torch.tensor([(i, j) in ignored for j in range(len(objects))], dtype=torch.bool)
            for i, (objects, _) in enumerate(images)
        ),
        sizes=torch.full((n, 2), 100),
        names=tuple(map(str, range(n))),
    )
    found = [
        Found(
            torch.tensor([box for box, _, _ in each]).reshape(-1, 4),
            torch.tensor([score for _, score, _ in each]),
            torch.tensor([label for _, _, label in each], dtype=torch.int64),
        )
        for _, each in images
    ]
    return found, split


def judged(
    *images: tuple[list[Object], list[Detection]],
    score: float = 0.0,
    iou: float = 0.5,
    ignored: tuple[tuple[int, int], ...] = (),
) -> tuple[Matching, Errors]:
    matching = match(*case(*images, ignored=ignored), CANVAS, CLASSES, iou)
    return matching, classify(matching, score)


def randomly(seed: int, crowds: float = 0.2) -> tuple[list[Found], BoxSplit]:
    random = np.random.default_rng(seed)
    images, ignored = [], []
    for i in range(30):
        objects: list[Object] = []
        detections: list[Detection] = []
        for j in range(random.integers(0, 8)):
            x, y, w, h = random.integers(0, 60, 2).tolist() + random.integers(12, 40, 2).tolist()
            objects.append(([x, y, x + w, y + h], int(random.integers(3))))
            if random.random() < crowds:
                ignored.append((i, j))
            for _ in range(random.integers(0, 4)):
                box = np.array(objects[-1][0]) + 0.5 * (random.random(4) - 0.5) * [w, h, w, h]
                label = objects[-1][1] if random.random() < 0.7 else int(random.integers(3))
                detections.append((box.tolist(), round(random.random(), 2), label))
        detections.append(([0, 0, 30, 30], 0.5, 0))
        images.append((objects, sorted(detections, key=lambda each: -each[1])))
    return case(*images, ignored=tuple(ignored))


@pytest.mark.parametrize(
    ("objects", "detections", "kinds"),
    [
        pytest.param([(A, 0)], [(A, 0.9, 0)], [DetectionKind.CORRECT], id="in place"),
        pytest.param([(A, 0)], [(shifted(A, 6), 0.9, 0)], [DetectionKind.CORRECT], id="IoU 0.54"),
        pytest.param([(A, 0)], [(shifted(A, 7), 0.9, 0)], [DetectionKind.BADLY_PLACED], id="IoU 0.48"),
        pytest.param([(A, 0)], [(shifted(A, 16), 0.9, 0)], [DetectionKind.BADLY_PLACED], id="IoU 0.11"),
        pytest.param([(A, 0)], [(shifted(A, 17), 0.9, 0)], [DetectionKind.BACKGROUND], id="IoU 0.08"),
        pytest.param([(A, 0)], [(A, 0.9, 1)], [DetectionKind.CONFUSED], id="another class in place"),
        pytest.param([(A, 0)], [(shifted(A, 7), 0.9, 1)], [DetectionKind.BACKGROUND], id="another class near by"),
        pytest.param(
            [(A, 0)], [(A, 0.9, 0), (A, 0.8, 0)], [DetectionKind.CORRECT, DetectionKind.DUPLICATE], id="twice"
        ),
        pytest.param(
            [(A, 0)],
            [(A, 0.9, 1), (A, 0.8, 0)],
            [DetectionKind.CONFUSED, DetectionKind.CORRECT],
            id="own class goes first",
        ),
        pytest.param(
            [(A, 0), (A, 1)],
            [(A, 0.9, 0), (A, 0.8, 0)],
            [DetectionKind.CORRECT, DetectionKind.DUPLICATE],
            id="two in a place",
        ),
        pytest.param([], [(A, 0.9, 0)], [DetectionKind.BACKGROUND], id="no objects"),
        pytest.param([(A, 0)], [], [], id="no detections"),
        pytest.param(
            [(A, 0), (shifted(A, 4), 0)],
            [(shifted(A, 1), 0.9, 0), (A, 0.8, 0)],
            [DetectionKind.CORRECT, DetectionKind.CORRECT],
            id="the best one, then what is left",
        ),
    ],
)
def test_a_detection_is_one_of_five_kinds(
    objects: list[Object], detections: list[Detection], kinds: list[DetectionKind]
) -> None:
    _, errors = judged((objects, detections))
    assert errors.kind.tolist() == kinds


def test_each_detection_names_the_object_it_is_about_and_each_object_its_detection() -> None:
    objects = [(A, 0), (B, 1), (FAR, 2)]
    detections = [(A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 2), (shifted(FAR, -10), 0.6, 2), ([0.0, 60, 20, 80], 0.5, 0)]
    _, errors = judged(([(FAR, 0)], []), (objects, detections))  # an image before it moves all indices
    assert errors.kind.tolist() == [
        *(
            DetectionKind.CORRECT,
            DetectionKind.DUPLICATE,
            DetectionKind.CONFUSED,
            DetectionKind.BADLY_PLACED,
            DetectionKind.BACKGROUND,
        )
    ]
    assert errors.partner.tolist() == [1, 1, 2, 3, NONE]
    assert errors.status.tolist() == [
        ObjectStatus.MISSED,
        ObjectStatus.FOUND,
        ObjectStatus.CONFUSED,
        ObjectStatus.MISSED,
    ]
    assert errors.by.tolist() == [NONE, 0, 2, NONE]


def test_confusion_has_missed_objects_in_its_last_column_and_surplus_boxes_in_its_last_row() -> None:
    objects = [(A, 0), (B, 1), (FAR, 2)]
    detections = [(A, 0.9, 0), (A, 0.85, 1), (A, 0.8, 0), (B, 0.7, 2), (B, 0.6, 0), ([0.0, 60, 20, 80], 0.5, 0)]
    _, errors = judged((objects, detections))
    assert errors.kind.tolist()[1] == errors.kind.tolist()[4] == DetectionKind.CONFUSED
    assert errors.confusion.tolist() == [
        [1, 0, 0, 0],  # found; the 0.85 of another class, the duplicate and the rest are below
        [0, 0, 1, 0],  # taken for class 2 by the higher score
        [0, 0, 0, 1],  # missed
        [3, 1, 0, 0],  # duplicate, the 0.6 and nothing; the 0.85
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("score", [0.0, 0.5])
def test_rows_sum_up_to_objects_and_columns_to_detections(seed: int, score: float) -> None:
    found, split = randomly(seed)
    matching = match(found, split, CANVAS, CLASSES)
    errors = classify(matching, score)
    left, counted = errors.kind != DetectionKind.LEFT_OUT, ~matching.ignored
    assert (~counted).any()
    objects = np.bincount(matching.objects.label[counted], minlength=3)
    detections = np.bincount(matching.detections.label[left], minlength=3)
    assert errors.confusion.sum(1)[:3].tolist() == objects.tolist()
    assert errors.confusion.sum(0)[:3].tolist() == detections.tolist()
    assert (
        errors.confusion.diagonal()[:3].sum()
        == errors.count(DetectionKind.CORRECT)
        == errors.count_objects(ObjectStatus.FOUND)
    )
    assert errors.confusion[:3, 3].sum() == errors.count_objects(ObjectStatus.MISSED)
    assert errors.count_objects(ObjectStatus.IGNORED) == (~counted).sum()


def test_low_scores_are_left_out_and_what_they_found_is_missed() -> None:
    _, errors = judged(([(A, 0), (B, 0)], [(A, 0.9, 0), (B, 0.3, 0)]), score=0.5)
    assert errors.kind.tolist() == [DetectionKind.CORRECT, DetectionKind.LEFT_OUT]
    assert errors.status.tolist() == [ObjectStatus.FOUND, ObjectStatus.MISSED]
    _, at_the_threshold = judged(([(A, 0)], [(A, 0.5, 0)]), score=0.5)
    assert at_the_threshold.kind.tolist() == [DetectionKind.CORRECT]


def test_an_object_whose_own_detection_scores_too_low_can_be_taken_for_another_class() -> None:
    _, errors = judged(([(A, 0)], [(A, 0.9, 1), (A, 0.3, 0)]), score=0.5)
    assert errors.kind.tolist() == [DetectionKind.CONFUSED, DetectionKind.LEFT_OUT]
    assert errors.status.tolist() == [ObjectStatus.CONFUSED]


def test_of_two_objects_of_other_classes_the_one_that_nothing_took_is_confused() -> None:
    _, errors = judged(([(A, 0), (shifted(A, 2), 1)], [(A, 0.9, 0), (A, 0.8, 2)]))
    assert errors.kind.tolist() == [DetectionKind.CORRECT, DetectionKind.CONFUSED]
    assert errors.status.tolist() == [ObjectStatus.FOUND, ObjectStatus.CONFUSED]
    assert errors.partner.tolist() == [0, 1]


def test_ignored_objects_count_neither_way() -> None:
    # On one: on_ignored. Within one: its intersection is the whole detection, so on_ignored too. Of another class: no.
    detections = [(A, 0.9, 0), ([5.0, 5, 10, 10], 0.8, 0), (A, 0.7, 0), (A, 0.6, 1)]
    matching, errors = judged(([(A, 0)], detections), ignored=((0, 0),))
    assert errors.kind.tolist() == [
        DetectionKind.LEFT_OUT,
        DetectionKind.LEFT_OUT,
        DetectionKind.LEFT_OUT,
        DetectionKind.BACKGROUND,
    ]
    assert errors.status.tolist() == [ObjectStatus.IGNORED]
    assert errors.confusion.sum() == 1
    assert curve(matching, 0).objects == 0
    assert len(curve(matching, 0).score) == 0


def test_an_object_that_counts_is_taken_before_an_ignored_one() -> None:
    matching, errors = judged(([(A, 0), (shifted(A, 2), 0)], [(A, 0.9, 0)]), ignored=((0, 0),))
    assert errors.kind.tolist() == [DetectionKind.CORRECT]
    assert matching.matched.tolist() == [1]


def test_a_higher_iou_asks_for_better_places() -> None:
    image = ([(A, 0)], [(shifted(A, 6), 0.9, 0)])  # IoU 0.54
    assert judged(image, iou=0.5)[1].kind.tolist() == [DetectionKind.CORRECT]
    assert judged(image, iou=0.55)[1].kind.tolist() == [DetectionKind.BADLY_PLACED]


def test_boxes_are_compared_in_the_images_own_pixels() -> None:
    # A 100x50 image in the middle of the canvas: what hangs over its edge is cut off before the IoU is taken.
    found, split = case(([([0, 25, 50, 75], 0)], [([-60, -20, 50, 120], 0.9, 0)]))
    split = replace(split, sizes=torch.tensor([[50, 100]]))
    errors = classify(match(found, split, Canvas(100, 100, "letterbox"), CLASSES), 0)
    assert errors.kind.tolist() == [DetectionKind.CORRECT]


def test_genera_are_first_words_and_their_rows_and_columns_add_up() -> None:
    confusion = np.array([[5, 1, 0, 2], [3, 4, 1, 0], [0, 1, 6, 1], [1, 2, 3, 0]])
    genera, grouped = by_genus(confusion, CLASSES)
    assert genera == ("Navicula", "Diatoma")
    assert grouped.tolist() == [[13, 1, 2], [1, 6, 1], [3, 3, 0]]


def test_mistaken_pairs_come_by_falling_count_and_then_share() -> None:
    confusion = np.array([[5, 1, 0, 2], [3, 4, 1, 0], [0, 1, 0, 1], [1, 2, 3, 0]])
    assert mistaken(confusion, CLASSES) == [
        Mistaken(CLASSES[1], CLASSES[0], 3, 8),
        Mistaken(CLASSES[2], CLASSES[1], 1, 2),
        Mistaken(CLASSES[0], CLASSES[1], 1, 8),
        Mistaken(CLASSES[1], CLASSES[2], 1, 8),
    ]


FOUR = ([(A, 0), (B, 0)], [(A, 0.9, 0), (FAR, 0.8, 0), (B, 0.6, 0), (FAR, 0.2, 0)])
"""Right, wrong, right, wrong, of two objects."""


def test_a_curve_is_precision_and_recall_from_every_score_on() -> None:
    matching, _ = judged(FOUR)
    found = curve(matching, 0)
    assert found.score.tolist() == pytest.approx([0.9, 0.8, 0.6, 0.2])
    assert found.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert found.recall.tolist() == [0.5, 0.5, 1, 1]
    # 1 up to recall 0.5, 51 of the 101 places, and 2/3 beyond
    assert found.average_precision == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_best_threshold_has_the_highest_f1() -> None:
    matching, _ = judged(FOUR)
    # F1 by threshold: 2*1*0.5/1.5 = 2/3, 1/2, 2*(2/3)/(5/3) = 4/5, 2/3
    chosen = best_threshold(curve(matching, 0))
    assert (chosen.score, chosen.f1, chosen.precision, chosen.recall) == pytest.approx((0.6, 0.8, 2 / 3, 1))
    assert classify(matching, chosen.score).count(DetectionKind.CORRECT) == 2


def test_a_threshold_keeps_all_detections_of_one_score() -> None:
    matching, _ = judged(([(A, 0), (B, 0)], [(A, 0.5, 0), (FAR, 0.5, 0)]))
    chosen = best_threshold(curve(matching, 0))
    assert (chosen.precision, chosen.recall, chosen.f1) == (0.5, 0.5, 0.5)


def test_a_class_without_objects_has_no_threshold_and_one_never_found_an_f1_of_zero() -> None:
    matching, _ = judged(([(A, 0)], [(FAR, 0.9, 0), (FAR, 0.9, 1)]))
    nothing_right, no_objects, neither = (best_threshold(each) for each in curves(matching).values())
    assert math.isnan(nothing_right.score)
    assert nothing_right == Threshold(nothing_right.score, 0, 0, 0)
    assert all(math.isnan(value) for each in (no_objects, neither) for value in vars(each).values())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("crowds", [0.0, 0.3])
def test_curves_have_the_average_precision_of_coco(seed: int, crowds: float) -> None:
    found, split = randomly(seed, crowds)
    scores = measure(found, split, CANVAS, CLASSES)
    found_curves = curves(match(found, split, CANVAS, CLASSES, 0.5))
    assert {name: each.average_precision for name, each in found_curves.items()} == pytest.approx(scores.ap50)


def test_only_the_hundred_highest_scores_of_a_image_and_class_count() -> None:
    detections = [(FAR, 0.9 - i / 1000, 0) for i in range(100)] + [(FAR, 0.7, 1), (A, 0.6, 0)]
    found, split = case(([(A, 0), (FAR, 1)], detections))
    matching = match(found, split, CANVAS, CLASSES)
    assert len(matching.score) == 101
    assert classify(matching, 0).status.tolist() == [ObjectStatus.MISSED, ObjectStatus.FOUND]
    assert measure(found, split, CANVAS, CLASSES).ap50[CLASSES[0]] == 0


def test_detections_may_come_in_any_order() -> None:
    objects, detections = FOUR
    _, errors = judged((objects, [detections[i] for i in (2, 3, 1, 0)]))
    assert errors.kind.tolist() == [
        DetectionKind.CORRECT,
        DetectionKind.BACKGROUND,
        DetectionKind.CORRECT,
        DetectionKind.BACKGROUND,
    ]


def test_nms_removes_lower_scores_of_the_same_class_alone() -> None:
    found, _ = case(([], [(A, 0.9, 0), (shifted(A, 4), 0.8, 0), (A, 0.7, 1), (B, 0.6, 0)]))  # IoU 0.67
    assert suppress(found[0], 0.6).scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert suppress(found[0], 0.7).scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_a_sweep_counts_duplicates_left_and_objects_lost() -> None:
    # Two neighbours with IoU 0.6, each found; a duplicate with IoU 0.82 of one; one of low score, for mAP alone.
    left, right = A, shifted(A, 5)
    detections = [(left, 0.9, 0), (right, 0.8, 0), (shifted(A, -2), 0.7, 0), (B, 0.1, 0)]
    found, split = case(([(left, 0), (right, 0), (B, 0)], detections))
    rows = sweep(found, split, CANVAS, CLASSES, score=0.5, thresholds=(0.5, 0.7, 0.9))
    said = [(row.threshold, row.detections, row.duplicates, row.lost) for row in rows]
    assert said == [(None, 3, 1, 0), (0.5, 1, 0, 1), (0.7, 2, 0, 0), (0.9, 3, 1, 0)]
    assert [row.precision for row in rows] == pytest.approx([2 / 3, 1, 1, 2 / 3])
    assert [row.recall for row in rows] == pytest.approx([2 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert [row.f1 for row in rows] == pytest.approx([2 / 3, 1 / 2, 4 / 5, 2 / 3])
    # At 0.7 all three are found and nothing else; the third comes after the duplicate in the detections as they came.
    assert rows[2].map == 1
    assert rows[0].map == pytest.approx((67 + 34 * 3 / 4) / 101)
    assert best(rows).threshold == 0.7


def test_the_best_of_equals_removes_least() -> None:
    found, split = case(([(A, 0)], [(A, 0.9, 0)]))
    assert best(sweep(found, split, CANVAS, CLASSES, score=0.5)).threshold is None


@pytest.mark.parametrize(
    ("objects", "detections"), [([], []), ([(A, 0)], []), ([], [(A, 0.9, 0)])], ids=["neither", "objects", "detections"]
)
def test_all_is_defined_without_objects_or_detections(objects: list[Object], detections: list[Detection]) -> None:
    found, split = case((objects, detections), ([], []))
    analysis = analyse(found, split, CANVAS, CLASSES)
    assert analysis.errors.score == 0.5
    assert analysis.errors.count_objects(ObjectStatus.MISSED) == len(objects)
    assert analysis.errors.count(DetectionKind.BACKGROUND) == len(detections)
    assert best(analysis.nms).threshold is None


def test_an_analysis_judges_from_the_best_threshold_of_all_classes_together() -> None:
    found, split = case(FOUR, ([(A, 1)], [(A, 0.5, 1)]))
    analysis = analyse(found, split, CANVAS, CLASSES)
    assert analysis.overall.score == pytest.approx(0.5)  # 3 of 4 right, 3 of 3 found
    assert analysis.overall.f1 == pytest.approx(6 / 7)
    assert analysis.errors.count(DetectionKind.CORRECT) == 3
    assert analyse(found, split, CANVAS, CLASSES, score=0.7).errors.count(DetectionKind.CORRECT) == 1
    assert analysis.counts(0) == {
        "objects": {"found": 2, "confused": 0, "missed": 0, "ignored": 0},
        "detections": {"correct": 2, "confused": 0, "duplicate": 0, "badly_placed": 0, "background": 1},
    }
