"""What a bundle's manifest says: its words, its types, and what makes one impossible."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from assay_deploy.errors import BundleError
from assay_deploy.pictures.canvas import Canvas, View

MANIFEST_VERSION = 3

FORMATS = ("onnx", "torchscript", "exported_program", "aoti")
PRECISIONS = ("fp32", "fp16", "int8")
DEVICES = ("any", "cpu", "cuda")

CLASSIFICATION, DETECTION = "classification", "detection"

PICTURES = "images"
"""Name of the probe's pictures."""

SCORES_OF_CLASSES = ("logits", "probabilities")
"""The outputs of classifiers: of the plain view, and averaged over all views."""

BOXES = ("boxes", "scores", "labels")
"""The outputs of detectors."""

PLAIN, TTA, DENSE = "plain", "tta", "dense"
"""The ways a graph looks at pictures: through the first view, through all, or sliding over larger pictures."""


@dataclass(frozen=True)
class Source:
    """Where the model comes from.

    Attributes:
        run: name of the run, ``<experiment>/<time>``; never a path of the machine that trained it.
        checkpoint: which checkpoint of the run, ``best`` or ``last``.
        commit: git commit of the code that trained it, with ``+dirty`` where the tree had changes; "" if unknown.
        config_sha256: of the run's ``config.yaml``.
        weights_sha256: of the checkpoint file.
        data_sha256: fingerprint of the data set it was trained on: pictures, labels and splits.
    """

    run: str
    checkpoint: str
    commit: str
    config_sha256: str
    weights_sha256: str
    data_sha256: str


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
        precision: one of `PRECISIONS`: what it computes in; its inputs and outputs are the same in all of them.
        device: where it runs, and where its verdict was reached: ``any``, ``cpu`` or ``cuda``.
        views: how many of the manifest's views the graph runs: the first, or all of them, averaged or fused.
        dense: None where the graph takes the canvas; else it slides over larger pictures, both sides at least so many
            pixels longer than the canvas', with an answer every so many pixels, and averages them.
        outputs: names of the tensors it computes, in order.
        tolerances: of each output, the largest difference from the probe's that counts as the same model; see
            `assay_deploy.bundle.difference.differences`.
        reproducible: whether exporting the same run again, with the same toolchain, gives the same bytes.
        requires: what machine code needs of the machine that runs it, see `assay_export.formats.aoti.requirements`;
            empty for all other formats.
        path: file, relative to the bundle.
        sha256: of the file's bytes, hex.
    """

    format: str
    precision: str
    device: str
    views: int
    dense: int | None
    outputs: tuple[str, ...]
    tolerances: dict[str, float]
    reproducible: bool
    requires: dict[str, str]
    path: str
    sha256: str

    @property
    def look(self) -> str:
        """How it looks at pictures: `PLAIN`, `TTA` or `DENSE`."""
        if self.dense is not None:
            return DENSE
        return PLAIN if self.views == 1 else TTA

    def probed(self, tensor: str) -> str:
        """Name of the array of the probe that is this input, ``images``, or that this output has to equal."""
        return probed(tensor, self.look)


@dataclass(frozen=True)
class Expected:
    """What the model scored when it was exported.

    Attributes:
        dataset: name of the data set and split, ``cifar10-jpeg/test``.
        metric: ``top1`` (fraction of pictures whose highest score is their class) or ``map`` (COCO's mean average
            precision at IoU 0.50 to 0.95), with ``_tta`` behind it over all views.
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
        task: ``classification`` or ``detection``.
        source: where the model comes from.
        toolchain: package name -> version that made the artifacts.
        artifacts: the exported model files.
        probe: ``.npz`` with pictures and what the eager model makes of them, named as `Artifact.probed` says.
        parity: ``parity.json``, the gate's verdict.
        report: ``parity.html``, the same for people.
        sbom: ``sbom.spdx.json``, the packages that made the artifacts, in SPDX 2.3.
        inputs: of every artifact; one that is `Artifact.dense` takes other heights and widths too.
        outputs: of the artifacts; each computes those it names.
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
    report: File
    sbom: File
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    preprocess: Canvas
    labels: tuple[str, ...]
    views: tuple[View, ...]
    expected: tuple[Expected, ...]

    @property
    def files(self) -> "tuple[Artifact | File, ...]":
        """Every file of the bundle but the manifest and its checksum."""
        return (*self.artifacts, self.probe, self.parity, self.report, self.sbom)

    def artifact(
        self,
        format: str,  # noqa: A002 - the field's own name
        *,
        tta: bool = False,
        precision: str = "fp32",
    ) -> Artifact:
        """The artifact of that format and precision that runs the plain view or, with `tta`, all views of the canvas.

        Raises:
            BundleError: the bundle has none.
        """
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision, artifact.look) == (format, precision, TTA if tta else PLAIN):
                return artifact
        have = ", ".join(f"{each.path} ({each.format}, {each.precision}, {each.look})" for each in self.artifacts)
        wanted = (
            f"{precision} {format} graph with test-time augmentation" if tta else f"plain {precision} {format} graph"
        )
        raise BundleError(f"bundle '{self.name}' has no {wanted}; it has {have}")


def probed(tensor: str, look: str) -> str:
    """Name of the probe's array for an input or output of a graph that looks at pictures that way."""
    same = look == PLAIN or (look == TTA and tensor == PICTURES)
    return tensor if same else f"{tensor}_{look}"


def check(manifest: Manifest, path: Path) -> None:
    """Refuse what is well-formed but cannot be a bundle.

    Args:
        manifest: as it was read.
        path: of its file, for what is said.

    Raises:
        BundleError: it cannot be.
    """
    if manifest.task not in (CLASSIFICATION, DETECTION):
        raise BundleError(f"{path}: unknown task {manifest.task!r}; known are {CLASSIFICATION} and {DETECTION}")
    if not manifest.artifacts or not manifest.labels or not manifest.views or len(manifest.inputs) != 1:
        raise BundleError(
            f"{path}: a bundle needs at least one artifact, at least one label, at least one view and exactly one input"
        )
    canvas = ("batch", manifest.preprocess.height, manifest.preprocess.width, 3)
    for tensor, dtype, shape in ((manifest.inputs[0], "uint8", canvas), *_outputs(manifest, path)):
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


def _outputs(manifest: Manifest, path: Path) -> list[tuple[Tensor, str, tuple[int | str, ...]]]:
    """Each output with the type and shape that its task demands."""
    names = tuple(tensor.name for tensor in manifest.outputs)
    if manifest.task == CLASSIFICATION:
        if not names or not set(names) <= set(SCORES_OF_CLASSES) or len(set(names)) < len(names):
            raise BundleError(f"{path}: outputs {list(names)}, expected of {', '.join(SCORES_OF_CLASSES)}")
        return [(tensor, "float32", ("batch", len(manifest.labels))) for tensor in manifest.outputs]
    if names != BOXES:
        raise BundleError(f"{path}: outputs {list(names)}, expected {', '.join(BOXES)}")
    boxes, scores, labels = manifest.outputs
    places = scores.shape[1] if len(scores.shape) == 2 and isinstance(scores.shape[1], int) else 1
    return [
        (boxes, "float32", ("batch", places, 4)),
        (scores, "float32", ("batch", places)),
        (labels, "int64", ("batch", places)),
    ]


def _check_artifact(artifact: Artifact, manifest: Manifest, path: Path) -> None:
    names = [tensor.name for tensor in manifest.outputs]
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
    if artifact.dense is not None and (artifact.views != 1 or artifact.dense < 1 or manifest.task != CLASSIFICATION):
        raise BundleError(
            f"{where} is dense, every {artifact.dense} pixels, which only a classifier's plain graph can be"
        )
    known_outputs = [(name,) for name in names] if manifest.task == CLASSIFICATION else [BOXES]
    if artifact.outputs not in known_outputs:
        raise BundleError(f"{where} computes {list(artifact.outputs)}, the manifest's outputs are {names}")
    if set(artifact.tolerances) != set(artifact.outputs) or min(artifact.tolerances.values()) <= 0:
        raise BundleError(
            f"{where} has the tolerances {artifact.tolerances}, expected one above 0 for each of "
            f"{', '.join(artifact.outputs)}"
        )
