"""Answers are as far apart as they are, whatever the order of detections that tie."""

import numpy as np
import pytest

from assay_deploy.bundle.difference import detection_differences, largest_differences, match_detections

BOXES = np.array([[[0, 0, 10, 10], [20, 20, 40, 30], [50, 5, 60, 25]]], np.float32)
SCORES = np.array([[0.9, 0.6, 0.5]], np.float32)
LABELS = np.array([[0, 1, 0]])


def answers(boxes=BOXES, scores=SCORES, labels=LABELS):
    return {"boxes": boxes.copy(), "scores": scores.copy(), "labels": labels.copy()}


def test_classifiers_differ_by_the_largest_entry():
    expected = {"logits": np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)}
    found = {"logits": np.array([[1.0, -2.25], [0.625, 3.0]], np.float32)}
    assert largest_differences(found, expected) == {"logits": 0.25}


def test_equal_detections_do_not_differ():
    assert detection_differences(answers(), answers()) == {"boxes": 0, "scores": 0, "labels": 0}


def test_the_order_of_detections_does_not_matter():
    order = [2, 0, 1]
    assert detection_differences(answers(BOXES[:, order], SCORES[:, order], LABELS[:, order]), answers())["labels"] == 0


def test_a_moved_box_counts_in_pixels_and_a_score_in_its_own_unit():
    found = answers()
    found["boxes"][0, 1, 2] += 0.25
    found["scores"][0, 2] -= 0.125
    assert detection_differences(found, answers()) == {"boxes": 0.25, "scores": 0.125, "labels": 0}


def test_what_only_one_finds_counts_by_its_score():
    found = answers()
    found["labels"][0, 2], found["scores"][0, 2], found["boxes"][0, 2] = -1, 0, 0
    assert detection_differences(found, answers())["labels"] == pytest.approx(0.5 / (2.0 + 1.5))
    assert detection_differences(answers(), found)["labels"] == pytest.approx(0.5 / (2.0 + 1.5))


def test_another_label_or_place_is_another_detection():
    found = answers()
    found["labels"][0, 0] = 1
    assert match_detections(found, answers()).unmatched.tolist() == pytest.approx([0.9, 0.9])
    found = answers()
    found["boxes"][0, 0] += 2
    assert len(match_detections(found, answers()).ious) == 2


def test_a_double_has_no_partner():
    found = answers()
    found["boxes"][0, 2], found["labels"][0, 2] = BOXES[0, 0], 0
    match = match_detections(found, answers())
    assert len(match.ious) == 2
    assert match.unmatched.tolist() == pytest.approx([0.5, 0.5])


def test_empty_places_and_images_are_equal():
    empty = answers(np.zeros_like(BOXES), np.zeros_like(SCORES), np.full_like(LABELS, -1))
    assert detection_differences(empty, empty) == {"boxes": 0, "scores": 0, "labels": 0}
    assert detection_differences(answers(), empty)["labels"] == 1


@pytest.mark.parametrize("name", ["boxes", "scores"])
def test_what_is_not_a_number_is_a_difference(name):
    found = answers()
    found[name][0, 0] = np.nan
    difference = detection_differences(found, answers())
    assert not all(difference[each] <= 0.5 for each in difference)


def test_other_names_and_shapes_are_refused():
    with pytest.raises(ValueError, match="expected"):
        detection_differences({"scores": SCORES}, answers())
    with pytest.raises(ValueError, match="expected"):
        detection_differences(answers(BOXES[:, :2], SCORES[:, :2], LABELS[:, :2]), answers())


def test_boxes_without_area_are_as_far_apart_as_they_are():
    flat = BOXES.copy()
    flat[0, 0] = [3, 3, 3, 3]
    moved = flat.copy()
    moved[0, 0, 2] += 2**-10
    assert detection_differences(answers(flat), answers(flat)) == {"boxes": 0, "scores": 0, "labels": 0}
    assert detection_differences(answers(moved), answers(flat)) == {"boxes": 2**-10, "scores": 0, "labels": 0}
