"""A float16 graph keeps in float32 the block that needs it and no other, and shows on the CPU what it is worth."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import nn

from assay_deploy.bundle.difference import largest_differences
from assay_deploy.engines.onnxruntime.runtime import CPU, start
from assay_deploy.images.canvas import Canvas, View
from assay_export.errors import ExportError
from assay_export.formats import onnx_graph
from assay_export.formats.runner import Outputs
from assay_export.precisions import fp16 as half
from assay_research.models.resnet import Block
from assay_research.tasks.classification.views import Views

TOLERANCE = 0.02
VIEWS = (View(), View(flip=True))


def conv(inputs: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, out, 3, padding=1)


class Overflow(nn.Module):
    """Reaches more than float16 has inside, and returns from there."""

    def __init__(self):
        super().__init__()
        self.up, self.down = conv(8, 8), conv(8, 8)
        with torch.no_grad():
            self.up.weight.mul_(5e5)  # at most 59,000, within float16
            self.down.weight.mul_(2e-6)

    def forward(self, x):
        return self.down(F.relu(self.up(x)))


class Cancellation(nn.Module):
    """Loses the last digits of float16 next to a large number, without coming near its end."""

    def __init__(self):
        super().__init__()
        self.layer = conv(8, 8)

    def forward(self, x):
        return F.relu(self.layer(x) + 4096) - 4096


def network(*planted: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    parts = [conv(3, 8), Block(8, 8, 1), *(type_() for type_ in planted), Block(8, 8, 1), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(8, 10)).eval()


def some_images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def exported(model: nn.Module, views=VIEWS[:1]) -> bytes:
    output = "logits" if len(views) == 1 else "probabilities"
    return onnx_graph.export(Views(model, Canvas(16, 16), views).eval(), some_images(2), [output], {"run": "a/1"})


def apart(found: Outputs, expected: Outputs) -> float:
    """In units of `TOLERANCE`."""
    return max(largest_differences(found, expected).values()) / TOLERANCE


def run(content: bytes, images: torch.Tensor) -> np.ndarray:
    return start(content, 1, [CPU]).run(None, {"images": images.numpy()})[0]


@pytest.fixture(scope="module")
def plain() -> bytes:
    return exported(network(), VIEWS)


@pytest.fixture(scope="module")
def overflowing() -> bytes:
    return exported(network(Overflow))


def test_a_block_is_a_child_of_the_model(overflowing):
    parts = half.blocks(overflowing)
    assert list(parts) == ["model.0", "model.1", "model.2", "model.3", "model.6"]
    operators = {node.name: node.op_type for node in onnx.load_model_from_string(overflowing).graph.node}
    assert [operators[name] for name in parts["model.2"]] == ["Conv", "Relu", "Conv"]
    assert [operators[name] for name in parts["model.1"]] == ["Conv", "Relu", "Conv", "Add", "Relu"]


def test_nothing_is_kept_where_nothing_needs_it(plain):
    found = half.search(plain, some_images(8), apart)
    assert found.keep == ()
    assert 0 < found.error == found.full_error < 1
    assert max(found.largest.values()) < 100


def test_exactly_the_block_that_overflows_is_kept(overflowing):
    found = half.search(overflowing, some_images(8), apart)
    assert found.keep == ("model.2",)
    assert found.full_error == np.inf
    assert 0 < found.error < 1
    assert [name for name, value in found.largest.items() if value > half.FLOAT16_MAX] == ["model.2"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_finds_the_same_block(overflowing):
    found = half.search(overflowing, some_images(8), apart, "cuda")
    assert found.keep == ("model.2",)
    assert 0 < found.error < 1 < found.full_error


def test_exactly_the_block_that_loses_digits_is_kept():
    found = half.search(exported(network(Cancellation)), some_images(8), apart)
    assert found.keep == ("model.2",)
    assert 1 < found.full_error == pytest.approx(found.block_errors["model.2"], rel=0.5)
    assert max(value for name, value in found.block_errors.items() if name != "model.2") < 1
    assert found.error < 1
    assert max(found.largest.values()) < half.FLOAT16_MAX


def test_the_cpu_hides_an_overflow_that_spelled_out_rounding_shows(overflowing):
    lowered = half.to_half(overflowing, ())
    assert np.isfinite(run(lowered, some_images(4))).all()
    assert not np.isfinite(run(half.emulate_rounding(lowered), some_images(4))).all()


def test_the_cpu_hides_rounding_that_spelled_out_shows(plain):
    lowered = half.to_half(plain, ())
    images, expected = some_images(8), run(plain, some_images(8))
    hidden, shown = (
        np.abs(run(content, images) - expected).max() for content in (lowered, half.emulate_rounding(lowered))
    )
    assert 0 < shown < TOLERANCE
    assert hidden != shown


def test_a_whole_float16_model_in_torch_errs_as_much_as_the_spelled_out_graph():
    model, images = network(), some_images(64)
    content = exported(model)
    expected = run(content, images)
    emulated = run(half.emulate_rounding(half.to_half(content, ())), images)
    with torch.inference_mode():
        eager = model.half()((images.permute(0, 3, 1, 2).float() / 255).half()).float().numpy()
    error, other = (np.sqrt(np.mean((found - expected) ** 2)) for found in (emulated, eager))
    assert error == pytest.approx(other, rel=1)


@pytest.mark.parametrize("kept", [(), ("model.1",), ("model.1", "model.2")])
def test_float16_is_where_it_was_asked_for(plain, kept):
    parts = half.blocks(plain)
    keep = {node for name in kept for node in parts[name]}
    model = onnx.load_model_from_string(half.to_half(plain, keep))
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        types[value.name] = value.type.tensor_type.elem_type
    lowered = {node for name, nodes in parts.items() if name not in kept for node in nodes}
    for node in model.graph.node:
        found = {types.get(name) for name in node.output} & {TensorProto.FLOAT, TensorProto.FLOAT16}
        if node.name in keep:
            assert found == {TensorProto.FLOAT}
        elif node.name in lowered:
            assert found == {TensorProto.FLOAT16}
        elif node.op_type in ("Softmax", "Div", "Sub", "MatMul", "ReduceMean"):
            assert found <= {TensorProto.FLOAT}
    casts = sum(node.op_type == "Cast" and node.name.startswith("cast_") for node in model.graph.node)
    assert casts == {0: 2, 1: 4, 2: 4}[len(kept)], "precision changes where a block begins or ends, and nowhere else"


def test_float16_graph_keeps_interface_and_origin(plain):
    model, old = (onnx.load_model_from_string(content) for content in (half.to_half(plain, ()), plain))
    assert (model.graph.input, model.graph.output) == (old.graph.input, old.graph.output)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"run": "a/1"}
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert half.to_half(plain, ()) == half.to_half(plain, ())
    for batch in (1, 5):
        assert run(model.SerializeToString(), some_images(batch)).shape == (batch, 10)


def test_a_graph_with_branches_is_refused(plain):
    model = onnx.load_model_from_string(plain)
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["images"], [], then_branch=branch, else_branch=branch))
    with pytest.raises(ExportError, match="branches or loops"):
        half.to_half(model.SerializeToString(), ())


def test_what_is_lowered_is_close_on_other_images(overflowing):
    lowered = half.lower(overflowing, some_images(32), apart, "cpu")
    others = some_images(40)[32:]
    found, expected = (run(each, others) for each in (half.emulate_rounding(lowered), overflowing))
    assert np.isfinite(found).all()
    assert 0 < np.abs(found - expected).max() < 2 * TOLERANCE
