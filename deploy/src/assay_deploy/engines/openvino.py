"""OpenVINO engine: runs float32 ONNX artifacts on the CPU."""

import logging
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import Artifact, Manifest
from assay_deploy.engines.contract import Contract, proven_provider
from assay_deploy.engines.engine import Node
from assay_deploy.engines.machine import available_cores
from assay_deploy.errors import BundleError, RuntimeUnavailableError

MINIMUM = "2026.0"
INSTALL = f'pip install "openvino>={MINIMUM}"'

DTYPES = {"u8": "uint8", "f32": "float32", "i64": "int64"}
"""Dtypes of the manifest by OpenVINO's type names."""

NON_COMPUTE_LAYERS = frozenset(("Const", "Input", "Output"))
"""Layer types of a compiled graph that compute nothing."""

EXTERNAL_DATA_FIELD = b"\n\x08location\x12"
"""Bytes that precede the name of an external data file in an ONNX file. OpenVINO 2026.4 reads such files from the
working directory of the process."""

log = logging.getLogger(__name__)


class OpenVinoSession:
    """Compiled graph, ready to run; created by `OpenVino.load`.

    Attributes:
        provider: device of the graph, always ``cpu``.
        threads: number of CPU threads that one `run` may use.
        outputs: names of the outputs that `run` returns.
        placement: all nodes of the compiled graph with their devices.
        stray: compute nodes that are not on the CPU; always empty.
        fallback: always "", because OpenVINO has no CUDA to fall back from.
    """

    provider = "cpu"
    stray: tuple[Node, ...] = ()
    fallback = ""

    def __init__(self, compiled: Any, contract: Contract, threads: int) -> None:
        self.threads = threads
        self.outputs = contract.outputs
        self.placement = _placement(compiled)
        self._compiled = compiled
        self._contract = contract

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Compute the graph's outputs; see `assay_deploy.engines.engine.LoadedGraph.run`."""
        self._contract.check_images(images)
        try:
            # a request per call, because a request runs one call at a time; 3 of 77 us for the smallest graph
            results = self._compiled.create_infer_request().infer({self._contract.input: images})
            outputs = {name: results[name] for name in self.outputs}
        except Exception as error:  # its errors are plain RuntimeErrors
            raise RuntimeUnavailableError(
                f"OpenVINO failed on a batch of {len(images)} ({error}). A smaller --batch needs less memory"
            ) from error
        self._contract.check_outputs(outputs, len(images))
        return outputs


class OpenVino:
    """OpenVINO as an `assay_deploy.engines.engine.Engine`."""

    name = "openvino"
    title = "OpenVINO"

    def installed(self) -> bool:
        """Return True if its distribution is installed."""
        return bool(self.versions())

    def versions(self) -> dict[str, str]:
        """Version of its distribution by name; empty if it is not installed."""
        try:
            return {"openvino": version("openvino")}
        except PackageNotFoundError:
            return {}

    def devices(self) -> list[str]:
        """Devices that OpenVINO finds; graphs run only on the CPU, where they were tested."""
        devices: list[str] = import_openvino().Core().available_devices
        return devices

    def runs(self, artifact: Artifact) -> bool:
        """Return True for float32 ONNX artifacts; OpenVINO may compute lower precisions in unproven steps."""
        return (artifact.format, artifact.precision) == ("onnx", "fp32")

    def load(
        self,
        bundle: Path,
        manifest: Manifest,
        artifact: Artifact,
        *,
        provider: str = "auto",
        threads: int | None = None,
        allow_fallback: bool = False,  # noqa: ARG002 - without CUDA there is nothing to fall back from
    ) -> OpenVinoSession:
        """Check an artifact's hash and compile it; see `assay_deploy.engines.engine.Engine.load`."""
        if not self.runs(artifact):
            raise BundleError(
                f"{artifact.path}: a {artifact.format} file in {artifact.precision}, "
                "but OpenVINO runs only onnx in fp32"
            )
        if proven_provider(artifact, provider) == "cuda":
            raise RuntimeUnavailableError(
                f"{artifact.path}: OpenVINO has no CUDA. Use --provider cpu, or --engine onnxruntime"
            )
        content = read_verified(bundle, artifact)
        if artifact.beside or EXTERNAL_DATA_FIELD in content:
            raise BundleError(
                f"{artifact.path}: has weights in external files, which OpenVINO would read without verifying their "
                "hashes. Use --engine onnxruntime"
            )
        package = import_openvino()
        threads = threads or available_cores()
        streams = max(available_cores() // threads, 1)
        options = {
            # On processors with bfloat16, OpenVINO would compute float32 graphs in it.
            "INFERENCE_PRECISION_HINT": "f32",
            # INFERENCE_NUM_THREADS counts all threads; each of several concurrent runs gets one stream of them.
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
        }
        contract = Contract(manifest, artifact)
        try:
            core = package.Core()
            compiled = core.compile_model(core.read_model(content), "CPU", options)
            contract.check_graph(_dtypes(compiled.inputs), _dtypes(compiled.outputs))
            session = OpenVinoSession(compiled, contract, threads)
        except UnicodeDecodeError as error:
            raise BundleError(f"{bundle / artifact.path}: a name in the graph is not valid UTF-8 ({error})") from error
        except RuntimeError as error:  # OpenVINO has no error class of its own
            message = " ".join(str(error).split())
            raise RuntimeUnavailableError(
                f"{bundle / artifact.path}: openvino {package.__version__} cannot load it ({message})"
            ) from error
        log.info("%s: on OpenVINO's CPU, %d threads a run", artifact.path, threads)
        return session


def import_openvino() -> Any:
    """Import and return the module ``openvino``; nothing else imports it.

    Raises:
        RuntimeUnavailableError: OpenVINO is not installed or cannot be imported.
    """
    # The package `openvino_telemetry`, installed by `pip install openvino`, sends usage data to Intel when openvino is
    # imported. With an entry of None its import fails, and openvino uses its own stub instead.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    except ImportError as error:
        found = OpenVino().versions()
        if not found:
            raise RuntimeUnavailableError(f"OpenVINO is not installed: `{INSTALL}`") from error
        raise RuntimeUnavailableError(
            f"openvino {found['openvino']} is installed but cannot be imported ({error}). Reinstall it: "
            f"`pip uninstall -y openvino`, then `{INSTALL}`"
        ) from error


def _dtypes(ports: Iterable[Any]) -> dict[str, str]:
    """Dtypes of a graph's inputs or outputs by each of their names, as the manifest spells them if it has them."""
    kinds = [(port.names, port.element_type.get_type_name()) for port in ports]
    return {name: DTYPES.get(kind, kind) for names, kind in kinds for name in names}


def _placement(compiled: Any) -> tuple[Node, ...]:
    """Nodes of a compiled graph with their device, which is the one it was compiled for."""
    (device,) = compiled.get_property("EXECUTION_DEVICES")
    layers = compiled.get_runtime_model().get_ops()
    nodes = (Node(op.get_friendly_name(), op.get_rt_info()["layerType"].astype(str), device) for op in layers)
    return tuple(node for node in nodes if node.op not in NON_COMPUTE_LAYERS)
