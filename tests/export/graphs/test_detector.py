"""An exported detector finds what torchvision's own code finds, in every engine and for any number of images."""

import copy
from collections.abc import Callable
from functools import cache

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from assay_deploy.images.canvas import Canvas, View, place
from assay_export.formats import exported_program, onnx_graph, torchscript
from assay_export.graphs.detector import FasterRCNNGraph, exportable
from assay_research.models.base_detector import Detector
from assay_research.models.boxes import Detections
from assay_research.models.normalized import Normalized
from assay_research.tasks.detection.views import BoxViews
from tests.research.detectors import squares
from tests.research.models.test_detectors import NAMES, SMALL, build

CANVAS = Canvas(72, 104, "letterbox")  # of no whole stride
VIEWS = (View(), View(flip=True), View(size=96))
Engine = Callable[[Tensor], tuple[Tensor, ...]]


@cache
def trained(name: str, steps: int = 12) -> Normalized:
    """A detector that saw a few squares: its scores differ, and many boxes pass the threshold."""
    torch.manual_seed(0)
    small = {"channels": [8, 8, 16, 16], "width": 16} if name == "retinanet_small" else {}
    detector = build(name, classes=2, detections=30, **small)
    model = Normalized(detector, torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])).train()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.3  # statistics of these images after a few steps
    few_proposals(detector)
    data = squares(2 * steps, 0)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3 if name == "retinanet_small" else 3e-4)
    for i in range(0, len(data), 2):
        targets = [{"boxes": data.boxes[j], "labels": data.labels[j]} for j in (i, i + 1)]
        losses = model(torch.stack([data.images[j] for j in (i, i + 1)]).permute(0, 3, 1, 2) / 255, targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return model.eval()


@cache
def untrained(name: str) -> Normalized:
    """As it is initialised, but for a class predictor that has opinions and statistics that keep features apart."""
    torch.manual_seed(1)
    detector = build(name, classes=2, detections=30).train()
    for part, parameter in detector.named_parameters():
        if "box_predictor.cls_score.weight" in part or "classification_head.cls_logits.weight" in part:
            nn.init.normal_(parameter, std=0.01 if detector.background else 0.2)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    few_proposals(detector)
    model = Normalized(detector, torch.full((3,), 0.5), torch.full((3,), 0.25))
    with torch.no_grad():
        detector.model.backbone((some_images(4, seed=9).permute(0, 3, 1, 2) / 255 - model.mean) / model.std)
    return model.eval()


def few_proposals(detector: Detector) -> None:
    """So that the tests take little time."""
    if detector.background:
        detector.model.rpn._pre_nms_top_n["testing"] = 200
        detector.model.rpn._post_nms_top_n["testing"] = 120


def some_images(batch: int, canvas: Canvas = CANVAS, seed: int = 0) -> Tensor:
    """Bright and dark boxes on noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, canvas.height, canvas.width, 3)
    images = torch.randint(90, 140, shape, generator=generator, dtype=torch.uint8)
    for i, image in enumerate(images):
        for k in range(1 + i % 3):
            y, x, size = (int(torch.randint(4, n, (), generator=generator)) for n in (canvas.height, canvas.width, 40))
            image[y : y + size, x : x + size] = 230 if (i + k) % 2 else 20
    return images


def own(model: Normalized, images: Tensor, canvas: Canvas = CANVAS, views: tuple[View, ...] = VIEWS[:1]) -> Detections:
    """The detector's own answer."""
    with torch.inference_mode():
        found = BoxViews(model, canvas, views).eval()(images)
    assert isinstance(found, Detections)
    return found


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], boxes: float = 1e-3) -> None:
    assert [each.dtype for each in found] == [torch.float32, torch.float32, torch.int64]
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
    assert torch.equal(found[2], expected[2])
    torch.testing.assert_close(found[0], expected[0], atol=boxes, rtol=0)


# Torchvision's answer


@pytest.mark.parametrize("name", SMALL)
def test_the_graph_finds_what_the_detector_finds(name: str) -> None:
    expected = own(trained(name), some_images(3))
    assert len(expected.scores[expected.labels >= 0].unique()) > 30
    with torch.inference_mode():
        assert_same(exportable(trained(name), CANVAS, VIEWS[:1])(some_images(3)), expected)


@pytest.mark.parametrize("name", SMALL)
def test_with_batchnorm_unfolded_the_boxes_are_torchvisions_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay_export.graphs.detector.fold_norms", lambda *_: None)
    for model in (trained(name), untrained(name)):
        expected = own(model, some_images(3))
        assert len(expected.scores[expected.labels >= 0].unique()) > 30
        with torch.inference_mode():
            found = exportable(model, CANVAS, VIEWS[:1])(some_images(3))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_the_trained_model_stays_as_it_was(name: str) -> None:
    model = copy.deepcopy(trained(name)).train()
    before = {key: each.clone() for key, each in model.state_dict().items()}
    exportable(model, CANVAS, VIEWS)
    assert model.network.training
    assert model.network.model.backbone.training
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_no_batchnorm_is_left(name: str) -> None:
    kinds = {type(module) for module in exportable(trained(name), CANVAS, VIEWS).modules()}
    assert nn.Conv2d in kinds
    assert nn.BatchNorm2d not in kinds


@pytest.mark.parametrize("name", SMALL)
def test_where_nothing_passes_the_threshold_all_places_are_empty(name: str) -> None:
    model = copy.deepcopy(trained(name))
    last = model.network.model.roi_heads if name.startswith("faster") else model.network.model
    last.score_thresh = 1.0
    with torch.inference_mode():
        boxes, scores, labels = exportable(model, CANVAS, VIEWS[:1])(some_images(2))
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 30, 4), (2, 30), (2, 30))
    assert not boxes.any()
    assert not scores.any()
    assert (labels == -1).all()


@pytest.mark.parametrize(("threshold", "proposals"), [(0.95, 3), (2.0, 0)])
def test_an_empty_proposal_gives_no_box(threshold: float, proposals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the class predictor is sure of an object everywhere; nor does it take a box's place before NMS."""
    monkeypatch.setattr("assay_export.graphs.detector.CANDIDATES", 6)  # two classes of three proposals
    model = copy.deepcopy(trained("faster_rcnn_mobilenet"))
    torch.manual_seed(0)
    rpn, predictor = model.network.model.rpn, model.network.model.roi_heads.box_predictor.cls_score
    rpn.score_thresh = threshold
    nn.init.normal_(rpn.head.cls_logits.weight)
    nn.init.normal_(predictor.weight, std=0.01)
    predictor.bias.data.copy_(torch.tensor([-5.0, 5, -5]))
    expected = own(model, some_images(3))
    assert ((expected.labels >= 0).sum(1) == proposals).all()
    with torch.inference_mode():
        assert_same(exportable(model, CANVAS, VIEWS[:1])(some_images(3)), expected)


def test_boxes_that_are_too_small_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay_export.graphs.detector.fold_norms", lambda *_: None)
    model = copy.deepcopy(untrained("faster_rcnn_mobilenet"))
    assert set(own(model, some_images(3)).labels.unique().tolist()) == {0, 1}
    model.network.model.roi_heads.box_predictor.bbox_pred.bias.data[10] = -75.0  # class 1 of the three: its widths
    expected = own(model, some_images(3))
    assert set(expected.labels.unique().tolist()) <= {0, -1}
    with torch.inference_mode():
        assert_same(exportable(model, CANVAS, VIEWS[:1])(some_images(3)), expected)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3000, 4000), (2, 4000)])
def test_images_of_any_size_on_the_canvas(name: str, height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    images = torch.from_numpy(place(image, CANVAS))[None]
    with torch.inference_mode():
        found = exportable(trained(name), CANVAS, VIEWS[:1])(images)
    assert_same(found, own(trained(name), images))


@pytest.mark.parametrize("name", SMALL)
def test_views_are_fused_as_the_detectors_own(name: str) -> None:
    with torch.inference_mode():
        found = exportable(trained(name), CANVAS, VIEWS)(some_images(2))
    assert_same(found, own(trained(name), some_images(2), views=VIEWS))


def test_of_equal_scores_the_first_anchor_is_kept() -> None:
    """Torchvision's ``topk`` gives them in any order, of which its NMS keeps the first; here no anchor is left out."""
    model = copy.deepcopy(trained("retinanet_small"))
    inner = model.network.model
    nn.init.zeros_(inner.head.classification_head.cls_logits.weight)
    nn.init.zeros_(inner.head.classification_head.cls_logits.bias)
    canvas = Canvas(32, 32)
    graph = exportable(model, canvas, VIEWS[:1])
    with torch.inference_mode():
        boxes, scores, labels = graph(some_images(1, canvas))
        images = (some_images(1, canvas).permute(0, 3, 1, 2) / 255 - model.mean) / model.std
        deltas = inner.head(list(inner.backbone(images).values()))["bbox_regression"][0]
        decoded = inner.box_coder.decode_single(deltas, graph.views.model.network.get_buffer("anchors0"))
        decoded = decoded.clamp(0, 32).repeat_interleave(2, 0)
        kinds = torch.arange(2).repeat(len(decoded) // 2)
        expected = batched_nms(decoded, torch.ones(len(decoded)), kinds, inner.nms_thresh)[:30]
    assert (scores == 0.5).all()
    torch.testing.assert_close(boxes[0], decoded[expected], atol=1e-3, rtol=0)
    assert torch.equal(labels[0], kinds[expected])


def test_roi_align_is_torchvisions_at_every_level_and_border() -> None:
    torch.manual_seed(0)
    model = build("faster_rcnn_resnet50", classes=2).eval()
    canvas = Canvas(256, 288)  # the lowest level's map ends where the canvas does
    graph = FasterRCNNGraph(model, [(canvas.height, canvas.width)]).eval()
    corner = torch.rand(2, 200, 2) * torch.tensor([288.0, 256])
    boxes = torch.cat([corner, corner + torch.rand(2, 200, 2) ** 3 * 280], 2)
    slivers = torch.tensor(
        [[100, 255.5, 180, 256], [287.9, 0, 288, 200], [286, 254, 288, 256], [0, 0, 0.5, 0.5], [0, 0, 288, 256]]
    )
    boxes = torch.cat([boxes, slivers.expand(2, -1, -1), torch.zeros(2, 1, 4)], 1)
    boxes = torch.stack([boxes[..., 0::2].clamp(max=288), boxes[..., 1::2].clamp(max=256)], -1).flatten(2)
    sizes = [(64, 72), (32, 36), (16, 18), (8, 9)]
    maps = {str(i): torch.randn(2, 256, *size) for i, size in enumerate(sizes)}
    pool = model.model.roi_heads.box_roi_pool
    expected = pool(maps, list(boxes), [(256, 288)] * 2)
    assert set(pool.map_levels(list(boxes)).tolist()) == {0, 1, 2}
    torch.testing.assert_close(graph._align(list(maps.values()), boxes, 0), expected, atol=1e-4, rtol=0)


def test_a_network_of_another_kind_is_taken_as_it_is() -> None:
    class Corner(nn.Module):
        def forward(self, images: Tensor) -> Detections:
            score = images.mean((1, 2, 3))[:, None]
            return Detections(score[..., None].expand(-1, -1, 4) + 3, score, torch.zeros_like(score).long())

    model = Normalized(Corner(), torch.zeros(3), torch.ones(3))
    found = exportable(model, CANVAS, VIEWS[:1])(some_images(2))
    assert type(found) is tuple
    assert_same(found, own(model, some_images(2)))


# Engines


def open_onnx(content: bytes) -> Engine:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(map(torch.from_numpy, session.run(None, {"images": images.numpy()})))


def engines(graph: nn.Module, canvas: Canvas) -> dict[str, Engine]:
    """What the graph becomes in every format."""
    images = some_images(2, canvas, seed=5)
    return {
        "trace": torchscript.load(torchscript.export(graph, images, {})),
        "exported program": exported_program.load(exported_program.export(graph, images, {})),
        "onnx": open_onnx(onnx_graph.export(graph, images, ("boxes", "scores", "labels"), {})),
    }


@pytest.mark.parametrize("name", SMALL)
def test_every_engine_finds_the_same_for_any_number_of_images(name: str) -> None:
    graph = exportable(trained(name), CANVAS, VIEWS[:1])
    running = engines(graph, CANVAS)
    for batch in (1, 3, 32):
        images = some_images(batch)
        with torch.inference_mode():
            expected = graph(images)
            for run in running.values():
                assert_same(run(images), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_engine_fuses_views_of_several_sizes(name: str) -> None:
    """No BatchNormalization may be left in ONNX, and its exporter leaves those of a layer that runs twice."""
    graph = exportable(trained(name), CANVAS, VIEWS)
    for run in engines(graph, CANVAS).values():
        with torch.inference_mode():
            assert_same(run(some_images(3)), graph(some_images(3)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SMALL)))
def test_every_engine_runs_every_detector_of_the_zoo(name: str) -> None:
    model = trained(name, steps=4)
    graph = exportable(model, CANVAS, VIEWS[:1])
    running = engines(graph, CANVAS)
    for batch in (1, 3, 32):
        images = some_images(batch)
        with torch.inference_mode():
            expected = graph(images)
            assert_same(expected, own(model, images))
            for run in running.values():
                assert_same(run(images), expected)
