"""What a format is: the files it makes of a graph, and the code that users run them with."""

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
    """A graph that is to leave.

    Attributes:
        graph: in eval mode.
        images: uint8 ``[batch, height, width, 3]`` to trace with, at least two images.
        outputs: names of the tensors it computes, in order.
        origin: where the model comes from.
        any_size: whether it takes images of other sizes too.
        path: the main file's name; names of files beside it begin with it, so that no two artifacts share one.
    """

    graph: nn.Module
    images: Tensor
    outputs: Sequence[str]
    origin: Mapping[str, str]
    any_size: bool
    path: str


@dataclass(frozen=True)
class Made:
    """An artifact's files: the main one's `content`, and by name those `beside` it that it needs."""

    content: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Verified:
    """An artifact whose every file is the one that the manifest names.

    Attributes:
        folder: the bundle's.
        manifest: of the bundle.
        artifact: which of it.
        files: the bytes that were hashed.
    """

    folder: Path
    manifest: Manifest
    artifact: Artifact
    files: Made


@dataclass(frozen=True)
class Format:
    """A format, as users name it.

    Attributes:
        name: what the command line calls it.
        format: what the manifest calls it, of `assay_deploy.bundle.manifest.FORMATS`; those of one such name differ in
            where they run, and are started in one way.
        device: where it runs: ``any``, ``cpu`` or ``cuda``.
        stem, suffix: of the main file's name; what views and precision it has stands between them.
        reproducible: whether the same run gives the same bytes again.
        make: makes its files.
        start: an artifact in a place, from which nothing falls back; raises an AssayError where it cannot run there.
        engines: those that run an artifact here, the default one first.
        has_cuda: whether there is a GPU here that its default engine can use.
        requires: what a main file needs of a machine, see `assay_deploy.bundle.manifest.Artifact`.
        check: raises an ExportError where this machine cannot make it.
    """

    name: str
    format: str
    device: str
    stem: str
    suffix: str
    reproducible: bool
    make: Callable[[Request], Made]
    start: Callable[[Verified, Place], Runner]
    engines: Callable[[Artifact], Sequence[str]]
    has_cuda: Callable[[], bool]
    requires: Callable[[bytes], dict[str, str]] = lambda _: {}
    check: Callable[[], None] = lambda: None

    def path(self, look: str, precision: str = "fp32") -> str:
        """The main file's name."""
        return variant_name(self.stem, look) + f"-{precision}" * (precision != "fp32") + self.suffix


def run_by_torch(load: Callable[[bytes, str], Callable[..., Any]]) -> Callable[[Verified, Place], Runner]:
    """The `Format.start` of a format of one file that torch loads onto a device."""

    def start(verified: Verified, place: Place) -> Runner:
        return module_runner(load(verified.files.content, place.device), verified.artifact.outputs, place.device)

    return start


def torch_alone(artifact: Artifact) -> tuple[str]:
    """The `Format.engines` of a format that torch runs."""
    del artifact
    return (TORCH,)
