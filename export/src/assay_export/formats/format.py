"""Data types of an export format: how it writes a graph to files, and how it runs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from assay_deploy.bundle.manifest import Artifact, Manifest, variant_name
from assay_export.formats.places import TORCH, Place
from assay_export.formats.runner import Runner, module_runner


@dataclass(frozen=True)
class Request:
    """Request to export a graph.

    Attributes:
        graph: module in eval mode.
        images: example images for tracing, uint8 ``[batch, height, width, 3]``, at least two.
        outputs: names of the graph's outputs, in order.
        origin: origin of the model, stored in the file as metadata.
        any_size: whether the graph takes images of other sizes too.
        path: name of the main file; names of external data files begin with it, so that no two artifacts share one.
    """

    graph: nn.Module
    images: Tensor
    outputs: Sequence[str]
    origin: Mapping[str, str]
    any_size: bool
    path: str


@dataclass(frozen=True)
class ArtifactFiles:
    """Contents of an artifact's files: the main file's `content`, and its external data files by name."""

    content: bytes
    external_data: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class VerifiedArtifact:
    """An artifact whose files were read and have the hashes in the manifest.

    Attributes:
        folder: the bundle's folder.
        manifest: the bundle's manifest.
        artifact: the artifact's entry in the manifest.
        files: the verified contents of its files.
    """

    folder: Path
    manifest: Manifest
    artifact: Artifact
    files: ArtifactFiles


@dataclass(frozen=True)
class Format:
    """A format in which graphs are exported.

    Attributes:
        name: name on the command line.
        format: name in the manifest, of `assay_deploy.bundle.manifest.FORMATS`; formats that share it differ only in
            their device, and have the same `start`.
        device: device that artifacts run on: ``any``, ``cpu`` or ``cuda``.
        stem, suffix: start and end of the main file's name; variant and precision are between them.
        reproducible: whether the same run always gives the same bytes.
        make: function that exports a graph and returns the contents of its files.
        start: function that loads an artifact in a place, without falling back to another; raises AssayError if the
            artifact cannot run there.
        engines: function that returns the engines on this machine that run an artifact, the default one first.
        has_cuda: function that returns whether the default engine can use a GPU on this machine.
        requires: function from the main file's content to its requirements on the machine, see
            `assay_deploy.bundle.manifest.Artifact`.
        check: function that raises ExportError if this machine cannot make the format.
    """

    name: str
    format: str
    device: str
    stem: str
    suffix: str
    reproducible: bool
    make: Callable[[Request], ArtifactFiles]
    start: Callable[[VerifiedArtifact, Place], Runner]
    engines: Callable[[Artifact], Sequence[str]]
    has_cuda: Callable[[], bool]
    requires: Callable[[bytes], dict[str, str]] = lambda _: {}
    check: Callable[[], None] = lambda: None

    def path(self, variant: str, precision: str = "fp32") -> str:
        """Return the name of the main file for a variant and precision."""
        return variant_name(self.stem, variant) + f"-{precision}" * (precision != "fp32") + self.suffix


def run_by_torch(load: Callable[[bytes, str], Callable[..., Any]]) -> Callable[[VerifiedArtifact, Place], Runner]:
    """Return `Format.start` for a format with one file, from the function that loads it onto a device."""

    def start(verified: VerifiedArtifact, place: Place) -> Runner:
        return module_runner(load(verified.files.content, place.device), verified.artifact.outputs, place.device)

    return start


def torch_only(artifact: Artifact) -> tuple[str]:
    """Return the engines of a format that only torch runs; for `Format.engines`."""
    del artifact
    return (TORCH,)
