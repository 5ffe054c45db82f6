"""Registry of the export formats. To add a format, add its module and an entry here."""

from collections.abc import Collection
from pathlib import Path

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_export.errors import ExportError
from assay_export.formats import aoti, exported_program, onnx_graph, torchscript
from assay_export.formats.format import ArtifactFiles, Format, VerifiedArtifact
from assay_export.formats.places import Place
from assay_export.formats.runner import Runner

FORMATS: dict[str, Format] = {
    each.name: each for each in (torchscript.FORMAT, onnx_graph.FORMAT, exported_program.FORMAT, *aoti.FORMATS)
}
"""Formats by their name on the command line."""


def format_of(artifact: Artifact) -> Format:
    """Return the format of an artifact.

    Raises:
        ExportError: the manifest names an unknown format.
    """
    for form in FORMATS.values():
        if form.format == artifact.format:
            return form
    known = ", ".join(dict.fromkeys(form.format for form in FORMATS.values()))
    raise ExportError(f"{artifact.path}: unknown format {artifact.format}, expected one of {known}")


def places(artifact: Artifact, engines: Collection[str] | None = None) -> tuple[Place, ...]:
    """Return the places where this machine proves an artifact: the default engine on all devices, others on the CPU.

    Args:
        artifact: the artifact to prove.
        engines: engines to use in addition to the default one; None for all that are installed.
    """
    form = format_of(artifact)
    first, *others = form.engines(artifact)
    here = ("cpu", "cuda") if form.has_cuda() else ("cpu",)
    devices = [device for device in here if artifact.device in ("any", device)]
    chosen = [engine for engine in others if "cpu" in devices and (engines is None or engine in engines)]
    return (*(Place(first, device) for device in devices), *(Place(engine, "cpu") for engine in chosen))


def default_place(artifact: Artifact, device: str) -> Place:
    """Return the `Place`, engine and device, that runs an artifact by default on a device."""
    return Place(format_of(artifact).engines(artifact)[0], device)


def start(folder: Path, manifest: Manifest, artifact: Artifact, place: Place) -> Runner:
    """Load an artifact in a place, with the code that its users run.

    Args:
        folder: the bundle's folder.
        manifest: the bundle's manifest.
        artifact: the artifact to load; the hashes of all its files are checked.
        place: engine and device, without falling back to others.

    Raises:
        AssayError: a file's hash differs from the manifest, or the artifact cannot run in that place.
    """
    form = format_of(artifact)
    external_data = {each.path: read_verified(folder, each) for each in artifact.beside}
    files = ArtifactFiles(read_verified(folder, artifact), external_data)
    return form.start(VerifiedArtifact(folder, manifest, artifact, files), place)
