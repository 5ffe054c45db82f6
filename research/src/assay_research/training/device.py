"""Which device and precision a training runs on, decided once and never silently."""

import ctypes
import platform

import torch

from assay_research.errors import ConfigError, DeviceError


def choose_device(name: str) -> torch.device:
    """The device for ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: another name.
        DeviceError: CUDA was asked for and is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU-only build"
        raise DeviceError(
            f"device=cuda was asked for, but torch {torch.__version__} ({build}) sees no CUDA device. "
            "Check `nvidia-smi` and the driver, or use device=cpu"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type forward passes compute in: ``fp32``, ``bf16``, or for ``auto`` bfloat16 where the device multiplies it.

    That is on CUDA since Ampere, and on CPUs with AVX512-BF16 or AMX, where a step of TinyVGG takes two thirds of the
    time.

    Raises:
        ConfigError: another name.
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
    """Have glibc keep freed memory for the next step instead of returning it to the system, for this whole process.

    A training step on a CPU frees and asks for the same hundreds of megabytes again and again; without their page
    faults it takes 10 to 35 % less time. Other C libraries are left as they are.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)


def hardware(device: torch.device) -> str:
    """The device in words, for the tables: its model and how much of it was used."""
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
