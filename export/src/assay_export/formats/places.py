"""Places where an artifact can run: an engine and a device."""

from dataclasses import dataclass

from assay_deploy.engines.registry import ENGINES

TORCH = "torch"
"""Name of the engine for formats that torch itself runs."""


@dataclass(frozen=True)
class Place:
    """An engine (`TORCH` or a name of `ENGINES`) and a device (``cpu`` or ``cuda``) that run an artifact."""

    engine: str
    device: str

    def __str__(self) -> str:
        title = ENGINES[self.engine].title if self.engine in ENGINES else ""
        return f"{self.device} in {title}" if title else self.device
