"""The types and words of a bundle's manifest; `assay_deploy.bundle.rules` holds the rules that they must obey."""

from dataclasses import dataclass, field

from assay_deploy.bundle.strict_json import OPTIONAL
from assay_deploy.errors import BundleError
from assay_deploy.images.canvas import Canvas, View

MANIFEST_VERSION = 3

FORMATS = ("onnx", "torchscript", "exported_program", "aoti")
PRECISIONS = ("fp32", "fp16", "int8")
DEVICES = ("any", "cpu", "cuda")

CLASSIFICATION, DETECTION = "classification", "detection"

IMAGES = "images"
"""Name of the probe's images."""

SCORES_OF_CLASSES = ("logits", "probabilities")
"""The outputs of classifiers: of the plain view, and averaged over all views."""

BOXES = ("boxes", "scores", "labels")
"""The outputs of detectors."""

PLAIN, TTA, DENSE = "plain", "tta", "dense"
"""The ways a graph looks at images: through the first view, through all, or sliding over larger images."""


@dataclass(frozen=True)
class Source:
    """Where the model comes from.

    Attributes:
        run: name of the run, ``<experiment>/<time>``; never a path of the machine that trained it.
        checkpoint: which checkpoint of the run, ``best`` or ``last``.
        commit: git commit of the code that trained it, with ``+dirty`` where the tree had changes; "" if unknown.
        config_sha256: of the run's ``config.yaml``.
        weights_sha256: of the checkpoint file.
        data_sha256: fingerprint of the data set it was trained on: images, labels and splits.
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
    """One exported model: a file, and those it needs beside it.

    Attributes:
        format: one of `FORMATS`.
        precision: one of `PRECISIONS`: what it computes in; its inputs and outputs are the same in all of them.
        device: where it runs, and where its verdict was reached: ``any``, ``cpu`` or ``cuda``.
        views: how many of the manifest's views the graph runs: the first, or all of them, averaged or fused.
        dense: None where the graph takes the canvas; else it slides over larger images, both sides at least so many
            pixels longer than the canvas', with an answer every so many pixels, and averages them.
        outputs: names of the tensors it computes, in order.
        tolerances: of each output, the largest difference from the probe's that counts as the same model; see
            `assay_deploy.tasks.task.Task.differences`.
        reproducible: whether exporting the same run again, with the same toolchain, gives the same bytes.
        requires: what machine code needs of the machine that runs it, see `assay_export.formats.aoti.requirements`;
            empty for all other formats.
        path: file, relative to the bundle.
        sha256: of the file's bytes, hex.
        beside: files that the main one needs, weights too large for it for example; the manifest has no such key
            where there are none.
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
    beside: tuple[File, ...] = field(default=(), metadata=OPTIONAL)

    @property
    def look(self) -> str:
        """How it looks at images: `PLAIN`, `TTA` or `DENSE`."""
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
        metric: ``top1`` (fraction of images whose highest score is their class) or ``map`` (COCO's mean average
            precision at IoU 0.50 to 0.95), with ``_tta`` behind it over all views.
        value: the eager model's score.
        n: number of images.
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
        task: name of one of `assay_deploy.tasks.registry.TASKS`.
        source: where the model comes from.
        toolchain: package name -> version that made the artifacts.
        artifacts: the exported model files.
        probe: ``.npz`` with images and what the eager model makes of them, named as `Artifact.probed` says.
        parity: ``parity.json``, the gate's verdict.
        report: ``parity.html``, the same for people.
        sbom: ``sbom.spdx.json``, the packages that made the artifacts, in SPDX 2.3.
        inputs: of every artifact; one that is `Artifact.dense` takes other heights and widths too.
        outputs: of the artifacts; each computes those it names.
        preprocess: the canvas an image is put on before it enters the graph.
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
        beside = dict.fromkeys(file for artifact in self.artifacts for file in artifact.beside)  # some share them
        return (*self.artifacts, *beside, self.probe, self.parity, self.report, self.sbom)

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
    """Name of the probe's array for an input or output of a graph that looks at images that way."""
    same = look == PLAIN or (look == TTA and tensor == IMAGES)
    return tensor if same else f"{tensor}_{look}"
