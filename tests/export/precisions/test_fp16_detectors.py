"""A detector in float16 computes its network in it and nothing else, and is held to what its boxes typically are."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from assay_deploy.bundle.difference import detection_differences
from assay_deploy.bundle.manifest import BOXES, DETECTION, Artifact
from assay_deploy.engines.onnxruntime.runtime import CPU, start
from assay_export.errors import ExportError
from assay_export.export import _check_precisions
from assay_export.formats import onnx_graph
from assay_export.formats.runner import Outputs
from assay_export.gate.tolerances import ON_TEST_SPLIT, TOLERANCES
from assay_export.graphs.detector import exportable
from assay_export.precisions import fp16 as half
from assay_export.precisions.network import float_types
from assay_export.tasks.detection import DetectorExport
from tests.export.graphs.test_detector import CANVAS, VIEWS, some_images, trained
from tests.research.detectors import data
from tests.research.models.test_detectors import SMALL

DISTANCE = DetectorExport().distance
TYPICAL = ON_TEST_SPLIT[DETECTION, "fp16"]["boxes"]

BLOCK = "views.model.network.backbone.body.stage1.1"


@cache
def exported(name: str) -> bytes:
    """A detector's graph, one view of it."""
    graph = exportable(trained(name), CANVAS, VIEWS[:1])
    return onnx_graph.export(graph, some_images(2), BOXES, {"run": "a/1"})


def run(content: bytes, images: torch.Tensor) -> Outputs:
    return dict(zip(BOXES, start(content, 1, [CPU]).run(None, {"images": images.numpy()}), strict=True))


def scaled(content: bytes, part: str, factor: float) -> bytes:
    """A graph with a weight scaled."""
    model = onnx.load_model_from_string(content)
    (weight,) = (each for each in model.graph.initializer if each.name.endswith(part))
    array = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array((array * factor).astype(array.dtype), weight.name))
    return model.SerializeToString()


def shifted(content: bytes, node: str, by: float) -> bytes:
    """A graph in which a number is added to what a node gives, and subtracted again."""
    model = onnx.load_model_from_string(content)
    nodes = list(model.graph.node)
    at = next(i for i, each in enumerate(nodes) if each.name == node)
    output = nodes[at].output[0]
    nodes[at].output[0] = f"{output}_before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(by), "planted"))
    planted = [
        helper.make_node("Add", [f"{output}_before", "planted"], [f"{output}_up"], "planted_up"),
        helper.make_node("Sub", [f"{output}_up", "planted"], [output], "planted_down"),
    ]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: at + 1], *planted, *nodes[at + 1 :]])
    return model.SerializeToString()


@pytest.mark.parametrize("name", SMALL)
def test_layers_are_in_float16_and_choices_and_coordinates_in_float32(name: str) -> None:
    model = onnx.load_model_from_string(half.to_half(exported(name), ()))
    types = float_types(model)
    kinds = {
        precision: {
            node.op_type for node in model.graph.node if any(types.get(each) == precision for each in node.output)
        }
        for precision in (TensorProto.FLOAT16, TensorProto.FLOAT)
    }
    moving = {"Cast", "Reshape", "Gather", "Slice", "Pad", "MaxPool"}
    computing = {
        "Conv",
        "Gemm",
        "Relu",
        "Add",
        "Mul",
        "InstanceNormalization",
        "HardSwish",
        "HardSigmoid",
        "ReduceMean",
    }
    assert kinds[TensorProto.FLOAT16] <= moving | computing
    assert kinds[TensorProto.FLOAT].isdisjoint({"Conv", "Gemm", "InstanceNormalization", "HardSwish"})
    assert {"TopK", "Sigmoid", "Exp", "Clip", "MatMul", "Max", "Min", "Div"} <= kinds[TensorProto.FLOAT]
    assert ("RoiAlign" in kinds[TensorProto.FLOAT]) == name.startswith("faster")


@pytest.mark.parametrize("name", SMALL)
def test_precision_changes_where_the_network_begins_and_ends(name: str) -> None:
    old, model = (onnx.load_model_from_string(each) for each in (exported(name), half.to_half(exported(name), ())))
    assert (model.graph.input, model.graph.output) == (old.graph.input, old.graph.output)
    casts = [node for node in model.graph.node if node.name.startswith("cast_")]
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    takers = {
        node.output[0]: {each.op_type for each in model.graph.node if node.output[0] in each.input} for node in casts
    }
    for node in casts:
        if node.attribute[0].i == TensorProto.FLOAT16:
            assert takers[node.output[0]] <= {"Conv", "Gemm", "Add"}
        else:
            assert makers[node.input[0]] in ("Conv", "Gemm", "Add")
    assert len({(node.input[0], node.attribute[0].i) for node in casts}) == len(casts)


def test_a_head_that_looks_at_every_level_has_its_weights_once() -> None:
    old, model = (
        onnx.load_model_from_string(each)
        for each in (exported("retinanet_small"), half.to_half(exported("retinanet_small"), ()))
    )
    assert len(model.graph.initializer) <= len(old.graph.initializer)
    weights = [each for each in model.graph.initializer if "cls_logits.weight" in each.name]
    assert [each.data_type for each in weights] == [TensorProto.FLOAT16]


@pytest.mark.parametrize("name", SMALL)
def test_a_detector_in_float16_is_close(name: str) -> None:
    images = some_images(12, seed=3)
    expected = run(exported(name), images)
    found = run(half.emulate_rounding(half.to_half(exported(name), ())), images)
    off = detection_differences(found, expected)
    assert all(off[each] <= tolerance for each, tolerance in TOLERANCES[DETECTION, "onnx", "fp16"].items())
    assert 0 < DISTANCE(found, expected) < 0.5


@pytest.mark.parametrize("part", ["cls_logits.weight_half", "bbox_reg.weight_half"])
def test_a_last_layer_a_little_off_is_too_far(part: str) -> None:
    content = exported("retinanet_small")
    images = some_images(12, seed=3)
    planted = scaled(half.to_half(content, ()), part, 1.05)
    assert DISTANCE(run(half.emulate_rounding(planted), images), run(content, images)) > 1


def test_blocks_of_a_detector_are_blocks_of_its_parts() -> None:
    parts = half.blocks(exported("retinanet_small"))
    prefix = "views.model.network"
    assert {
        f"{prefix}.backbone.body.stem.0",
        BLOCK,
        f"{prefix}.backbone.fpn.inner_blocks.2",
        f"{prefix}.head.classification_head.conv.0",
        f"{prefix}.head.classification_head.cls_logits",
    } <= set(parts)
    assert all(name.startswith(prefix) for name in parts)


def test_exactly_the_block_of_a_detector_that_overflows_is_kept() -> None:
    content = exported("retinanet_small")
    for part, factor in (("0.weight", 2e4), ("0.bias", 2e4), ("3.weight", 5e-5)):  # the second layer takes it back
        content = scaled(content, f"stage1.1.residual.{part}", factor)
    found = half.search(content, some_images(4), DISTANCE)
    assert found.keep == (BLOCK,)
    assert found.full_error > 1 > found.error
    assert [name for name, value in found.largest.items() if value > half.FLOAT16_MAX] == [BLOCK]


def test_exactly_the_block_of_a_detector_that_loses_digits_is_kept() -> None:
    content = exported("retinanet_small")
    found = half.search(shifted(content, half.blocks(content)[BLOCK][-1], 4096), some_images(4), DISTANCE)
    assert found.keep == (BLOCK,)
    assert found.full_error > 1 > found.error
    assert max(value for name, value in found.block_errors.items() if name != BLOCK) < 1
    assert max(found.largest.values()) < half.FLOAT16_MAX


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SMALL)
def test_cuda_runs_a_detector_in_float16_with_no_block_kept(name: str) -> None:
    found = half.search(exported(name), some_images(8), DISTANCE, "cuda")
    assert found.keep == ()
    assert 0 < found.error < 1


def detections(n: int) -> Outputs:
    corners = np.stack([np.arange(n), np.arange(n), np.arange(n) + 60, np.arange(n) + 60], -1)
    return {
        "boxes": corners[:, None].astype(np.float32),
        "scores": np.full((n, 1), 0.5, np.float32),
        "labels": np.zeros((n, 1), np.int64),
    }


def test_a_flip_of_overlapping_boxes_is_not_taken_for_rounding() -> None:
    expected, flipped, moved, gone = (detections(100) for _ in range(4))
    flipped["boxes"][7] += 1.5
    assert DISTANCE(flipped, expected) < 0.5
    moved["boxes"] += 2 * TYPICAL
    assert DISTANCE(moved, expected) > 1
    gone["labels"][:5], gone["scores"][:5] = -1, 0
    assert DISTANCE(gone, expected) > 1


def test_the_gate_refuses_what_is_a_little_off_everywhere() -> None:
    squares = data()
    test = squares.test
    truth = {
        "boxes": np.stack([np.pad(each.numpy(), ((0, 2 - len(each)), (0, 0))) for each in test.boxes]),
        "scores": np.stack([np.arange(2) < len(each) for each in test.boxes]).astype(np.float32),
        "labels": np.stack([np.pad(each.numpy(), (0, 2 - len(each)), constant_values=-1) for each in test.labels]),
    }
    artifact = Artifact(
        format="onnx",
        precision="fp16",
        device="cuda",
        views=1,
        dense=None,
        outputs=BOXES,
        tolerances=TOLERANCES[DETECTION, "onnx", "fp16"],
        reproducible=True,
        requires={},
        path="model-fp16.onnx",
        sha256="",
    )
    assert DetectorExport().compare(artifact, squares, truth, truth).reasons == []
    moved = truth | {"boxes": truth["boxes"] + np.array([0, 0, 2 * TYPICAL, 0], np.float32)}
    reasons = DetectorExport().compare(artifact, squares, truth, moved).reasons
    assert reasons == ["boxes on the test images differ by 0.2 on average, allowed 0.1"]


def test_detections_that_are_no_numbers_are_never_close() -> None:
    expected, found = detections(3), detections(3)
    found["boxes"][1] = np.nan
    assert not DISTANCE(found, expected) <= 1


def test_int8_is_for_classifiers() -> None:
    with pytest.raises(ExportError, match=r"int8: got a model for detection, which supports fp32 and fp16"):
        _check_precisions(("fp32", "int8"), ("onnx",), "detection")
