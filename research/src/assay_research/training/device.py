"""Selection of the device and precision of a training."""

import ctypes
import platform

import torch

from assay_research.errors import ConfigError, DeviceError


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto`` (CUDA if available), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: the name is another one.
        DeviceError: CUDA was requested but is not available.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU-only build"
        raise DeviceError(
            f"device=cuda was requested, but torch {torch.__version__} ({build}) finds no CUDA device. "
            "Check `nvidia-smi` and the driver, or use device=cpu"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of forward passes for ``auto``, ``fp32`` or ``bf16``.

    ``auto`` is bfloat16 on devices that multiply it in hardware: CUDA since Ampere, and CPUs with AVX512-BF16 or AMX,
    where a step of TinyVGG takes two thirds of the time.

    Raises:
        ConfigError: the name is another one.
    """
    if name not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision must be auto, fp32 or bf16, got '{name}'")
    if name == "auto":
        if device.type == "cuda":
            multiplies = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            multiplies = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        name = "bf16" if multiplies else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32


def keep_memory() -> None:
    """Configure glibc to retain freed memory for the next step instead of returning it to the system.

    A training step on a CPU frees and allocates the same hundreds of megabytes again and again; without their page
    faults it takes 10 to 35 % less time. The setting applies to the whole process. Other C libraries are not changed.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)


def hardware(device: torch.device) -> str:
    """Describe the device for tables: its model, and its memory or the number of threads."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - streamed, the first lines are enough
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
