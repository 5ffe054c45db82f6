"""A bundle is a folder whose manifest names, hashes and explains every file; this module reads and checks it."""

import hashlib
import json
import math
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path, PurePosixPath
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from assay_deploy.canvas import Canvas, View
from assay_deploy.errors import BundleError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
FORMATS = ("onnx", "torchscript")

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where the model comes from.

    Attributes:
        run: name of the run, ``<experiment>/<time>``; never a path of the machine that trained it.
        checkpoint: which checkpoint of the run, ``best`` or ``last``.
        commit: git commit of the code that trained it, with ``+dirty`` where the tree had changes; "" if unknown.
        config_sha256: of the run's ``config.yaml``.
        weights_sha256: of the checkpoint file.
    """

    run: str
    checkpoint: str
    commit: str
    config_sha256: str
    weights_sha256: str


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph.

    Attributes:
        name: the tensor's name in every artifact.
        dtype: ``uint8``, ``float32`` or ``int64``.
        shape: sizes in order; a name (``batch``) stands for a dynamic one.
        meaning: what the numbers are, in one sentence.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


@dataclass(frozen=True)
class File:
    """A file of the bundle: ``path`` relative to the bundle, POSIX style, and the ``sha256`` of its bytes, hex."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """One exported model file.

    Attributes:
        format: one of `FORMATS`.
        precision: ``fp32``.
        views: how many of the manifest's views the graph runs: 1 gives ``logits`` of the first view, more give
            ``probabilities`` averaged over all of them.
        output: name of the tensor it computes.
        tolerance: largest absolute difference from the probe's outputs that counts as the same model.
        path: file, relative to the bundle.
        sha256: of the file's bytes, hex.
    """

    format: str
    precision: str
    views: int
    output: str
    tolerance: float
    path: str
    sha256: str


@dataclass(frozen=True)
class Expected:
    """What the model scored when it was exported.

    Attributes:
        dataset: name of the data set and split, ``cifar10-jpeg/test``.
        metric: ``top1`` (fraction of pictures whose highest score is their class) or ``top1_tta``.
        value: the eager model's score.
        n: number of pictures.
        tolerance: how far an artifact may be from `value`.
    """

    dataset: str
    metric: str
    value: float
    n: int
    tolerance: float


@dataclass(frozen=True)
class Manifest:
    """Everything a client has to know of a bundle, as ``manifest.json`` holds it.

    Attributes:
        version: of this format; `MANIFEST_VERSION`.
        name: of the bundle.
        task: ``classification``.
        source: where the model comes from.
        toolchain: package name -> version that made the artifacts.
        artifacts: the exported model files.
        probe: ``.npz`` with ``images`` and the eager outputs of the same names as `outputs`.
        parity: ``parity.json``, the gate's verdict.
        inputs: of every artifact.
        outputs: of the artifacts; each computes the one it names.
        preprocess: the canvas a picture is put on before it enters the graph.
        labels: class names, in the order of the outputs' last axis.
        views: what the graphs look at; the first is the plain one.
        expected: scores to be reached again.
    """

    version: int
    name: str
    task: str
    source: Source
    toolchain: dict[str, str]
    artifacts: tuple[Artifact, ...]
    probe: File
    parity: File
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    preprocess: Canvas
    labels: tuple[str, ...]
    views: tuple[View, ...]
    expected: tuple[Expected, ...]

    def artifact(self, format: str, *, tta: bool = False) -> Artifact:  # noqa: A002 - the field's own name
        """The artifact of that format that runs the plain view or, with `tta`, all views.

        Raises:
            BundleError: the bundle has none.
        """
        for artifact in self.artifacts:
            if artifact.format == format and (artifact.views > 1) == tta:
                return artifact
        have = ", ".join(f"{a.path} ({a.format}, {a.views} view{'s' * (a.views > 1)})" for a in self.artifacts)
        wanted = f"{format} graph with test-time augmentation" if tta else f"plain {format} graph"
        raise BundleError(f"bundle '{self.name}' has no {wanted}; it has {have}")


def sha256(content: bytes) -> str:
    """Hex digest of these bytes."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read and check a bundle's manifest.

    Args:
        bundle: the bundle's folder.

    Raises:
        BundleError: no such folder, no manifest, not JSON, an unknown version or key, a wrong type, or a path
            that leaves the bundle.
    """
    path = bundle / MANIFEST
    try:
        if not bundle.is_dir():
            raise BundleError(f"no bundle at '{bundle}': expected a folder that holds {MANIFEST}")
        if not path.is_file():
            raise BundleError(f"'{bundle}' is no bundle: it has no {MANIFEST}. `assay-export` makes one from a run")
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, which no manifest is")
        document = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not valid JSON ({error})") from error
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version != MANIFEST_VERSION:
        raise BundleError(
            f"{path}: manifest version {version!r}, but this assay-deploy reads version {MANIFEST_VERSION}. "
            "Export the run again, or install the assay-deploy that matches"
        )
    try:
        manifest = _parse(Manifest, document, "manifest")
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    _check(manifest, path)
    return manifest


def write_manifest(manifest: Manifest, bundle: Path) -> None:
    """Write ``manifest.json`` into the bundle's folder."""
    text = json.dumps(asdict(manifest), indent=2, allow_nan=False) + "\n"
    (bundle / MANIFEST).write_text(text, encoding="utf-8")


def read_verified(bundle: Path, entry: File | Artifact) -> bytes:
    """Bytes of a file of the bundle, once its hash is found to be the manifest's.

    The bytes that were hashed are the bytes returned, so nothing can change between the check and the use.

    Raises:
        BundleError: the file is missing or not the one the manifest describes.
    """
    path = bundle / entry.path
    try:
        # not Path.resolve, which raises RuntimeError for a circle of links before Python 3.13
        real = Path(os.path.realpath(path, strict=True))
        if not real.is_relative_to(os.path.realpath(bundle, strict=True)):
            raise BundleError(f"{path}: leads out of the bundle; refused")
        if not real.is_file():
            raise BundleError(f"{path}: the manifest names it, but it is not a file")
        content = real.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: the manifest names it, but it cannot be read ({error.strerror})") from error
    found = sha256(content)
    if found != entry.sha256:
        raise BundleError(
            f"{path}: not the file that was proven: its sha256 is {found[:12]}..., the manifest says "
            f"{entry.sha256[:12]}.... Fetch or export the bundle again"
        )
    return content


def _check(manifest: Manifest, path: Path) -> None:
    """Refuse what is well-formed but cannot be a bundle."""
    if manifest.task != "classification":
        raise BundleError(f"{path}: unknown task {manifest.task!r}; known is 'classification'")
    if not manifest.artifacts or not manifest.labels or len(manifest.inputs) != 1:
        raise BundleError(f"{path}: a bundle needs at least one artifact, at least one label and exactly one input")
    canvas = ("batch", manifest.preprocess.height, manifest.preprocess.width, 3)
    scores = ("batch", len(manifest.labels))
    for tensor, dtype, shape in (
        (manifest.inputs[0], "uint8", canvas),
        *((output, "float32", scores) for output in manifest.outputs),
    ):
        if (tensor.dtype, tensor.shape) != (dtype, shape):
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise BundleError(f"{path}: tensor {tensor.name!r} must be {dtype} {list(shape)}, not {found}")
    entries: tuple[File | Artifact, ...] = (*manifest.artifacts, manifest.probe, manifest.parity)
    for entry in entries:
        pure = PurePosixPath(entry.path)
        plain = not set(entry.path) & set("\\:")
        if not pure.parts or pure.is_absolute() or ".." in pure.parts or not plain:
            raise BundleError(f"{path}: {entry.path!r} is not a plain path inside the bundle")
        if len(entry.sha256) != 64 or not set(entry.sha256) <= set("0123456789abcdef"):
            raise BundleError(f"{path}: sha256 of {entry.path!r} is not 64 hex digits")
    for artifact in manifest.artifacts:
        _check_artifact(artifact, manifest, path)


def _check_artifact(artifact: Artifact, manifest: Manifest, path: Path) -> None:
    outputs = [tensor.name for tensor in manifest.outputs]
    where = f"{path}: {artifact.path}"
    if artifact.format not in FORMATS:
        raise BundleError(f"{where} has the unknown format {artifact.format!r}; known are {', '.join(FORMATS)}")
    if not 1 <= artifact.views <= len(manifest.views):
        raise BundleError(f"{where} runs {artifact.views} views, but the manifest lists {len(manifest.views)}")
    if artifact.output not in outputs:
        raise BundleError(f"{where} computes {artifact.output!r}, which is not among the outputs {outputs}")
    if artifact.tolerance <= 0:
        raise BundleError(f"{where} has the tolerance {artifact.tolerance}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the document; of two keys with one name another reader might take the other."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(name for name, _ in pairs)}")
    return document


def _parse(cls: type[T], value: Any, where: str) -> T:
    """Build the dataclass `cls` from decoded JSON, refusing every key, type and value it does not describe."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected an object, got {_kind(value)}")
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    unknown = sorted(set(value) - set(names))
    missing = [name for name in names if name not in value]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(names)}")
    if missing:
        raise ValueError(f"{where}: {missing[0]!r} is missing")
    return cls(**{name: _convert(hints[name], value[name], f"{where}.{name}") for name in names})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _parse(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, got {_kind(value)}")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, got {_kind(value)}")
        return {key: _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    choices = args if origin in (Union, UnionType) else (hint,)
    if float in choices and type(value) is int and abs(value) <= 1 << 53:
        return float(value)
    if type(value) not in choices:  # exact, for True is an int
        expected = " or ".join("null" if choice is type(None) else choice.__name__ for choice in choices)
        raise ValueError(f"{where}: expected {expected}, got {_kind(value)}")
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"{where}: expected a number, got {value}")
    if type(value) is str and not value.isprintable() and {"Cc", "Cs"} & set(map(unicodedata.category, value)):
        raise ValueError(f"{where}: {value!r} holds a control character or half a surrogate pair")
    return value


def _kind(value: Any) -> str:
    text = json.dumps(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
