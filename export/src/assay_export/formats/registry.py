"""Every format a model leaves in: a new one is its file and a line here."""

from collections.abc import Collection
from pathlib import Path

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_export.errors import ExportError
from assay_export.formats import aoti, exported_program, onnx_graph, torchscript
from assay_export.formats.format import Format, Made, Verified
from assay_export.formats.places import Place
from assay_export.formats.runner import Runner

FORMATS: dict[str, Format] = {
    each.name: each for each in (torchscript.FORMAT, onnx_graph.FORMAT, exported_program.FORMAT, *aoti.FORMATS)
}
"""By the name that the command line takes."""


def format_of(artifact: Artifact) -> Format:
    """The format that an artifact has.

    Raises:
        ExportError: there is none of that name.
    """
    for form in FORMATS.values():
        if form.format == artifact.format:
            return form
    raise ExportError(f"{artifact.path}: there is no way to run {artifact.format}")


def places(artifact: Artifact, engines: Collection[str] | None = None) -> tuple[Place, ...]:
    """Where an artifact can be proven here: in its default engine on every device, in the others on the CPU.

    Args:
        artifact: which.
        engines: those to prove it in beside the default one; None for all that are installed.
    """
    form = format_of(artifact)
    first, *others = form.engines(artifact)
    here = ("cpu", "cuda") if form.has_cuda() else ("cpu",)
    devices = [device for device in here if artifact.device in ("any", device)]
    chosen = [engine for engine in others if "cpu" in devices and (engines is None or engine in engines)]
    return (*(Place(first, device) for device in devices), *(Place(engine, "cpu") for engine in chosen))


def default_place(artifact: Artifact, device: str) -> Place:
    """The device, in the engine that runs an artifact unless another is asked for."""
    return Place(format_of(artifact).engines(artifact)[0], device)


def start(folder: Path, manifest: Manifest, artifact: Artifact, place: Place) -> Runner:
    """The code that users run an artifact with.

    Args:
        folder: the bundle's.
        manifest: of the bundle.
        artifact: which; the hashes of all its files are checked.
        place: engine and device; nothing falls back from there.

    Raises:
        AssayError: a file is not the one that the manifest names, or it cannot run there.
    """
    form = format_of(artifact)
    beside = {each.path: read_verified(folder, each) for each in artifact.beside}
    files = Made(read_verified(folder, artifact), beside)
    return form.start(Verified(folder, manifest, artifact, files), place)
