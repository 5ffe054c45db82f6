"""Write a bundle's ONNX graphs as a model repository for Triton Inference Server."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from assay_deploy.bundle.folder import MANIFEST, read_manifest, read_verified, write_manifest
from assay_deploy.bundle.manifest import PLAIN, Artifact, Manifest, Tensor
from assay_deploy.engines.onnxruntime.runtime import CUDA_OPTIONS
from assay_deploy.errors import BundleError
from assay_export.errors import ExportError
from assay_export.tasks.registry import task_named
from assay_research.runs.disk import write_atomically

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
GRAPH = "model.onnx"
"""Name of the graph in a version's folder that Triton's ONNX Runtime backend expects."""

DATA_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "int64": "TYPE_INT64"}
"""Manifest data type -> Triton's data type: ``DataType`` in triton-inference-server/common, model_config.proto."""

DEVICES = {
    "any": "",
    "cpu": "instance_group [ { kind: KIND_CPU } ]\n",
    "cuda": "instance_group [ { kind: KIND_GPU } ]\n",
}
"""Device -> instance group. For ``any`` Triton chooses, and uses every GPU; others were proven on that device only."""

CONV_SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
"""Values of ONNX Runtime's ``cudnn_conv_algo_search``; Triton gives them by index."""


@dataclass(frozen=True)
class _Model:
    """A model to be added to the repository: its name there, the artifact, and the artifact's verified bytes."""

    name: str
    artifact: Artifact
    content: bytes


def write_repository(bundle: Path, manifest: Manifest, repository: Path, *, max_batch_size: int) -> tuple[Path, ...]:
    """Add every ONNX graph of a bundle to a model repository, each as the next version of its own model.

    The models are named ``<bundle>``, with a suffix for variant and precision ``<bundle>_tta``, ``<bundle>_dense``,
    ``<bundle>_fp16``, ``<bundle>_tta_fp16``. A model's ``config.pbtxt`` is overwritten with every version: put your own
    settings into ``<model>/configs/<name>.pbtxt``, which Triton reads with ``--model-config-name=<name>``. Each
    version's folder also contains the bundle's manifest and its checksum.

    All files are written to ``.<repository>.partial`` next to the repository and then renamed, so that an interrupted
    export leaves no incomplete model or version. That folder is not inside the repository because Triton loads every
    folder there as a model, whatever its name, and does not start if it cannot load one.

    Args:
        bundle: the bundle's folder.
        manifest: the bundle's manifest, from `read_manifest`.
        repository: the folder for ``tritonserver --model-repository``; created if it does not exist.
        max_batch_size: largest number of images in one batch; 1 or more.

    Returns:
        The folders of the new versions, ``<repository>/<model>/<version>``.

    Raises:
        BundleError: a graph is missing or its hash differs from the manifest; nothing was written.
        ExportError: the bundle has no ONNX graph, its name cannot be a folder's name, the repository already has a
            folder of that name (not written by this function, or with another interface), or the repository cannot be
            written or is being written by another process.
    """
    assert max_batch_size > 0
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", manifest.name):
        raise ExportError(f"'{manifest.name}' cannot be a model's name: expected letters, digits, '.', '_' and '-'")
    models = [
        _Model(_name(manifest.name, artifact), artifact, read_verified(bundle, artifact))
        for artifact in manifest.artifacts
        if artifact.format == "onnx"
    ]
    if not models:
        raise ExportError(f"bundle '{manifest.name}' has no ONNX graph, the only format that is exported for Triton")
    repository = repository.absolute()
    with _working_folder(repository) as partial:
        versions = [_next_version(repository / model.name, model.artifact, manifest) for model in models]
        for model, version in zip(models, versions, strict=True):
            _stage(partial / model.name, model, manifest, version, max_batch_size)
        return tuple(
            _publish(partial / model.name, repository / model.name, version)
            for model, version in zip(models, versions, strict=True)
        )


def _name(bundle: str, artifact: Artifact) -> str:
    suffixes = ((artifact.variant, artifact.variant != PLAIN), (artifact.precision, artifact.precision != "fp32"))
    return "_".join([bundle, *(suffix for suffix, there in suffixes if there)])


@contextmanager
def _working_folder(repository: Path) -> Iterator[Path]:
    """Create an empty temporary folder on the repository's file system; only one export at a time can have it."""
    partial = repository.with_name(f".{repository.name}.partial")
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with FileLock(repository.with_name(f".{repository.name}.lock"), timeout=0):
            if partial.exists():  # an export was killed
                shutil.rmtree(partial)
            partial.mkdir()
            try:
                yield partial
            finally:
                shutil.rmtree(partial)
    except Timeout as error:
        raise ExportError(f"another export is writing to '{repository}' right now") from error
    except OSError as error:
        raise ExportError(
            f"'{repository}' cannot be written through the folder '{partial}' ({error.strerror}). Both must be "
            "writable and on one file system"
        ) from error


def _stage(folder: Path, model: _Model, manifest: Manifest, version: int, max_batch_size: int) -> None:
    (folder / str(version)).mkdir(parents=True)
    write_atomically(model.content, folder / str(version) / GRAPH)
    write_manifest(manifest, folder / str(version))
    write_atomically("".join(f"{label}\n" for label in manifest.labels).encode(), folder / LABELS)
    write_atomically(_config(model, manifest, version, max_batch_size).encode(), folder / CONFIG)


def _publish(staged: Path, place: Path, version: int) -> Path:
    if version == 1:
        staged.rename(place)
    else:
        (staged / CONFIG).replace(place / CONFIG)
        (staged / str(version)).rename(place / str(version))
    return place / str(version)


def _next_version(place: Path, artifact: Artifact, manifest: Manifest) -> int:
    """Return the number of the next version, from 1.

    All versions of a model share one config.pbtxt and one labels.txt, and clients address them by one name, so
    they must have the same interface.
    """
    if not os.path.lexists(place):
        return 1
    # not int() of any name: Triton ignores names with a leading zero and accepts no other digits
    found = place.iterdir() if place.is_dir() else ()
    newest = max((int(path.name) for path in found if re.fullmatch("[1-9][0-9]*", path.name)), default=0)
    elsewhere = "Choose another repository, or export under another name"
    try:
        before = read_manifest(place / str(newest))
    except BundleError as error:
        raise ExportError(
            f"'{place}' exists, but its newest version has no {MANIFEST} of an export, so nothing is added to it "
            f"({error}). {elsewhere}"
        ) from error
    if _interface(before, artifact) != _interface(manifest, artifact):
        raise ExportError(
            f"'{place}' has other inputs, outputs, labels or another canvas than this bundle, but all versions of a "
            f"model must have the same. {elsewhere}"
        )
    return newest + 1


def _interface(manifest: Manifest, artifact: Artifact) -> object:
    """Return the properties that a client of the model depends on: task, preprocessing, labels, inputs and outputs."""
    tensors = [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*manifest.inputs, *manifest.outputs)]
    computed = {manifest.inputs[0].name, *artifact.outputs}
    return manifest.task, manifest.preprocess, manifest.labels, [tensor for tensor in tensors if tensor[0] in computed]


def _config(model: _Model, manifest: Manifest, version: int, max_batch_size: int) -> str:
    """Return the ``ModelConfig`` as protobuf text.

    Fields: triton-inference-server/common, protobuf/model_config.proto at 83adf7c. Triton's requirements: core,
    src/model_config_utils.cc at 73aad7c, and onnxruntime_backend, src/onnxruntime.cc at 00fd3e8. The accelerator
    ``cuda`` exists since June 2024 (onnxruntime_backend d992c5b).
    """
    described = {tensor.name: tensor for tensor in manifest.outputs}
    (images,) = manifest.inputs
    if model.artifact.dense is not None:
        images = replace(images, shape=("batch", -1, -1, 3))  # -1: any size
    label = f" label_filename: {_quoted(LABELS)}" if task_named(manifest.task).labelled else ""
    outputs = ",\n".join(f"  {{ {_tensor(described[name])}{label} }}" for name in model.artifact.outputs)
    options = " ".join(f"parameters {{ key: {_quoted(k)} value: {_quoted(v)} }}" for k, v in CUDA_OPTIONS.items())
    parameters = "".join(
        f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}\n"
        for key, value in _parameters(model.artifact, manifest, version).items()
    )
    return (
        f"# Version {version} of this model, from the bundle {manifest.name}. The next one overwrites this file:\n"
        "# put your own settings into configs/<name>.pbtxt, see tritonserver --model-config-name.\n"
        f"name: {_quoted(model.name)}\n"
        'platform: "onnxruntime_onnx"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {max_batch_size}\n"
        f"input [\n  {{ {_tensor(images)} format: FORMAT_NHWC }}\n]\n"
        f"output [\n{outputs}\n]\n"
        "dynamic_batching { }\n"
        "version_policy { latest { num_versions: 1 } }\n"
        f"{DEVICES[model.artifact.device]}"
        "optimization { execution_accelerators { gpu_execution_accelerator [\n"
        f'  {{ name: "cuda" {options} }}\n'
        "] } }\n"
        f"{parameters}"
    )


def _tensor(tensor: Tensor) -> str:
    """Describe a tensor without the batch axis, which Triton adds where max_batch_size is above 0."""
    dims = ", ".join(map(str, tensor.shape[1:]))
    return f"name: {_quoted(tensor.name)} data_type: {DATA_TYPES[tensor.dtype]} dims: [ {dims} ]"


def _parameters(artifact: Artifact, manifest: Manifest, version: int) -> dict[str, str]:
    """Return the model's origin, and ``cudnn_conv_algo_search`` again, as parameters.

    Where a model has parameters without ``cudnn_conv_algo_search``, the backend falls back to EXHAUSTIVE, whatever the
    accelerator's setting is.
    """
    source = manifest.source
    return {
        "cudnn_conv_algo_search": str(CONV_SEARCHES.index(CUDA_OPTIONS["cudnn_conv_algo_search"])),
        "assay.version": str(version),
        "assay.bundle": manifest.name,
        "assay.run": source.run,
        "assay.checkpoint": source.checkpoint,
        "assay.commit": source.commit,
        "assay.config_sha256": source.config_sha256,
        "assay.weights_sha256": source.weights_sha256,
        "assay.data_sha256": source.data_sha256,
        "assay.model_sha256": artifact.sha256,
    }


def _quoted(text: str) -> str:
    """Quote a string for protobuf's text format; JSON differs only for control characters, not allowed in manifests."""
    return json.dumps(text, ensure_ascii=False)
