"""A detector's figures and pages are written for whatever was found, and say what the analysis says."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from assay_deploy.images.canvas import Canvas
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.data.synthetic.flora import SPECIES
from assay_research.models.boxes import Found
from assay_research.reports.figures import brief
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.report import figures
from assay_research.tasks.detection.report.analysis import DetectorResult, DetectorSubject, analyse
from assay_research.tasks.detection.report.curves import Curve, Threshold
from assay_research.tasks.detection.report.errors import DetectionKind, ObjectStatus, classify, match
from assay_research.tasks.detection.report.galleries import cases, crop, gallery, predictions
from assay_research.tasks.detection.report.nms import sweep
from assay_research.tasks.detection.report.write import report_all, report_one
from tests.research.pixels import differ, ink, pixels

CANVAS = Canvas(64, 64, "letterbox")
CLASSES = ("Navicula minuta", "Navicula gracilis", "Diatoma vulgare")

OBJECTS = ([4.0, 14, 24, 34], 0), ([34.0, 14, 60, 30], 1), ([30.0, 34, 60, 46], 2), ([6.0, 36, 16, 46], 0)
DETECTIONS = (
    *(([4.0, 14, 24, 34], 0.9, 0), ([5.0, 14, 24, 34], 0.85, 0)),  # correct, duplicate
    *(([34.0, 14, 60, 30], 0.8, 0), ([40.0, 34, 70, 50], 0.7, 2)),  # confused, badly placed
    ([24.0, 10, 32, 18], 0.6, 1),  # background
)


def errors_of_every_kind(images: int = 1) -> tuple[list[Found], BoxSplit]:
    """Of each image, which is 64x48 in the middle of its canvas, one error of each kind and one missed object."""
    random = np.random.default_rng(0)
    split = BoxSplit(
        images=torch.from_numpy(random.integers(0, 256, (images, 64, 64, 3), dtype=np.uint8)),
        boxes=(torch.tensor([box for box, _ in OBJECTS]),) * images,
        labels=(torch.tensor([label for _, label in OBJECTS]),) * images,
        ignored=(torch.zeros(len(OBJECTS), dtype=torch.bool),) * images,
        sizes=torch.tensor([[48, 64]] * images),
        names=tuple(f"slides/2026/diatoms_{i}.jpg" for i in range(images)),
    )
    boxes, scores, labels = (torch.tensor(each) for each in zip(*DETECTIONS, strict=True))
    return [Found(boxes, scores, labels)] * images, split


def nothing(images: int = 1) -> tuple[list[Found], BoxSplit]:
    """No objects, and none found."""
    _, split = errors_of_every_kind(images)
    box, label, flag = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    empty = replace(split, boxes=(box,) * images, labels=(label,) * images, ignored=(flag,) * images)
    return [Found(box, torch.zeros(0), label)] * images, empty


def result_and_subject(
    found: list[Found], split: BoxSplit, checkpoint: str = "best"
) -> tuple[DetectorResult, DetectorSubject]:
    scores = measure(found, split, CANVAS, CLASSES)
    data = DetectionData("diatoms", CLASSES, CANVAS, split, split, split)
    variants = {"plain": "1 view", "views": "2 views"}
    result = DetectorResult(checkpoint, 7, {"plain": scores, "views": replace(scores, map=scores.map + 0.01)}, {})
    subject = DetectorSubject("diatoms/now", data, "val", "f00", variants)
    return replace(result, seconds={"plain": 0.02, "views": 0.05}), subject


@pytest.mark.parametrize("classes", [1, 30])
def test_confusion_matrices_are_drawn_for_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    random = np.random.default_rng(0)
    confusion = random.poisson(0.1, (classes + 1, classes + 1)) + np.diag([*range(classes), 0])
    names = [f"Genus{i % 12} species{i}" for i in range(classes)]
    figures.confusion_matrix(confusion, names, tmp_path / "confusion.png", "diatoms")
    confusion[-1, 0] += 40
    figures.confusion_matrix(confusion, names, tmp_path / "more.png", "diatoms")
    assert differ(tmp_path / "confusion.png", tmp_path / "more.png")


def test_confusion_matrices_keep_species_of_a_genus_together(tmp_path: Path) -> None:
    confusion = np.diag([9, 8, 7, 0])
    apart = ("Navicula minuta", "Diatoma vulgare", "Navicula gracilis")
    together = (apart[0], apart[2], apart[1])
    figures.confusion_matrix(confusion, apart, tmp_path / "apart.png", "")
    figures.confusion_matrix(np.diag([9, 7, 8, 0]), together, tmp_path / "together.png", "")
    assert np.array_equal(pixels(tmp_path / "apart.png"), pixels(tmp_path / "together.png"))


@pytest.mark.parametrize("classes", [0, 2, 20])
def test_precision_recall_curves_are_drawn_for_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    scores = np.array([0.9, 0.8])
    found = {f"c{i}": Curve(scores, np.array([1, 0.5]), np.array([0.5, 0.5]), 2) for i in range(classes)}
    found["no objects"] = Curve(scores, np.zeros(2), np.full(2, np.nan), 0)
    figures.precision_recall(found, tmp_path / "curves.png", "diatoms")
    found["one more"] = Curve(scores, np.array([1, 0.25]), np.array([0.5, 1]), 2)
    figures.precision_recall(found, tmp_path / "more.png", "diatoms")
    assert differ(tmp_path / "curves.png", tmp_path / "more.png")


@pytest.mark.parametrize("epochs", [1, 60])
def test_metrics_are_drawn_for_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    scores = measure(*errors_of_every_kind(), CANVAS, CLASSES)
    variants = {"plain": [scores] * epochs, "views": [replace(scores, map=0.5)] * epochs}
    figures.metrics_over_epochs(range(1, epochs + 1), variants, tmp_path / "epochs.png", "diatoms")
    assert ink(tmp_path / "epochs.png") > 100


def test_thresholds_and_nms_are_drawn(tmp_path: Path) -> None:
    nan = math.nan
    best = {"a": Threshold(0.3, 0.8, 0.9, 0.72), "never right": Threshold(nan, 0, 0, 0), "none": Threshold(*[nan] * 4)}
    figures.thresholds(best, tmp_path / "thresholds.png", "diatoms")
    assert ink(tmp_path / "thresholds.png") > 20
    rows = sweep(*errors_of_every_kind(), CANVAS, CLASSES, score=0.5)
    figures.nms_sweep(rows, rows[1], tmp_path / "nms.png", "diatoms")
    assert ink(tmp_path / "nms.png") > 100


def test_cases_are_the_errors_of_one_kind_the_worst_first() -> None:
    found, split = errors_of_every_kind(2)
    found[1] = replace_scores(found[1], 0.05)
    matching = match(found, split, CANVAS, CLASSES)
    errors = classify(matching, 0.0)
    for kind in (DetectionKind.CONFUSED, DetectionKind.DUPLICATE, DetectionKind.BADLY_PLACED, DetectionKind.BACKGROUND):
        chosen = cases(matching, errors, kind)
        assert len(chosen) == 2
        scores = [matching.score[case.detection] for case in chosen]
        assert scores == sorted(scores, reverse=True)
        assert all((case.object == -1) == (kind == DetectionKind.BACKGROUND) for case in chosen)
    missed = cases(matching, errors, None)
    assert [case.object for case in missed] == [2, 6, 3, 7]  # 30x12 pixels each, then 10x10
    assert all(errors.status[case.object] == ObjectStatus.MISSED and case.detection == -1 for case in missed)


def replace_scores(found: Found, more: float) -> Found:
    return Found(found.boxes, found.scores + more, found.labels)


def test_a_crop_holds_its_boxes_with_context_and_stays_in_the_image() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        corners = np.sort(random.uniform(20, 180, (2, 2, 2)), axis=1).reshape(2, 4)
        left, top, right, bottom = crop(corners, (10, 20, 200, 180))
        assert 10 <= left <= corners[:, 0].min()
        assert corners[:, 2].max() <= right <= 200
        assert 20 <= top <= corners[:, 1].min() + 1
        assert corners[:, 3].max() - 1 <= bottom <= 180
        longest = (corners[:, 2:].max(0) - corners[:, :2].min(0)).max()
        assert right - left >= min(1.9 * longest, 190)
        assert min(right - left, bottom - top) >= 48


def test_a_gallery_marks_every_case_and_one_of_none_says_so(tmp_path: Path) -> None:
    found, split = errors_of_every_kind()
    matching = match(found, split, CANVAS, CLASSES)
    errors = classify(matching, 0.0)
    for kind in (
        None,
        DetectionKind.CONFUSED,
        DetectionKind.DUPLICATE,
        DetectionKind.BADLY_PLACED,
        DetectionKind.BACKGROUND,
    ):
        path = tmp_path / "gallery.png"
        gallery(matching, errors, cases(matching, errors, kind), split, CANVAS, path, "diatoms")
        assert ink(path) > 100
    gallery(matching, errors, [], split, CANVAS, tmp_path / "none.png", "diatoms")
    assert ink(tmp_path / "none.png") == 0
    assert (pixels(tmp_path / "none.png") < 100).any()  # the words that say so


def test_predictions_mark_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    found, split = errors_of_every_kind(2)
    predictions(found, split, CANVAS, CLASSES, 0.5, tmp_path / "wrong.png", "diatoms")
    predictions(found, split, CANVAS, CLASSES, 0.88, tmp_path / "right.png", "diatoms")
    legend = ink(tmp_path / "right.png")
    assert legend < 1000
    assert ink(tmp_path / "wrong.png") > legend + 1000
    predictions(*nothing(), CANVAS, CLASSES, 0.5, tmp_path / "nothing.png", "diatoms")
    assert differ(tmp_path / "nothing.png", tmp_path / "right.png")
    assert ink(tmp_path / "nothing.png") <= legend


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path) -> None:
    found, split = errors_of_every_kind()
    result, subject = result_and_subject(found, split)
    names = ("$_$", "$", "a$ b$")
    subject = replace(subject, run="$^$", data=replace(subject.data, classes=names))
    scores = measure(found, split, CANVAS, names)
    page = report_one(replace(result, scores=dict.fromkeys(result.scores, scores)), found, subject, tmp_path)
    assert len(list(page.with_suffix("").glob("*.png"))) == 9


def test_names_of_species_are_shortened_as_biologists_do() -> None:
    assert brief("WBC") == "WBC"
    assert brief("Navicula cryptotenella") == "Na. cryptotenella"
    assert brief("Navicula cryptotenelloides") == "Na. cryptotenello…"
    assert brief("Encyonema silesiacum") == "En. silesiacum"
    assert brief("Anuncommonlylongword") == "Anuncommonlylongw…"


def test_shortened_names_of_the_embedded_species_are_all_different() -> None:
    assert len({brief(each.name) for each in SPECIES}) == len(SPECIES)


def test_a_report_has_a_page_with_its_figures_and_json_with_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, split = errors_of_every_kind(3)
    result, subject = result_and_subject(found, split)
    path = report_one(result, found, subject, tmp_path, score=0.5)
    record = json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    analysis = analyse(found, split, CANVAS, CLASSES, score=0.5)
    assert record["scores"]["plain"]["map50"] == pytest.approx(result.scores["plain"].map50)
    assert record["seconds"] == {"plain": 0.02, "views": 0.05}
    errors = record["errors"]
    kinds = {"correct": 3, "confused": 3, "duplicate": 3, "badly_placed": 3, "background": 3, "left_out": 0}
    assert errors["detections"] == kinds
    assert errors["objects"] == {"found": 3, "confused": 3, "missed": 6, "ignored": 0}
    assert errors["confusion"] == analysis.errors.confusion.tolist()
    assert errors["genera"] == ["Navicula", "Diatoma"]
    assert errors["confusion_by_genus"] == [[6, 0, 3], [0, 0, 3], [6, 3, 0]]
    assert errors["mistaken"] == [{"true": CLASSES[1], "predicted": CLASSES[0], "count": 3, "objects": 3}]
    assert [row["threshold"] for row in errors["nms"]][:2] == [None, 0.3]
    assert path.name == "best-val.json"
    page = (tmp_path / "best-val.md").read_text()
    linked = re.findall(r"!\[.+\]\((.+)\)", page)
    assert sorted(tmp_path / link for link in linked) == sorted((tmp_path / "best-val").iterdir())
    assert len(linked) == 10
    assert "Of 12 objects, 3 are found, 3 confused with another class, 6 missed." in page
    assert "Of 3 confused objects, 3 were detected as a class that is more frequent" in page
    assert "and 3 as one of the same genus" in page
    assert "+0.0100" in page  # the gain of the views
    assert re.search(r"\| 50\.0 \| 2\.50 \|", page)  # and its cost
    assert "Of 12 objects, 3 are found" in capsys.readouterr().out


def test_a_report_is_written_when_there_is_nothing_to_find(tmp_path: Path) -> None:
    found, split = nothing()
    result, subject = result_and_subject(found, split)
    path = report_one(result, found, subject, tmp_path)
    record = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert record["scores"]["plain"]["map"] is None
    assert record["errors"]["overall_threshold"]["score"] is None
    assert "nan" not in path.with_suffix(".md").read_text()


def test_a_report_of_all_checkpoints_has_a_row_and_a_point_for_each(tmp_path: Path) -> None:
    found, split = errors_of_every_kind()
    result, subject = result_and_subject(found, split)
    results = [replace(result, checkpoint=name, epoch=i) for i, name in enumerate(("epoch-0001", "epoch-0002", "best"))]
    path = report_all(results, subject, tmp_path)
    assert [each["checkpoint"] for each in json.loads(path.read_text())["checkpoints"]] == [
        *("epoch-0001", "epoch-0002", "best")
    ]
    page = path.with_suffix(".md").read_text()
    assert page.count("| epoch-0002 ") == 2  # a table for each variant
    assert "(all-val.png)" in page
    assert ink(tmp_path / "all-val.png") > 100


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    from matplotlib import pyplot

    found, split = errors_of_every_kind()
    predictions(found, split, CANVAS, CLASSES, 0.5, tmp_path / "predictions.png", "diatoms")
    assert pyplot.get_fignums() == []
