"""Where an artifact can be proven on this machine: each engine that runs its format, on each device."""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from assay_deploy.bundle.manifest import Artifact
from assay_deploy.engines.onnxruntime.runtime import CUDA, import_runtime
from assay_deploy.engines.registry import ENGINES

TORCH = "torch"
"""The engine of every format but ONNX."""


@dataclass(frozen=True)
class Place:
    """An engine, `TORCH` or a name of `ENGINES`, and a device, ``cpu`` or ``cuda``."""

    engine: str
    device: str

    def __str__(self) -> str:
        title = ENGINES[self.engine].title if self.engine in ENGINES else ""
        return f"{self.device} in {title}" if title else self.device


def has_cuda(form: str) -> bool:
    """Whether there is a GPU here, and the default engine of that format can use it."""
    return torch.cuda.is_available() and (form != "onnx" or CUDA in import_runtime().get_available_providers())


def default_place(artifact: Artifact, device: str) -> Place:
    """The device, in the engine that runs an artifact unless another is asked for."""
    if artifact.format != "onnx":
        return Place(TORCH, device)
    return Place(next(engine.name for engine in ENGINES.values() if engine.runs(artifact)), device)


def places(artifact: Artifact, engines: Collection[str] | None = None) -> tuple[Place, ...]:
    """Where an artifact can be proven here, of where it is to run.

    Args:
        artifact: which.
        engines: those of ONNX graphs to prove it in; None for all that are installed.
    """
    devices = [
        device
        for device in ("cpu", "cuda")
        if artifact.device in ("any", device) and (device == "cpu" or has_cuda(artifact.format))
    ]
    found = [default_place(artifact, device) for device in devices]
    if artifact.format == "onnx" and "cpu" in devices:
        others = [each for each in ENGINES.values() if each.runs(artifact) and each.installed()]
        found += [Place(each.name, "cpu") for each in others if each.name != found[0].engine]
    return tuple(place for place in found if engines is None or place.engine in (TORCH, *engines))
