"""Find the nodes of an ONNX graph that form its network, without preprocessing and postprocessing."""

import onnx
from onnx import TensorProto

from assay_export.errors import ExportError

LAYERS = ("Conv", "Gemm")

FLOAT32_OPERATORS = frozenset(("CumSum", "NonMaxSuppression", "Range", "Resize", "RoiAlign", "TopK"))
"""Operators outside any network that must stay in float32: they compute coordinates or require float32 inputs."""


def nodes_outside_network(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes outside the network: those that depend on no layer, or on which no layer depends.

    Dependencies are followed only through float tensors, since other types are decisions and sizes, and not through
    operators of `FLOAT32_OPERATORS`. So the network is the layers and the nodes between them. Cast and views are before
    it, soft-max, averaging and the selection of a detector's proposals and boxes are after it.

    Raises:
        ExportError: the graph has no convolution or linear layer.
    """
    nodes, floats = model.graph.node, float_types(model)
    layers = [node.op_type in LAYERS for node in nodes]
    if not any(layers):
        raise ExportError(
            "the graph has neither convolutions nor linear layers, so its precision cannot be lowered; use fp32"
        )
    fed: set[str] = set()
    after = []
    for node, layer in zip(nodes, layers, strict=True):
        after.append(layer or (node.op_type not in FLOAT32_OPERATORS and not fed.isdisjoint(node.input)))
        if after[-1]:
            fed.update(name for name in node.output if name in floats)
    feeding: set[str] = set()
    without = []
    for node, layer, behind in reversed(list(zip(nodes, layers, after, strict=True))):
        before = layer or (node.op_type not in FLOAT32_OPERATORS and not feeding.isdisjoint(node.output))
        if before:
            feeding.update(name for name in node.input if name in floats)
        if not (before and behind):
            without.append(node.name)
    return without[::-1]


def float_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the ONNX data type of every float32 or float16 tensor, by name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    return {name: kind for name, kind in types.items() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}
