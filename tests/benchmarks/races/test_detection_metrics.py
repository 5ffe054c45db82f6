"""The benchmark of the detection metrics times both on the same detections, which say the same."""

import json

import pytest

from assay_deploy.images.canvas import Canvas
from benchmarks.races.detection_metrics import Size, compare, draw

TINY = Size("nothing", images=4, classes=3, objects=3, detections=8)


def test_a_comparison_has_a_ratio_for_reports(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(TINY, rounds=3)
    assert found["rounds"] == 3
    assert found["images"] == 4
    assert 0 < found["ratio"]["min"] <= found["ratio"]["median"] <= found["ratio"]["max"]
    assert (found["target"], found["baseline"]) == (str(TINY), "pycocotools")
    json.dumps(found, allow_nan=False)
    assert "equal to" in capsys.readouterr().out


def test_what_is_drawn_has_the_numbers_asked_for_and_is_the_same_each_time() -> None:
    found, split = draw(TINY, Canvas(480, 640))
    again, _ = draw(TINY, Canvas(480, 640))
    assert len(found) == len(split) == 4
    assert all(len(each.boxes) == 8 and each.labels.max() < 3 for each in found)
    assert all(len(boxes) for boxes in split.boxes)
    assert all(one.boxes.equal(other.boxes) for one, other in zip(found, again, strict=True))
