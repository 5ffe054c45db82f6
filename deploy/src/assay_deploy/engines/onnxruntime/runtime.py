"""Find ONNX Runtime, start a graph in it on the CPU or on CUDA, and say where each node went."""

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
"""The first ONNX Runtime that can tell on which provider it placed each node; there is no 1.24.0."""

INSTALL = {
    "onnxruntime": f'pip install "onnxruntime>={MINIMUM}"',
    "onnxruntime-gpu": f'pip install "onnxruntime-gpu[cuda,cudnn]>={MINIMUM}"',
}
"""Distributions of ONNX Runtime, for the CPU and for NVIDIA GPUs, and how to install them."""

# fmt: off
BOOKKEEPING = frozenset((
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Max",
    "Min", "Mod", "Mul", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze",
    "Where",
))
# fmt: on
"""Operators that may sit on the CPU of a CUDA session. ONNX Runtime moves whatever computes a shape there on
purpose, since a shape is needed on the CPU and is a few integers. Every operator named here has a CUDA kernel for
all float types, so one of them that is found on the CPU computes a shape, and no image passes through it."""

CUDA_OPTIONS = {
    # The default, EXHAUSTIVE, times every algorithm anew for each batch size it meets.
    "cudnn_conv_algo_search": "HEURISTIC",
    # An fp32 artifact was proven in fp32; the default would round its factors to 10 bits of mantissa.
    "use_tf32": "0",
}

NOTHING: Mapping[str, bytes] = MappingProxyType({})


def installed_runtimes() -> dict[str, str]:
    """Which distributions of ONNX Runtime are installed: name -> version."""
    found = {}
    for name in INSTALL:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def import_runtime() -> Any:
    """The module ``onnxruntime``, imported here and nowhere else.

    Raises:
        RuntimeUnavailableError: no distribution of it is installed, or two, or a broken or too old one.
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
            f"{both} are both installed, and each overwrites the other's files. Remove both: `pip uninstall -y "
            f"{' '.join(found)}`. Then, for the CPU: `{cpu}`. For an NVIDIA GPU: `{gpu}`"
        )
    ((name, number),) = found.items()
    # The official builds send usage data to their maker unless told not to; whoever wants that sets it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        module = import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{name} {number} is installed but cannot be imported ({error}). Install it anew: "
            f"`pip uninstall -y {name}`, then `{INSTALL[name]}`"
        ) from error
    if not hasattr(module.InferenceSession, "get_provider_graph_assignment_info"):
        raise RuntimeUnavailableError(f"{name} {number} is too old, at least {MINIMUM} is needed: `{INSTALL[name]}`")
    return module


def start(content: bytes, threads: int, providers: list[Any], beside: Mapping[str, bytes] = NOTHING) -> Any:
    """Start a graph.

    Args:
        content: the ONNX file.
        threads: CPU threads for an operator.
        providers: names, or pairs of name and options, in order of preference.
        beside: files that the graph keeps weights in, by the names it gives them.

    Returns:
        An ``onnxruntime.InferenceSession``; it may lack a provider that was asked for.

    Raises:
        RuntimeUnavailableError: ONNX Runtime is not usable or cannot load the graph.
    """
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # What a graph keeps outside itself comes from `beside`; else it would be sought where the process runs, unhashed.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if beside:
        sizes = [len(each) for each in beside.values()]
        options.add_external_initializers_from_files_in_memory(list(beside), list(beside.values()), sizes)
    try:
        # enable_fallback=0: ONNX Runtime would otherwise print on stdout and go on without the provider
        return runtime.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # its exceptions share no public base class
        raise RuntimeUnavailableError(f"onnxruntime {runtime.__version__} cannot load it ({error})") from error


def start_cuda(content: bytes, threads: int, beside: Mapping[str, bytes] = NOTHING) -> Any:
    """Start a graph on CUDA; the arguments are those of `start`.

    Returns:
        An ``onnxruntime.InferenceSession`` that has CUDA; single nodes may still be elsewhere, see `stray_nodes`.

    Raises:
        RuntimeUnavailableError: there is no CUDA; says why, as far as it can be known.
    """
    runtime = import_runtime()
    _, install = INSTALL.values()
    if CUDA not in runtime.get_available_providers():
        raise RuntimeUnavailableError(
            f"this ONNX Runtime {runtime.__version__} has no CUDA. On a machine with an NVIDIA GPU: "
            f"`pip uninstall -y onnxruntime`, then `{install}`"
        )
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError as error:
        raise RuntimeUnavailableError(
            f"CUDA cannot be used: no NVIDIA driver is visible ({error}). Where there is one, `nvidia-smi` lists "
            "the GPU; a container needs `--gpus all`"
        ) from error
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it reports on stdout, which belongs to the predictions
        runtime.preload_dlls()
    runtime.set_default_logger_severity(4)  # it logs that CUDA is missing, and the error below says it better
    try:
        session = start(content, threads, [(CUDA, CUDA_OPTIONS), CPU], beside)
    finally:
        runtime.set_default_logger_severity(2)
    if CUDA not in session.get_providers():
        raise RuntimeUnavailableError(
            f"CUDA does not start: the libraries of CUDA {runtime.cuda_version} are missing (`{install}` brings "
            f"them), or the driver is too old for them. {' '.join(said.getvalue().split())}".rstrip()
        )
    return session


def placement(session: Any) -> tuple[Node, ...]:
    """Where the nodes of a started graph are, in ONNX Runtime's order."""
    return tuple(
        Node(node.name, node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )


def stray_nodes(nodes: Iterable[Node], wanted: str) -> list[Node]:
    """The compute nodes that are elsewhere than on the provider `wanted`; `BOOKKEEPING` may be anywhere."""
    return [node for node in nodes if node.provider != wanted and node.op not in BOOKKEEPING]
