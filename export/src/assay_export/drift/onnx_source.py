"""Trace the tensors of an ONNX graph: every node's output becomes an output of the graph."""

from collections.abc import Collection, Mapping

import onnx
from torch import Tensor

from assay_deploy.engines.onnxruntime.runtime import CPU, import_runtime
from assay_export.drift.trace import Array, Trace, Value, sketch

CHUNK = 32
"""Number of values of an ONNX graph fetched in one run, which limits the memory needed."""


class OnnxSource:
    """An ONNX graph in ONNX Runtime on the CPU, without the engine's optimisations, which would remove values."""

    def __init__(self, content: bytes) -> None:
        self.model = onnx.load_model_from_string(content)
        graph = self.model.graph
        self.constants = {each.name: each for each in graph.initializer}
        self.input = graph.input[0].name
        indices = {self.input: 0}
        self.nodes: list[onnx.NodeProto | None] = [None]
        for node in graph.node:
            if any(name in indices for name in node.input):
                for name in filter(None, node.output):
                    indices[name] = len(self.nodes)
                    self.nodes.append(node)
        self.indices = indices

    def run(self, images: Tensor) -> list[Array]:
        """Return the outputs for uint8 images ``[batch, height, width, 3]``."""
        return self._fetch([output.name for output in self.model.graph.output], images)

    def trace(self, images: Tensor, keep: Collection[int] = ()) -> Trace:
        """Trace all values; see `TensorSource.trace`."""
        values, retained, names = [], {}, list(self.indices)
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            for name, array in zip(chunk, self._fetch(chunk, images), strict=True):
                index, node = self.indices[name], self.nodes[self.indices[name]]
                if index in keep:
                    retained[index] = array
                parents = (
                    () if node is None else tuple(self.indices[each] for each in node.input if each in self.indices)
                )
                drawn = sketch(array) if array.dtype.kind == "f" else None
                values.append(Value(name, node.op_type if node else "input", parents, array.shape, drawn))
        return Trace(values, [self.indices[output.name] for output in self.model.graph.output], retained)

    def weights(self, trace: Trace, inside: Collection[int]) -> dict[str, Array]:  # noqa: ARG002 - nodes are retained here
        """Return the initializers that the given values are computed with, by name."""
        nodes = [self.nodes[index] for index in inside]
        names = {name for node in nodes if node for name in node.input if name in self.constants}
        return {name: onnx.numpy_helper.to_array(self.constants[name]) for name in names}

    def _fetch(self, names: list[str], images: Tensor) -> list[Array]:
        runtime = import_runtime()
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        wanted = [name for name in names if name != self.input]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
        found = dict(zip(wanted, session.run(wanted, {self.input: images.numpy()}), strict=True))
        return [images.numpy() if name == self.input else found[name] for name in names]

    def extract(self, inputs: Mapping[str, Array], output: str) -> bytes:
        """Return a serialized graph of the nodes that compute `output` from the given inputs.

        onnx's own extractor needs the shape and type of every value, which graphs need not contain. Here the shapes and
        types of the inputs are those of their recorded arrays.
        """
        graph = self.model.graph
        makers = {name: node for node in graph.node for name in node.output}
        needed: set[str] = set()
        waiting = [output]
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting.extend(makers[name].input if name in makers and name not in inputs else ())
        made = needed - set(inputs)
        described = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ]
        layer = onnx.helper.make_graph(
            [node for node in graph.node if made & set(node.output)],
            "layer",
            described,
            [onnx.ValueInfoProto(name=output)],
            [weight for weight in graph.initializer if weight.name in needed],
        )
        model = onnx.helper.make_model(layer, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        content: bytes = model.SerializeToString()
        return content
