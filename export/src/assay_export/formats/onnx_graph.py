"""Export a graph to a single ONNX file with dynamic batch size, folded BatchNorm and no paths of this machine."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from assay_deploy.bundle.manifest import Artifact
from assay_deploy.engines.onnxruntime.runtime import CUDA, import_runtime
from assay_deploy.engines.registry import DEFAULT, ENGINES
from assay_export.errors import ExportError
from assay_export.formats.format import ArtifactFiles, Format, Request, VerifiedArtifact
from assay_export.formats.places import Place
from assay_export.formats.runner import Runner

OPSET = 18
"""Opset that the exporter writes without a conversion; ONNX Runtime supports it since 1.14."""

INPUT = "images"
BATCH = "batch"


def export(
    graph: nn.Module, images: Tensor, outputs: Sequence[str], origin: Mapping[str, str], any_size: bool = False
) -> bytes:
    """Export a graph to ONNX and check the result.

    The same graph and origin give the same bytes with the same versions of torch, onnx and onnxscript.

    Args:
        graph: module in eval mode.
        images: example images, uint8 ``[batch, height, width, 3]``, at least two (the tracer takes a size of 1 as
            constant).
        outputs: names of the graph's outputs, in order.
        origin: origin of the model, stored as the file's ``metadata_props``.
        any_size: whether the graph takes images of other sizes too.

    Returns:
        The serialized model, including its weights.

    Raises:
        ExportError: a BatchNormalization node is left, or the batch size is fixed.
    """
    assert len(images) > 1
    with warnings.catch_warnings(), torch.no_grad():
        # torch 2.11's own use of pytree
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            graph,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=(dynamic_sizes(any_size),),
            external_data=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.helper.set_model_props(model, dict(origin))
    for size, name in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], ("height", "width"), strict=True):
        if size.dim_param:
            size.dim_param = name
    _check(model)
    content: bytes = model.SerializeToString()
    return content


def dynamic_sizes(any_size: bool) -> dict[int, Any]:
    """Return the dynamic axes of ``[batch, height, width, 3]``: the batch, and if `any_size` height and width."""
    sizes = {0: torch.export.Dim(BATCH, min=1)}
    return sizes | dict.fromkeys((1, 2), torch.export.Dim.AUTO) if any_size else sizes


def _strip(message: Any) -> None:
    """Clear doc strings and metadata in a protobuf message and all its parts.

    The exporter writes stack traces there, with the paths of this machine's source files.
    """
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in (value,) if hasattr(value, "ListFields") else value:
                _strip(child)


def _check(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    left = [node.name for node in _nodes(model) if node.op_type == "BatchNormalization"]
    if left:
        raise ExportError(
            f"{len(left)} BatchNormalization nodes are left in the ONNX graph ({', '.join(left)}): each must "
            "follow a convolution or a linear layer, so that it can be folded into its weights"
        )
    for tensor in (*model.graph.input, *model.graph.output):
        first = tensor.type.tensor_type.shape.dim[0]
        if first.dim_param != BATCH:
            raise ExportError(
                f"'{tensor.name}' of the ONNX graph has {first.dim_param or first.dim_value!r} as its first size, "
                f"expected '{BATCH}': the model's forward fixes the number of images"
            )


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node, including those of local functions and of branches."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting.extend(graph.node)


def has_cuda() -> bool:
    """Return whether this machine has a GPU that ONNX Runtime can use."""
    return torch.cuda.is_available() and CUDA in import_runtime().get_available_providers()


def _make(request: Request) -> ArtifactFiles:
    return ArtifactFiles(export(request.graph, request.images, request.outputs, request.origin, request.any_size))


def _start(verified: VerifiedArtifact, place: Place) -> Runner:
    engine = ENGINES[place.engine]
    return engine.load(verified.folder, verified.manifest, verified.artifact, provider=place.device).run


def _engines(artifact: Artifact) -> list[str]:
    return [
        each.name for each in ENGINES.values() if each.runs(artifact) and (each.installed() or each.name == DEFAULT)
    ]


FORMAT = Format(
    name="onnx",
    format="onnx",
    device="any",
    stem="model",
    suffix=".onnx",
    reproducible=True,
    make=_make,
    start=_start,
    engines=_engines,
    has_cuda=has_cuda,
)
