"""Every format a model leaves in: the files it is, how they are made, and the code that users run them with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, Manifest, probed
from assay_deploy.engines.registry import ENGINES
from assay_export.errors import ExportError
from assay_export.formats import aoti, exported_program, onnx_graph, torchscript
from assay_export.formats.places import Place
from assay_export.formats.runner import Runner, module_runner


@dataclass(frozen=True)
class Made:
    """A graph as files.

    Attributes:
        content: of the file that is loaded.
        beside: what it needs beside it, as external weights: content by what is added to the file's name.
    """

    content: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """What a graph is made from.

    Attributes:
        images: to trace with, uint8 ``[batch, height, width, 3]``.
        outputs: names of its outputs, in order.
        source: where the model comes from, by name; written into files that have a place for it.
        any_size: whether the graph takes pictures of other sizes too.
    """

    images: Tensor
    outputs: Sequence[str]
    source: Mapping[str, str]
    any_size: bool


Start = Callable[[Path, Manifest, Artifact, Place], Runner]
"""From a bundle's folder, its manifest, an artifact and a place to the code that users run it with."""


@dataclass(frozen=True)
class Format:
    """A format, as users name it.

    Attributes:
        name: what the command line calls it.
        format: what the manifest calls it, of `assay_deploy.bundle.manifest.FORMATS`.
        device: where it runs: ``any``, ``cpu`` or ``cuda``.
        stem, suffix: of the file's name; what views and precision it has stands between them.
        reproducible: whether the same run gives the same bytes again.
        make: makes its files of a graph.
        start: starts them, see `Start`; nothing falls back from the place, and hashes are checked first.
        requires: what a file needs of a machine, see `assay_deploy.bundle.manifest.Artifact`.
        check: raises an ExportError where this machine cannot make it.
    """

    name: str
    format: str
    device: str
    stem: str
    suffix: str
    reproducible: bool
    make: Callable[[nn.Module, Origin], Made]
    start: Start
    requires: Callable[[bytes], dict[str, str]] = lambda _: {}
    check: Callable[[], None] = lambda: None

    def path(self, look: str, precision: str = "fp32") -> str:
        """The file's name."""
        return probed(self.stem, look) + f"-{precision}" * (precision != "fp32") + self.suffix


def _in_torch(load: Callable[[bytes, str], Callable[..., Any]]) -> Start:
    """Start a file that torch loads as one module."""

    def start(folder: Path, manifest: Manifest, artifact: Artifact, place: Place) -> Runner:
        del manifest
        return module_runner(load(read_verified(folder, artifact), place.device), artifact.outputs, place.device)

    return start


def _in_engine(folder: Path, manifest: Manifest, artifact: Artifact, place: Place) -> Runner:
    return ENGINES[place.engine].load(folder, manifest, artifact, provider=place.device).run


def _aoti(device: str) -> Format:
    return Format(
        name=f"aoti-{device}",
        format="aoti",
        device=device,
        stem=f"aoti-{device}",
        suffix=".pt2",
        reproducible=False,
        make=lambda graph, of: Made(aoti.export(graph, of.images, device, of.any_size)),
        start=_in_torch(aoti.load),
        requires=aoti.requirements,
        check=partial(aoti.check, device),
    )


FORMATS = {
    each.name: each
    for each in (
        Format(
            name="torchscript",
            format="torchscript",
            device="any",
            stem="model",
            suffix=".torchscript",
            reproducible=True,
            make=lambda graph, of: Made(torchscript.export(graph, of.images, of.source)),
            start=_in_torch(torchscript.load),
        ),
        Format(
            name="onnx",
            format="onnx",
            device="any",
            stem="model",
            suffix=".onnx",
            reproducible=True,
            make=lambda graph, of: Made(onnx_graph.export(graph, of.images, of.outputs, of.source, of.any_size)),
            start=_in_engine,
        ),
        Format(
            name="exported_program",
            format="exported_program",
            device="any",
            stem="exported",
            suffix=".pt2",
            reproducible=True,
            make=lambda graph, of: Made(exported_program.export(graph, of.images, of.source, of.any_size)),
            start=_in_torch(exported_program.load),
        ),
        *map(_aoti, aoti.DEVICES),
    )
}


def start(folder: Path, manifest: Manifest, artifact: Artifact, place: Place) -> Runner:
    """The code that users run an artifact with.

    Args:
        folder: the bundle's.
        manifest: of the bundle.
        artifact: which; the hashes of its files are checked.
        place: engine and device; nothing falls back from there.

    Raises:
        AssayError: a file is not the one that the manifest names, or cannot run there.
    """
    form = next((each for each in FORMATS.values() if each.format == artifact.format), None)
    if form is None:
        raise ExportError(f"{artifact.path}: there is no way to run {artifact.format}")
    for file in artifact.beside:
        read_verified(folder, file)
    return form.start(folder, manifest, artifact, place)
