"""Data types and constants of a bundle's manifest; see `assay_deploy.bundle.rules` for its validation."""

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
"""Name of the array of the probe file that contains the images."""

CLASSIFIER_OUTPUTS = ("logits", "probabilities")
"""Output names of classifiers: logits of the plain view, and probabilities averaged over all views."""

BOXES = ("boxes", "scores", "labels")
"""Output names of detectors."""

PLAIN, TTA, DENSE = "plain", "tta", "dense"
"""Variants of a graph: the first view, all views (test-time augmentation), or sliding over larger images."""


@dataclass(frozen=True)
class Source:
    """Origin of the model: run, checkpoint, code and data.

    Attributes:
        run: name of the run, ``<experiment>/<time>``; never a path of the training machine.
        checkpoint: checkpoint of the run, ``best`` or ``last``.
        commit: git commit of the training code, with ``+dirty`` if the tree had changes; "" if unknown.
        config_sha256: SHA-256 of the run's ``config.yaml``, hex.
        weights_sha256: SHA-256 of the checkpoint file, hex.
        data_sha256: fingerprint of the training data set: images, labels and splits.
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
        shape: sizes of the axes; a name (``batch``) stands for a dynamic size.
        meaning: description of the numbers in one sentence.
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
    """One exported graph: its main file, and further files that it needs.

    Attributes:
        format: one of `FORMATS`.
        precision: one of `PRECISIONS`: numeric precision of the computation; inputs and outputs have the same dtypes in
            all precisions.
        device: device on which the graph was proven and may run: ``any``, ``cpu`` or ``cuda``.
        views: number of the manifest's views that the graph runs: 1 (the first), or all, averaged or fused.
        dense: stride in pixels of a dense graph, which slides over images whose sides are at least that much longer
            than the canvas' and averages the outputs; None if the graph takes images of the canvas' size.
        outputs: names of the tensors that the graph computes, in order.
        tolerances: largest allowed difference from the expected output on the probe, by output name; see
            `assay_deploy.tasks.task.Task.differences`.
        reproducible: whether exporting the same run again with the same toolchain gives the same bytes.
        requires: requirements of compiled code on the machine that runs it, see
            `assay_export.formats.aoti.requirements`; empty for other formats.
        path: path of the main file, relative to the bundle.
        sha256: SHA-256 of the main file, hex.
        beside: further files that the main one needs, such as weights too large for it; the manifest omits this key if
            there are none.
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
    def variant(self) -> str:
        """Variant of the graph: `PLAIN`, `TTA` or `DENSE`."""
        if self.dense is not None:
            return DENSE
        return PLAIN if self.views == 1 else TTA

    def probe_name(self, tensor: str) -> str:
        """Name of the array of the probe file for an input (``images``), or with the expected values of an output."""
        return variant_name(tensor, self.variant)


@dataclass(frozen=True)
class Expected:
    """Score of the eager model at export, which the artifacts have to reproduce.

    Attributes:
        dataset: name of the data set and split, ``cifar10-jpeg/test``.
        metric: ``top1`` (fraction of images whose highest score is their class) or ``map`` (COCO's mean average
            precision at IoU 0.50 to 0.95); with the suffix ``_tta`` if computed over all views.
        value: the eager model's score.
        n: number of images.
        tolerance: largest allowed difference of an artifact's score from `value`.
    """

    dataset: str
    metric: str
    value: float
    n: int
    tolerance: float


@dataclass(frozen=True)
class Manifest:
    """Description of a bundle: the content of ``manifest.json``.

    Attributes:
        version: version of the manifest format, `MANIFEST_VERSION`.
        name: name of the bundle.
        task: name of the task, a key of `assay_deploy.tasks.registry.TASKS`.
        source: origin of the model.
        toolchain: versions of the packages that made the artifacts, by package name.
        artifacts: the exported model files.
        probe: ``.npz`` file with images and the eager model's outputs for them, named by `Artifact.probe_name`.
        parity: ``parity.json``, the result of the export gate.
        report: ``parity.html``, the same result as a page.
        sbom: ``sbom.spdx.json``, the packages that made the artifacts, in SPDX 2.3.
        inputs: input tensors of every artifact; a dense artifact takes larger heights and widths too.
        outputs: output tensors; each artifact computes those listed in its `Artifact.outputs`.
        preprocess: canvas on which an image is placed before it enters the graph.
        labels: class names, in the order of the class indices.
        views: views of the canvas that the graphs evaluate; the first is the plain one.
        expected: scores that the artifacts have to reproduce.
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
        """All files of the bundle except the manifest and its checksum."""
        # artifacts may share files
        external_data = dict.fromkeys(file for artifact in self.artifacts for file in artifact.beside)
        return (*self.artifacts, *external_data, self.probe, self.parity, self.report, self.sbom)

    def artifact(
        self,
        format: str,  # noqa: A002 - the name of the field
        *,
        tta: bool = False,
        precision: str = "fp32",
    ) -> Artifact:
        """Return the plain artifact or, with `tta`, the artifact with all views, of a format and precision.

        Raises:
            BundleError: the bundle has no such artifact.
        """
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision, artifact.variant) == (format, precision, TTA if tta else PLAIN):
                return artifact
        have = ", ".join(f"{each.path} ({each.format}, {each.precision}, {each.variant})" for each in self.artifacts)
        wanted = (
            f"{precision} {format} graph with test-time augmentation" if tta else f"plain {precision} {format} graph"
        )
        raise BundleError(f"bundle '{self.name}' has no {wanted}; it has {have}")


def variant_name(name: str, variant: str) -> str:
    """Name for a variant of a graph: unchanged for `PLAIN`, else with the variant as suffix (``logits_dense``).

    The images of `TTA` are those of `PLAIN`, so `IMAGES` is unchanged for both.
    """
    same = variant == PLAIN or (variant == TTA and name == IMAGES)
    return name if same else f"{name}_{variant}"
