"""Validation rules for a parsed manifest; each task adds its own rules for the outputs."""

from pathlib import Path, PurePosixPath

from assay_deploy.bundle.manifest import DEVICES, FORMATS, PRECISIONS, Artifact, Manifest
from assay_deploy.errors import BundleError
from assay_deploy.tasks.registry import TASKS


def check(manifest: Manifest, path: Path) -> None:
    """Raise BundleError if a well-formed manifest breaks a rule.

    Args:
        manifest: the parsed manifest.
        path: path of the manifest's file, for error messages.

    Raises:
        BundleError: the manifest breaks a rule.
    """
    if manifest.task not in TASKS:
        raise BundleError(f"{path}: unknown task {manifest.task!r}; known are {' and '.join(TASKS)}")
    if not manifest.artifacts or not manifest.labels or not manifest.views or len(manifest.inputs) != 1:
        raise BundleError(
            f"{path}: a bundle needs at least one artifact, at least one label, at least one view and exactly one input"
        )
    try:
        outputs = TASKS[manifest.task].outputs(manifest)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    canvas = ("batch", manifest.preprocess.height, manifest.preprocess.width, 3)
    for tensor, dtype, shape in ((manifest.inputs[0], "uint8", canvas), *outputs):
        if (tensor.dtype, tensor.shape) != (dtype, shape):
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise BundleError(f"{path}: tensor {tensor.name!r} must be {dtype} {list(shape)}, not {found}")
    for entry in manifest.files:
        pure = PurePosixPath(entry.path)
        plain = not set(entry.path) & set("\\:")
        if not pure.parts or pure.is_absolute() or ".." in pure.parts or not plain:
            raise BundleError(f"{path}: {entry.path!r} is not a plain path inside the bundle")
        if len(entry.sha256) != 64 or not set(entry.sha256) <= set("0123456789abcdef"):
            raise BundleError(f"{path}: sha256 of {entry.path!r} is not 64 hex digits")
    for artifact in manifest.artifacts:
        _check_artifact(artifact, manifest, path)


def _check_artifact(artifact: Artifact, manifest: Manifest, path: Path) -> None:
    task = TASKS[manifest.task]
    where = f"{path}: {artifact.path}"
    for kind, value, known in (
        ("format", artifact.format, FORMATS),
        ("precision", artifact.precision, PRECISIONS),
        ("device", artifact.device, DEVICES),
    ):
        if value not in known:
            raise BundleError(f"{where} has the unknown {kind} {value!r}; known are {', '.join(known)}")
    if artifact.views not in (1, len(manifest.views)):
        raise BundleError(f"{where} runs {artifact.views} views, but the manifest lists {len(manifest.views)}")
    if artifact.dense is not None and (artifact.views != 1 or artifact.dense < 1 or not task.dense):
        able = " or ".join(f"a {each.model_kind}" for each in TASKS.values() if each.dense)
        raise BundleError(
            f"{where} is dense with stride {artifact.dense} and {artifact.views} views; only {able} can be dense, with "
            "a stride of at least 1 and one view"
        )
    if artifact.outputs not in task.artifact_outputs(manifest):
        names = [tensor.name for tensor in manifest.outputs]
        raise BundleError(f"{where} computes {list(artifact.outputs)}, the manifest's outputs are {names}")
    if set(artifact.tolerances) != set(artifact.outputs) or min(artifact.tolerances.values()) <= 0:
        raise BundleError(
            f"{where} has the tolerances {artifact.tolerances}, expected one above 0 for each of "
            f"{', '.join(artifact.outputs)}"
        )
