"""Find and import ONNX Runtime, start graphs on the CPU or CUDA, and report the provider of each node."""

import contextlib
import ctypes
import io
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from assay_deploy.engines.engine import Node
from assay_deploy.errors import RuntimeUnavailableError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

MINIMUM = "1.24.1"
"""First version of ONNX Runtime that reports the provider of each node; there is no 1.24.0."""

INSTALL = {
    "onnxruntime": f'pip install "onnxruntime>={MINIMUM}"',
    "onnxruntime-gpu": f'pip install "onnxruntime-gpu[cuda,cudnn]>={MINIMUM}"',
}
"""Commands that install ONNX Runtime, by distribution name: for the CPU, and for NVIDIA GPUs."""

# fmt: off
BOOKKEEPING = frozenset((
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Max",
    "Min", "Mod", "Mul", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze",
    "Where",
))
# fmt: on
"""Operators that may be on the CPU in a CUDA session. ONNX Runtime places nodes that compute shapes on the CPU on
purpose, because shapes are needed there and are a few integers. Every operator listed here has a CUDA kernel for all
float types, so a node of these types on the CPU computes a shape, not image data."""

CUDA_OPTIONS = {
    # The default, EXHAUSTIVE, times every algorithm again for each new batch size.
    "cudnn_conv_algo_search": "HEURISTIC",
    # An fp32 artifact was proven in fp32; by default, TF32 would round its factors to 10 bits of mantissa.
    "use_tf32": "0",
}

NO_EXTERNAL_DATA: Mapping[str, bytes] = MappingProxyType({})


def installed_runtimes() -> dict[str, str]:
    """Versions of the installed distributions of ONNX Runtime, by name."""
    found = {}
    for name in INSTALL:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def import_runtime() -> Any:
    """Import and return the module ``onnxruntime``; nothing else imports it.

    Raises:
        RuntimeUnavailableError: no distribution or more than one is installed, or the installed one is broken or too
            old.
    """
    found = installed_runtimes()
    cpu, gpu = INSTALL.values()
    if not found:
        raise RuntimeUnavailableError(
            f"ONNX Runtime is not installed. For the CPU: `{cpu}`. For an NVIDIA GPU: `{gpu}`"
        )
    if len(found) > 1:
        both = " and ".join(f"{name} {number}" for name, number in found.items())
        raise RuntimeUnavailableError(
            f"{both} are both installed, but they overwrite each other's files. Remove both: `pip uninstall -y "
            f"{' '.join(found)}`. Then, for the CPU: `{cpu}`. For an NVIDIA GPU: `{gpu}`"
        )
    ((name, number),) = found.items()
    # The official builds send usage data to Microsoft by default; users who want that set the variable to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        module = import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{name} {number} is installed but cannot be imported ({error}). Reinstall it: "
            f"`pip uninstall -y {name}`, then `{INSTALL[name]}`"
        ) from error
    if not hasattr(module.InferenceSession, "get_provider_graph_assignment_info"):
        raise RuntimeUnavailableError(f"{name} {number} is too old; at least {MINIMUM} is required: `{INSTALL[name]}`")
    return module


def start(
    content: bytes, threads: int, providers: list[Any], external_data: Mapping[str, bytes] = NO_EXTERNAL_DATA
) -> Any:
    """Create an ONNX Runtime session for a graph.

    Args:
        content: content of the ONNX file.
        threads: CPU threads per operator.
        providers: execution providers in order of preference: names, or pairs of name and options.
        external_data: content of the graph's external data files, by their location as named in the graph.

    Returns:
        An ``onnxruntime.InferenceSession``; it may lack a requested provider.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is not usable or cannot load the graph.
    """
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # External data comes from `external_data`; by default, it would be read unverified from the working directory.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if external_data:
        sizes = [len(each) for each in external_data.values()]
        options.add_external_initializers_from_files_in_memory(list(external_data), list(external_data.values()), sizes)
    try:
        # enable_fallback=0: otherwise ONNX Runtime prints on stdout and continues without the provider
        return runtime.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # its exceptions share no public base class
        raise RuntimeUnavailableError(f"onnxruntime {runtime.__version__} cannot load it ({error})") from error


def start_cuda(content: bytes, threads: int, external_data: Mapping[str, bytes] = NO_EXTERNAL_DATA) -> Any:
    """Create an ONNX Runtime session on CUDA; the arguments are those of `start`.

    Returns:
        An ``onnxruntime.InferenceSession`` with CUDA; single nodes may still be on the CPU, see `stray_nodes`.

    Raises:
        RuntimeUnavailableError: CUDA is not available; the message gives the reason as far as it is known.
    """
    runtime = import_runtime()
    _, install = INSTALL.values()
    if CUDA not in runtime.get_available_providers():
        raise RuntimeUnavailableError(
            f"the installed ONNX Runtime {runtime.__version__} has no CUDA. On a machine with an NVIDIA GPU: "
            f"`pip uninstall -y onnxruntime`, then `{install}`"
        )
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError as error:
        raise RuntimeUnavailableError(
            f"CUDA cannot be used: no NVIDIA driver was found ({error}). With a driver, `nvidia-smi` lists "
            "the GPU; a container needs `--gpus all`"
        ) from error
    messages = io.StringIO()
    with contextlib.redirect_stdout(messages):  # it prints on stdout, which is for the predictions
        runtime.preload_dlls()
    runtime.set_default_logger_severity(4)  # it logs that CUDA is missing; the error below is clearer
    try:
        session = start(content, threads, [(CUDA, CUDA_OPTIONS), CPU], external_data)
    finally:
        runtime.set_default_logger_severity(2)
    if CUDA not in session.get_providers():
        raise RuntimeUnavailableError(
            f"CUDA failed to start: the libraries of CUDA {runtime.cuda_version} are missing (`{install}` installs "
            f"them), or the driver is too old for them. {' '.join(messages.getvalue().split())}".rstrip()
        )
    return session


def placement(session: Any) -> tuple[Node, ...]:
    """Nodes of a session's graph with their providers, in ONNX Runtime's order."""
    return tuple(
        Node(node.name, node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )


def stray_nodes(nodes: Iterable[Node], wanted: str) -> list[Node]:
    """Compute nodes that are not on the provider `wanted`; operators in `BOOKKEEPING` do not count."""
    return [node for node in nodes if node.provider != wanted and node.op not in BOOKKEEPING]
