"""An int8 graph answers like its model, computes layers in 8 bits and the rest in float, and is the same each time."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from assay_deploy.engines.onnxruntime.runtime import CPU, start
from assay_export.errors import ExportError
from assay_export.formats import onnx_graph
from assay_export.precisions import int8 as quantized
from assay_research.runs.trained import data_of, load
from assay_research.tasks.classification.views import Views

ORIGIN = {"run": "digits/1"}


@pytest.fixture(scope="module")
def graphs(normed_run):
    """The data set, and of the plain view and of three: float32 graph and int8 graph."""
    trained, data = load(normed_run), data_of(normed_run)
    pairs = {}
    for output, views in (("logits", trained.views[:1]), ("probabilities", trained.views)):
        graph = Views(trained.model, trained.canvas, views).eval()
        content = onnx_graph.export(graph, data.test.images[:2], [output], ORIGIN)
        pairs[output] = content, quantized.quantize(content, data.train.images)
    return data, pairs


def run(content: bytes, images: torch.Tensor) -> np.ndarray:
    return start(content, 1, [CPU]).run(None, {"images": images.numpy()})[0]


@pytest.mark.parametrize(("output", "tolerance"), [("logits", 1.0), ("probabilities", 0.15)])
def test_int8_answers_like_float32(graphs, output, tolerance):
    data, pairs = graphs
    labels = data.test.labels.numpy()
    before, after = (run(content, data.test.images) for content in pairs[output])
    assert 0 < np.abs(before - after).max() < tolerance
    assert (before.argmax(1) != after.argmax(1)).mean() < 0.05
    assert (after.argmax(1) == labels).mean() > (before.argmax(1) == labels).mean() - 0.01


def test_ranges_measured_on_other_images_do_harm(graphs):
    data, pairs = graphs
    whole, good = pairs["logits"]
    bad = quantized.quantize(whole, torch.zeros_like(data.train.images[:64]))
    before, well, badly = (run(content, data.test.images) for content in (whole, good, bad))
    assert np.abs(before - badly).max() > 3 * np.abs(before - well).max()


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_layers_are_in_8_bits_and_what_is_around_them_in_float(graphs, output):
    _, pairs = graphs
    model = onnx.load_model_from_string(pairs[output][1])
    made = {name: node for node in model.graph.node for name in node.output}
    types = {weight.name: weight.data_type for weight in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 11
    for node in layers:
        assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        weight, scale, _ = made[node.input[1]].input
        assert types[weight] == onnx.TensorProto.INT8
        assert len(onnx.numpy_helper.to_array(next(w for w in model.graph.initializer if w.name == scale)).shape) == 1
    for node in model.graph.node:
        if node.op_type in ("Cast", "Sub", "Div", "Softmax", "ReduceMean", "MatMul"):
            assert not {made[name].op_type for name in node.input if name in made} & {"DequantizeLinear"}
    assert made[output].op_type != "DequantizeLinear", "outputs of 8 bits would tie"


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_int8_graph_keeps_interface_and_origin_and_says_no_more(graphs, output):
    data, pairs = graphs
    whole, content = pairs[output]
    model, old = onnx.load_model_from_string(content), onnx.load_model_from_string(whole)
    assert "BatchNormalization" not in Counter(node.op_type for node in model.graph.node)
    assert (model.graph.input, model.graph.output) == (old.graph.input, old.graph.output)
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {entry.key: entry.value for entry in model.metadata_props} == ORIGIN
    assert not model.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    together = run(content, data.test.images[:7])
    alone = np.concatenate([run(content, image[None]) for image in data.test.images[:7]])
    assert np.abs(together - alone).max() < 1e-4


def test_the_same_graph_and_images_give_the_same_bytes(graphs):
    data, pairs = graphs
    whole, content = pairs["logits"]
    assert quantized.quantize(whole, data.train.images) == content


def test_a_graph_without_layers_is_refused():
    class Mean(torch.nn.Module):
        def forward(self, images):
            return images.float().mean((1, 2))

    content = onnx_graph.export(Mean().eval(), torch.zeros(2, 4, 4, 3, dtype=torch.uint8), ["logits"], {})
    with pytest.raises(ExportError, match="neither convolutions nor linear layers"):
        quantized.quantize(content, torch.zeros(4, 4, 4, 3, dtype=torch.uint8))
