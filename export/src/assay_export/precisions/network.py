"""Which nodes of an ONNX graph are its network; the others prepare images, or choose and count what it answers."""

import onnx
from onnx import TensorProto

from assay_export.errors import ExportError

LAYERS = ("Conv", "Gemm")

SINGLE = frozenset(("CumSum", "NonMaxSuppression", "Range", "Resize", "RoiAlign", "TopK"))
"""Operators of no network, and of float32 alone: they compute coordinates, or have inputs that must be float32."""


def outside(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that are not the network: those that no layer feeds, and those that feed none.

    What feeds what is seen by floats, for numbers of another kind are decisions and sizes, and it ends at `SINGLE`. So
    the network is layers and what lies between them. Cast and views are before it, soft-max and average after it; so
    is what a detector chooses, be it boxes to give or proposals to look at again.

    Raises:
        ExportError: there is no layer.
    """
    nodes, floats = model.graph.node, float_types(model)
    layers = [node.op_type in LAYERS for node in nodes]
    if not any(layers):
        raise ExportError("the graph has neither convolutions nor linear layers, whose precision could be lowered")
    fed: set[str] = set()
    after = []
    for node, layer in zip(nodes, layers, strict=True):
        after.append(layer or (node.op_type not in SINGLE and not fed.isdisjoint(node.input)))
        if after[-1]:
            fed.update(name for name in node.output if name in floats)
    feeding: set[str] = set()
    without = []
    for node, layer, behind in reversed(list(zip(nodes, layers, after, strict=True))):
        before = layer or (node.op_type not in SINGLE and not feeding.isdisjoint(node.output))
        if before:
            feeding.update(name for name in node.input if name in floats)
        if not (before and behind):
            without.append(node.name)
    return without[::-1]


def float_types(model: onnx.ModelProto) -> dict[str, int]:
    """Type of every tensor that is float32 or float16, by name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    return {name: kind for name, kind in types.items() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}
