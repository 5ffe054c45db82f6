"""OpenVINO as an engine: ONNX artifacts in float32, on the CPU."""

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
"""What the manifest calls OpenVINO's types."""

NO_NODES = frozenset(("Const", "Input", "Output"))
"""Layers of a compiled graph that compute nothing."""

ELSEWHERE = b"\n\x08location\x12"
"""In a file of ONNX, before the name of another that holds weights. OpenVINO 2026.4 reads that one from the folder
where the process runs."""

log = logging.getLogger(__name__)


class OpenVinoSession:
    """A compiled graph that is ready to run; `OpenVino` makes it.

    Attributes:
        provider: where it runs, ``cpu``.
        threads: how many CPU threads one `run` may use.
        outputs: names of what `run` returns.
        placement: the device of each node of the compiled graph.
        stray: the compute nodes that are elsewhere than on the CPU: none.
        fallback: why ``auto`` did not take CUDA: OpenVINO has none, so "".
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
        """Compute the graph's outputs; see `assay_deploy.engines.engine.Loaded.run`."""
        self._contract.check_images(images)
        try:
            # a request of its own, for one runs once at a time; 3 of 77 us of the smallest graph there is
            results = self._compiled.create_infer_request().infer({self._contract.input: images})
            outputs = {name: results[name] for name in self.outputs}
        except Exception as error:  # its errors are RuntimeErrors of no class of their own
            raise RuntimeUnavailableError(
                f"OpenVINO failed on a batch of {len(images)} ({error}). A smaller --batch needs less memory"
            ) from error
        self._contract.check_outputs(outputs, len(images))
        return outputs


class OpenVino:
    """The engine OpenVINO; its methods are those of `assay_deploy.engines.engine.Engine`."""

    name = "openvino"
    title = "OpenVINO"

    def installed(self) -> bool:
        """Whether its distribution is there."""
        return bool(self.versions())

    def versions(self) -> dict[str, str]:
        """Of its distribution."""
        try:
            return {"openvino": version("openvino")}
        except PackageNotFoundError:
            return {}

    def devices(self) -> list[str]:
        """All that OpenVINO finds; graphs run on the CPU alone, where they were tried."""
        devices: list[str] = import_openvino().Core().available_devices
        return devices

    def runs(self, artifact: Artifact) -> bool:
        """ONNX in float32; what is proven in less may be computed in other steps than those that were proven."""
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
                f"{artifact.path}: a {artifact.format} file in {artifact.precision}, OpenVINO runs onnx in fp32 alone"
            )
        if proven_provider(artifact, provider) == "cuda":
            raise RuntimeUnavailableError(
                f"{artifact.path}: OpenVINO has no CUDA. Use --provider cpu, or --engine onnxruntime"
            )
        content = read_verified(bundle, artifact)
        if artifact.beside or ELSEWHERE in content:
            raise BundleError(
                f"{artifact.path}: keeps weights in other files, which OpenVINO would read without their hashes. Use "
                "--engine onnxruntime"
            )
        package = import_openvino()
        threads = threads or available_cores()
        streams = max(available_cores() // threads, 1)
        options = {
            # Where a processor has bfloat16, graphs of float32 would be computed in it.
            "INFERENCE_PRECISION_HINT": "f32",
            # All threads together; a stream is what one of several runs at once gets of them.
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
            raise BundleError(f"{bundle / artifact.path}: a name in the graph is no text ({error})") from error
        except RuntimeError as error:  # of no class of its own
            said = " ".join(str(error).split())
            raise RuntimeUnavailableError(
                f"{bundle / artifact.path}: openvino {package.__version__} cannot load it ({said})"
            ) from error
        log.info("%s: on OpenVINO's CPU, %d threads a run", artifact.path, threads)
        return session


def import_openvino() -> Any:
    """The module ``openvino``, imported here and nowhere else.

    Raises:
        RuntimeUnavailableError: it is not installed, or cannot be imported.
    """
    # The package `openvino_telemetry`, which `pip install openvino` brings, reports to OpenVINO's makers when openvino
    # is imported. An entry of None lets it not be found, and openvino takes its own stub for it.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    except ImportError as error:
        found = OpenVino().versions()
        if not found:
            raise RuntimeUnavailableError(f"OpenVINO is not installed: `{INSTALL}`") from error
        raise RuntimeUnavailableError(
            f"openvino {found['openvino']} is installed but cannot be imported ({error}). Install it anew: "
            f"`pip uninstall -y openvino`, then `{INSTALL}`"
        ) from error


def _dtypes(ports: Iterable[Any]) -> dict[str, str]:
    """Of a graph's inputs or outputs, by each of their names, in the manifest's words where it has one."""
    kinds = [(port.names, port.element_type.get_type_name()) for port in ports]
    return {name: DTYPES.get(kind, kind) for names, kind in kinds for name in names}


def _placement(compiled: Any) -> tuple[Node, ...]:
    """Where the nodes of a compiled graph are: all on the one device that it was compiled for."""
    (device,) = compiled.get_property("EXECUTION_DEVICES")
    layers = compiled.get_runtime_model().get_ops()
    nodes = (Node(op.get_friendly_name(), op.get_rt_info()["layerType"].astype(str), device) for op in layers)
    return tuple(node for node in nodes if node.op not in NO_NODES)
