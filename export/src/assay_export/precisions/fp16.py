"""Convert an ONNX graph to float16, except for the blocks that a measurement shows to need float32."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.runtime import CPU, start, start_cuda
from assay_export.errors import ExportError
from assay_export.formats.onnx_graph import INPUT
from assay_export.formats.runner import Outputs
from assay_export.precisions.network import LAYERS, float_types, nodes_outside_network

IMAGES = 64
"""Number of training images that `search` uses."""

BATCH = 8
"""Batch size of the search."""

FLOAT16_MAX = 65504.0
"""The largest finite number of float16."""

Distance = Callable[[Outputs, Outputs], float]
"""Distance of outputs from the float32 outputs, the second argument; above 1 the difference is too large."""


@dataclass(frozen=True)
class Search:
    """Result of a search for the blocks that must stay in float32.

    Attributes:
        keep: names of the blocks that stay in float32; none of them can be left out.
        error: distance of the outputs from those in float32 if only these blocks stay in float32.
        full_error: distance with all blocks in float16; infinite if an output is not finite.
        block_errors: for each block, the distance with only that block in float16; empty if not needed.
        largest: for each block, its largest absolute weight or activation; above `FLOAT16_MAX` it overflows in float16.
    """

    keep: tuple[str, ...]
    error: float
    full_error: float
    block_errors: dict[str, float]
    largest: dict[str, float]


def lower(content: bytes, images: Tensor, distance: Distance, device: str) -> bytes:
    """Convert a graph to float16, except for the blocks that `search` finds on training images.

    Args:
        content: the float32 graph, serialized.
        images: images of the training split, uint8 ``[n, height, width, 3]``; `IMAGES` evenly spaced ones are used.
        distance: see `search`.
        device: see `search`.

    Raises:
        ExportError: see `to_half`.
        RuntimeUnavailableError: see `search`.
    """
    chosen = images[torch.linspace(0, len(images) - 1, min(IMAGES, len(images))).long()]
    parts = blocks(content)
    return to_half(content, [node for name in search(content, chosen, distance, device).keep for node in parts[name]])


def to_half(content: bytes, keep: Collection[str]) -> bytes:
    """Convert a float32 graph to float16, with casts where the precision changes.

    Inputs and outputs keep their types, and nodes outside the network stay in float32; see `nodes_outside_network`.
    ONNX Runtime's own converter is not used: between two nodes that stay in float32 it rounds to float16, and where two
    of them share an input it makes an invalid graph.

    Args:
        content: the float32 graph, serialized.
        keep: names of nodes that stay in float32, see `blocks`.

    Raises:
        ExportError: the graph has no layer, or has branches or loops.
    """
    model = onnx.load_model_from_string(content)
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        raise ExportError(
            "the ONNX graph has branches or loops, and float16 supports only graphs without them; leave out fp16"
        )
    kept = {*keep, *nodes_outside_network(model)}
    lowering = _Lowering(model)
    for node in list(model.graph.node):
        lowering.add(node, TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16)
    return lowering.finish()


class _Lowering:
    """Builder of a graph that is copied node by node, each node in its own float precision."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.initializers = {weight.name: weight for weight in model.graph.initializer}
        self.precision = float_types(model)
        self.nodes: list[onnx.NodeProto] = []
        self.cast: dict[tuple[str, int], str] = {}

    def add(self, node: onnx.NodeProto, precision: int) -> None:
        node.input[:] = [self._as(name, precision) if name in self.precision else name for name in node.input]
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = precision
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_converted(attribute.t, attribute.t.name, precision))
        self.precision |= {name: precision for name in node.output if name in self.precision}
        self.nodes.append(node)

    def _as(self, name: str, precision: int) -> str:
        """Return the name of a tensor in a precision; add a cast or a converted weight if there is none yet."""
        if self.precision[name] == precision:
            return name
        if (name, precision) not in self.cast:
            other = f"{name}_{'single' if precision == TensorProto.FLOAT else 'half'}"
            self.cast[name, precision] = other
            if name in self.initializers:
                self.model.graph.initializer.append(_converted(self.initializers[name], other, precision))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [other], f"cast_{other}", to=precision))
        return self.cast[name, precision]

    def finish(self) -> bytes:
        graph = self.model.graph
        for output in graph.output:
            if self.precision.get(output.name) == TensorProto.FLOAT16:
                half = f"{output.name}_half"
                for node in self.nodes:
                    node.input[:] = [half if name == output.name else name for name in node.input]
                    node.output[:] = [half if name == output.name else name for name in node.output]
                self.nodes.append(helper.make_node("Cast", [half], [output.name], f"cast_{half}", to=TensorProto.FLOAT))
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        weights = [weight for weight in graph.initializer if weight.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        onnx.checker.check_model(self.model, full_check=True)
        content: bytes = self.model.SerializeToString()
        return content


def emulate_rounding(content: bytes) -> bytes:
    """Return a graph with explicit casts for the rounding of every float16 node, to emulate float16 on the CPU.

    ONNX Runtime's CPU provider computes float16 nodes in float32 and omits the rounding between them, so that on the
    CPU the artifact itself shows neither its error nor an overflow. Explicit casts are kept. Emulated are sums in
    float32 with rounded results, as tensor cores compute them.
    """
    model = onnx.load_model_from_string(content)
    precision = float_types(model)

    def half(name: str) -> bool:
        return precision.get(name) == TensorProto.FLOAT16

    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast":
            nodes.append(node)
            continue
        before = [name for name in dict.fromkeys(node.input) if half(name)]
        after = [name for name in node.output if half(name)]
        unique = node.name or node.output[0]
        nodes += [helper.make_node("Cast", [name], [f"{name}_in_{unique}"], to=TensorProto.FLOAT) for name in before]
        node.input[:] = [f"{name}_in_{unique}" if name in before else name for name in node.input]
        node.output[:] = [f"{name}_unrounded" if name in after else name for name in node.output]
        nodes.append(node)
        nodes += [helper.make_node("Cast", [f"{name}_unrounded"], [name], to=TensorProto.FLOAT16) for name in after]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    emulated: bytes = model.SerializeToString()
    return emulated


def blocks(content: bytes) -> dict[str, tuple[str, ...]]:
    """Divide a float32 graph into blocks that are converted or kept as a whole: block's name -> names of nodes.

    A block is an entry of one of the model's outermost lists of layers, found by the names of the weights: a layer of
    ``nn.Sequential``, a residual block, a level of a pyramid. A layer outside such a list is a block of its own. A node
    without weights belongs to the layer before it.

    Raises:
        ExportError: the graph has no layer.
    """
    model = onnx.load_model_from_string(content)
    without = set(nodes_outside_network(model))
    stored = {weight.name for weight in model.graph.initializer}
    paths = {}
    for node in model.graph.node:
        if node.op_type in LAYERS and node.name not in without:
            weight = node.input[1]
            paths[node.name] = weight.split(".")[:-1] if weight in stored and "." in weight else [node.name]
    depth = 0
    while len({tuple(path[: depth + 1]) for path in paths.values()}) == 1 < len(paths):
        depth += 1
    found: dict[str, list[str]] = {}
    block = ""
    for node in model.graph.node:
        if node.name in paths:
            path = paths[node.name]
            entry = next((i for i, part in enumerate(path) if i >= depth and part.isdecimal()), len(path))
            block = ".".join(path[: entry + 1])
        if node.name not in without:
            found.setdefault(block, []).append(node.name)
    return {name: tuple(nodes) for name, nodes in found.items()}


def search(content: bytes, images: Tensor, distance: Distance, device: str = "cpu") -> Search:
    """Find the blocks that must stay in float32 to keep the outputs close to those of the float32 graph.

    Blocks with values too large for float16 stay in any case, since a soft-max can hide an infinity. Then blocks are
    added in the order of their error as the only float16 block, the largest first, until the distance is at most 1.
    Last, blocks that are not needed any more are removed, the smallest error first. n blocks take about 2n runs.

    Args:
        content: the float32 graph, serialized.
        images: uint8 ``[n, height, width, 3]``.
        distance: the task's distance of outputs.
        device: ``cuda`` runs the float16 graph, ``cpu`` what `emulate_rounding` makes of it.

    Raises:
        ExportError: see `to_half`.
        RuntimeUnavailableError: ONNX Runtime is not installed or cannot use that device.
    """
    parts = blocks(content)
    expected = _run(content, images, device)

    def error(keep: Collection[str]) -> float:
        lowered = to_half(content, [node for name in keep for node in parts[name]])
        found = _run(emulate_rounding(lowered) if device == "cpu" else lowered, images, device)
        error = distance(found, expected)
        return error if isfinite(error) else inf

    largest = measure_largest(content, images)
    fixed = [name for name in parts if not largest[name] <= FLOAT16_MAX]
    full_error = error(())
    keep, reached, block_errors = fixed, error(fixed) if fixed else full_error, {}
    if reached > 1:
        block_errors = {name: error([other for other in parts if other != name]) for name in parts}
        for name in sorted(set(parts) - set(fixed), key=lambda name: (-block_errors[name], name)):
            keep = [*keep, name]
            reached = error(keep)
            if reached <= 1:
                break
        for name in sorted(set(keep) - set(fixed), key=lambda name: (block_errors[name], name)):
            fewer = [other for other in keep if other != name]
            without = error(fewer)
            if without <= 1:
                keep, reached = fewer, without
    return Search(tuple(name for name in parts if name in keep), reached, full_error, block_errors, largest)


def measure_largest(content: bytes, images: Tensor) -> dict[str, float]:
    """Return the largest absolute weight or activation of each block of a float32 graph, computed on the CPU.

    Args:
        content: the float32 graph, serialized.
        images: uint8 ``[n, height, width, 3]``.
    """
    model = onnx.load_model_from_string(content)
    floats, parts = float_types(model), blocks(content)
    nodes = {node.name: node for node in model.graph.node}
    values = {
        block: {name for part in names for name in (*nodes[part].input, *nodes[part].output) if name in floats}
        for block, names in parts.items()
    }
    del model.graph.output[:]
    for name in sorted(set().union(*values.values())):  # the activations of all layers would take too much memory
        model.graph.node.append(helper.make_node("Abs", [name], [f"{name}_size"]))
        model.graph.node.append(helper.make_node("ReduceMax", [f"{name}_size"], [f"{name}_largest"], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(f"{name}_largest", TensorProto.FLOAT, []))
    peaks = _run(model.SerializeToString(), images, "cpu")
    return {block: max(float(peaks[f"{name}_largest"].max()) for name in names) for block, names in values.items()}


def _run(content: bytes, images: Tensor, device: str) -> Outputs:
    """Return the outputs by name, ``[n, ...]``; for a scalar output ``[batches]``."""
    cores = available_cores()
    session = start_cuda(content, cores) if device == "cuda" else start(content, cores, [CPU])
    parts = [session.run(None, {INPUT: part.numpy()}) for part in images.split(BATCH)]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate([np.atleast_1d(part[i]) for part in parts]) for i, name in enumerate(names)}


def _converted(tensor: onnx.TensorProto, name: str, precision: int) -> onnx.TensorProto:
    with np.errstate(over="ignore"):  # too large a weight becomes infinite, and `search` keeps its block
        array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(precision))
    return numpy_helper.from_array(array, name)
