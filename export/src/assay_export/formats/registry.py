"""Every format a model leaves in: the file it is, how it is made, and the code that users run it with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, Manifest, probed
from assay_deploy.engines.onnxruntime.runtime import CUDA, import_runtime
from assay_deploy.engines.onnxruntime.session import Session
from assay_export.errors import ExportError
from assay_export.formats import aoti, exported_program, onnx_graph, torchscript
from assay_export.formats.runner import Runner, module_runner

Make = Callable[[nn.Module, Tensor, Sequence[str], Mapping[str, str], bool], bytes]
"""From a graph, pictures to trace with, the names of its outputs, where it comes from and whether it takes pictures of
other sizes too, to a file's content."""


@dataclass(frozen=True)
class Format:
    """A format, as users name it.

    Attributes:
        name: what the command line calls it.
        format: what the manifest calls it, of `assay_deploy.bundle.manifest.FORMATS`.
        device: where it runs: ``any``, ``cpu`` or ``cuda``.
        stem, suffix: of the file's name; what views and precision it has stands between them.
        reproducible: whether the same run gives the same bytes again.
        make: makes it.
        requires: what a file needs of a machine, see `assay_deploy.bundle.manifest.Artifact`.
        check: raises an ExportError where this machine cannot make it.
    """

    name: str
    format: str
    device: str
    stem: str
    suffix: str
    reproducible: bool
    make: Make
    requires: Callable[[bytes], dict[str, str]] = lambda _: {}
    check: Callable[[], None] = lambda: None

    def path(self, look: str, precision: str = "fp32") -> str:
        """The file's name."""
        return probed(self.stem, look) + f"-{precision}" * (precision != "fp32") + self.suffix


def _exported(
    graph: nn.Module, images: Tensor, outputs: Sequence[str], origin: Mapping[str, str], any_size: bool
) -> bytes:
    del outputs  # a program's outputs have an order, no names
    return exported_program.export(graph, images, origin, any_size)


def _aoti(device: str) -> Make:
    def make(
        graph: nn.Module, images: Tensor, outputs: Sequence[str], origin: Mapping[str, str], any_size: bool
    ) -> bytes:
        del outputs, origin  # a package has no place for either
        return aoti.export(graph, images, device, any_size)

    return make


def _torchscript(
    graph: nn.Module, images: Tensor, outputs: Sequence[str], origin: Mapping[str, str], any_size: bool
) -> bytes:
    del outputs, any_size  # a trace's outputs have an order, no names, and its inputs no sizes
    return torchscript.export(graph, images, origin)


FORMATS = {
    each.name: each
    for each in (
        Format("torchscript", "torchscript", "any", "model", ".torchscript", True, _torchscript),
        Format("onnx", "onnx", "any", "model", ".onnx", True, onnx_graph.export),
        Format("exported_program", "exported_program", "any", "exported", ".pt2", True, _exported),
        *(
            Format(
                name=f"aoti-{device}",
                format="aoti",
                device=device,
                stem=f"aoti-{device}",
                suffix=".pt2",
                reproducible=False,
                make=_aoti(device),
                requires=aoti.requirements,
                check=partial(aoti.check, device),
            )
            for device in aoti.DEVICES
        ),
    )
}


def has_cuda(form: str) -> bool:
    """Whether there is a GPU here, and what runs that format can use it."""
    return torch.cuda.is_available() and (form != "onnx" or CUDA in import_runtime().get_available_providers())


def devices(artifact: Artifact) -> tuple[str, ...]:
    """Where an artifact can be proven on this machine, of where it is to run."""
    here = ("cpu", "cuda") if has_cuda(artifact.format) else ("cpu",)
    return tuple(device for device in here if artifact.device in ("any", device))


def start(folder: Path, manifest: Manifest, artifact: Artifact, device: str) -> Runner:
    """The code that users run an artifact with.

    Args:
        folder: the bundle's.
        manifest: of the bundle.
        artifact: which; its hash is checked.
        device: ``cpu`` or ``cuda``; nothing falls back from there.

    Raises:
        AssayError: the file is not the one that the manifest names, or cannot run there.
    """
    if artifact.format == "onnx":
        return Session.load(folder, manifest, artifact, provider=device).run
    content = read_verified(folder, artifact)
    if artifact.format == "torchscript":
        return module_runner(torchscript.load(content, device), artifact.outputs, device)
    if artifact.format == "exported_program":
        return module_runner(exported_program.load(content, device), artifact.outputs, device)
    if artifact.format == "aoti":
        return module_runner(aoti.load(content, device), artifact.outputs, device)
    raise ExportError(f"{artifact.path}: there is no way to run {artifact.format}")
