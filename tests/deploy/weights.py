"""A graph whose weights lie in a file beside it."""

from dataclasses import replace
from pathlib import Path

import onnx

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import Artifact, File, Manifest


def weights_beside(bundle: Path, manifest: Manifest, location: str = "model.onnx.data") -> Artifact:
    """The plain artifact, its kernel and head kept in a file beside it, by that name in the graph."""
    artifact = manifest.artifact("onnx")
    model = onnx.load_from_string((bundle / artifact.path).read_bytes())
    content = b""
    for tensor in model.graph.initializer:
        if tensor.name in ("kernel", "head"):
            where = {"location": location, "offset": str(len(content)), "length": str(len(tensor.raw_data))}
            content += tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
    graph = model.SerializeToString()
    (bundle / artifact.path).write_bytes(graph)
    (bundle / location).write_bytes(content)
    return replace(artifact, sha256=sha256(graph), beside=(File(location, sha256(content)),))
