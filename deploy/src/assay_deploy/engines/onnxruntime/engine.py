"""ONNX Runtime engine: runs every ONNX artifact on the CPU or CUDA."""

from pathlib import Path

from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.engines.onnxruntime.runtime import import_runtime, installed_runtimes
from assay_deploy.engines.onnxruntime.session import Session


class OnnxRuntime:
    """ONNX Runtime as an `assay_deploy.engines.engine.Engine`."""

    name = "onnxruntime"
    title = "ONNX Runtime"

    def installed(self) -> bool:
        """Return True if one of its distributions is installed."""
        return bool(installed_runtimes())

    def versions(self) -> dict[str, str]:
        """Versions of its installed distributions by name; there should be exactly one."""
        return installed_runtimes()

    def devices(self) -> list[str]:
        """Names of the available execution providers."""
        devices: list[str] = import_runtime().get_available_providers()
        return devices

    def runs(self, artifact: Artifact) -> bool:
        """Return True for ONNX artifacts of every precision."""
        return artifact.format == "onnx"

    def load(
        self,
        bundle: Path,
        manifest: Manifest,
        artifact: Artifact,
        *,
        provider: str = "auto",
        threads: int | None = None,
        allow_fallback: bool = False,
    ) -> Session:
        """Verify and load an artifact; see `Session.load`."""
        return Session.load(
            bundle, manifest, artifact, provider=provider, threads=threads, allow_fallback=allow_fallback
        )
