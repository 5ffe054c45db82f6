"""The benchmark of exported detectors times graph and torchvision on one image, on which they agree."""

import json

import pytest
import torch
from torch import nn

from assay_export.graphs.detector import exportable
from benchmarks.races.detector_graph import compare, main


@pytest.mark.parametrize(("candidates", "boxes"), [(True, 300), (False, 0)])
def test_a_comparison_has_a_ratio_for_reports(candidates: bool, boxes: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare("retinanet_small", candidates, rounds=3)
    assert found["rounds"] == 3
    assert 0 < found["ratio"]["min"] <= found["ratio"]["median"] <= found["ratio"]["max"]
    assert found["baseline"] == "torchvision"
    json.dumps(found, allow_nan=False)
    assert f"{boxes} boxes, 0.0% of the total score unmatched" in capsys.readouterr().out


def test_answers_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another(model: nn.Module, *how: object) -> nn.Module:
        graph = exportable(model, *how)
        with torch.no_grad():
            next(each for name, each in graph.named_parameters() if "cls_logits.weight" in name).mul_(1.5)
        return graph

    monkeypatch.setattr("benchmarks.races.detector_graph.exportable", of_another)
    with pytest.raises(ValueError, match="retinanet_small, many candidates: the outputs differ by"):
        compare("retinanet_small", True, rounds=1)


def test_a_classifier_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--models", "tinyvgg_a"])
    assert "invalid choice: 'tinyvgg_a'" in capsys.readouterr().err
