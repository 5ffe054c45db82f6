"""Selections of fixed size choose what torchvision's choose."""

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from assay_export.graphs import selection
from assay_export.graphs.selection import gather_rows, greedy_nms, ranked


def crowd(batch: int, n: int, room: float, groups: int) -> tuple[Tensor, Tensor]:
    """Boxes that overlap, in groups from -1."""
    generator = torch.Generator().manual_seed(n)
    corner = torch.rand(batch, n, 2, generator=generator) * room
    boxes = torch.cat([corner, corner + 10 + torch.rand(batch, n, 2, generator=generator) * 60], 2)
    return boxes, torch.randint(-1, groups, (batch, n), generator=generator)


def torchvisions(boxes: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Places of the boxes of one image that are kept."""
    kept = torch.zeros(len(boxes), dtype=torch.bool)
    for group in range(int(groups.max()) + 1):
        (places,) = torch.where(groups == group)
        kept[places[nms(boxes[places], torch.arange(len(places), 0, -1).float(), iou)]] = True
    return kept.nonzero().flatten()


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.6, 0.7])
@pytest.mark.parametrize(("n", "places"), [(1, 1), (7, 30), (300, 300), (513, 40), (1600, 300)])
def test_nms_is_torchvisions(n: int, places: int, iou: float) -> None:
    boxes, groups = crowd(3, n, 150, 2)
    kept = greedy_nms(boxes, groups, n, iou, places)
    for i in range(3):
        expected = torchvisions(boxes[i], groups[i], iou)
        assert n < 500 or len(expected) < 0.7 * n
        assert kept[i][kept[i] < n].tolist() == expected[:places].tolist()
        assert (kept[i].diff() >= 0).all()


@pytest.mark.parametrize(("iou", "width"), [(0.6, 6), (0.5, 5), (0.7, 7), (0.3, 3)])
def test_an_iou_on_the_threshold_is_compared_as_torchvision_compares_it(iou: float, width: int) -> None:
    """In float64: the float32 nearest to 0.6 is above it, that nearest to 0.7 below."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, width, 10]])
    expected = nms(boxes, torch.tensor([0.9, 0.8]), iou).tolist()
    assert greedy_nms(boxes[None], torch.zeros(1, 2).long(), 2, iou, 2)[0].tolist() == [*expected, 2][:2]


def test_boxes_without_area_stay() -> None:
    boxes = torch.tensor([[[5.0, 5, 5, 20], [5, 5, 5, 20], [0, 0, 10, 10]]])
    assert greedy_nms(boxes, torch.zeros(1, 3).long(), 3, 0.5, 3).tolist() == [[0, 1, 2]]


def test_a_chain_as_long_as_the_rounds_is_resolved() -> None:
    """Each box overlaps the one before it alone, so that every other one falls."""
    length = selection.ROUNDS
    left = torch.arange(length) * 4.0
    boxes = torch.stack([left, torch.zeros(length), left + 10, torch.full((length,), 10.0)], 1)[None]
    kept = greedy_nms(boxes, torch.zeros(1, length).long(), length, 0.4, length)[0]
    assert kept[kept < length].tolist() == list(range(0, length, 2))


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, groups = crowd(2, 700, 200, 3)
    whole = greedy_nms(boxes, groups, 700, 0.5, 120)
    monkeypatch.setattr(selection, "BLOCK", 64)
    assert torch.equal(greedy_nms(boxes, groups, 700, 0.5, 120), whole)


def test_scores_fall_and_equal_ones_are_in_the_order_of_their_places() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 20, (2, 1000), generator=generator) / 20
    places = torch.stack([torch.randperm(5000, generator=generator)[:1000] for _ in range(2)])
    sorted_scores, sorted_places = ranked(scores, places)
    for i in range(2):
        rows = sorted(zip((-scores[i]).tolist(), places[i].tolist(), strict=True))
        assert sorted_scores[i].tolist() == [-score for score, _ in rows]
        assert sorted_places[i].tolist() == [place for _, place in rows]


def test_onnx_chooses_the_same_among_equal_scores() -> None:
    class Choice(nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
            scores, places = ranked(*scores.topk(600, 1))
            kept = greedy_nms(gather_rows(boxes, places), (scores > 0.2).long() - 1, 600, 0.5, 200)
            return places, kept

    boxes, _ = crowd(5, 600, 150, 1)
    scores = torch.randint(0, 5, (5, 600), generator=torch.Generator().manual_seed(0)) / 4
    batch = {0: torch.export.Dim("batch")}
    choice, sample = Choice().eval(), (boxes[:2], scores[:2])
    program = torch.onnx.export(
        choice, sample, dynamo=True, verbose=False, opset_version=18, dynamic_shapes=(batch, batch)
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    names = [each.name for each in session.get_inputs()]
    places, kept = session.run(None, dict(zip(names, (boxes.numpy(), scores.numpy()), strict=True)))
    expected_places, expected_kept = choice(boxes, scores)
    assert places.tolist() == expected_places.tolist()
    assert kept.tolist() == expected_kept.tolist()
