"""ONNX Runtime as an engine: every ONNX artifact, on the CPU and on CUDA."""

from pathlib import Path

from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.engines.onnxruntime.runtime import import_runtime, installed_runtimes
from assay_deploy.engines.onnxruntime.session import Session


class OnnxRuntime:
    """The engine ONNX Runtime; its methods are those of `assay_deploy.engines.engine.Engine`."""

    name = "onnxruntime"
    title = "ONNX Runtime"

    def installed(self) -> bool:
        """True if one of its distributions is there."""
        return bool(installed_runtimes())

    def versions(self) -> dict[str, str]:
        """Of its distributions, of which there should be one."""
        return installed_runtimes()

    def devices(self) -> list[str]:
        """Its execution providers."""
        devices: list[str] = import_runtime().get_available_providers()
        return devices

    def runs(self, artifact: Artifact) -> bool:
        """ONNX, in every precision."""
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
        """See `Session.load`."""
        return Session.load(
            bundle, manifest, artifact, provider=provider, threads=threads, allow_fallback=allow_fallback
        )
