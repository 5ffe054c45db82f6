"""Compile a graph ahead of time with AOTInductor: a shared library that torch and libtorch run without tracing."""

import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config
from torch._inductor.utils import fresh_cache

from assay_export.errors import ExportError
from assay_export.formats import archive
from assay_export.formats.exported_program import trace
from assay_export.formats.format import Format, Made, Request, run_by_torch, torch_alone

DEVICES = ("cpu", "cuda")

PORTABLE = {"cpp.march": "x86-64-v3", "cpp.simdlen": 256}
"""AVX2 and FMA, which x86 processors have since Haswell (2013) and Excavator (2015). The default is every instruction
this processor has, which kills the process on one that has less. Convolutions stay libtorch's, which chooses at run
time; what is compiled is what lies between them. With AVX-512 instead, 64 images take 0.67 of the time in TinyVGG A,
0.95 in ResNet-15 (one core of an AMD EPYC that has it)."""

_METADATA = "_metadata.json"


def export(graph: nn.Module, images: Tensor, device: str, any_size: bool = False) -> bytes:
    """Compile a graph for a device of the kind that this machine has.

    Takes half a minute on the CPU whatever the graph, for torch's own headers are most of what is compiled.

    Args:
        graph: see `assay_export.formats.exported_program.trace`.
        images: see `assay_export.formats.exported_program.trace`.
        device: ``cpu`` or ``cuda``.
        any_size: see `assay_export.formats.exported_program.trace`.

    Returns:
        The package that ``torch._inductor.aoti_load_package`` and libtorch's ``AOTIModelPackageLoader`` read.

    Raises:
        ExportError: there is no C++ compiler or no such device, or the batch is not dynamic.
    """
    check(device)
    compiler = _compiler()
    program = trace(graph, images, any_size)
    program.example_inputs = ((images.to(device, copy=True),), {})
    program = torch.export.passes.move_to_device_pass(program, device)
    with tempfile.TemporaryDirectory() as folder, fresh_cache(dir=folder):
        package = Path(folder, "model.pt2")
        options: dict[str, Any] = {
            "cpp.cxx": (None, str(_without_paths(compiler, Path(folder)))),
            # They would be kept outside of the folder, and hashed by a program that may be missing, openssl.
            "aot_inductor.precompile_headers": False,
            # They are what the tracer assumed to choose between equal ways (batches from 2 to 15, for a convolution's
            # kernel), and the library would refuse all others. It answers them as it answers those.
            "aot_inductor.check_lowerbound": False,
            "aot_inductor.check_upperbound": False,
        }
        if platform.machine() == "x86_64":
            options |= PORTABLE
        torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
        return _tidied(package.read_bytes())


def check(device: str) -> None:
    """See whether packages for a device can be made here.

    Raises:
        ExportError: there is no C++ compiler or no such device.
    """
    _compiler()
    _check_device(device)


def requirements(content: bytes) -> dict[str, str]:
    """What a package needs of a machine.

    Returns:
        ``device`` (``cpu`` or ``cuda``), ``platform`` (as ``sys.platform``), ``machine`` (as ``platform.machine()``),
        ``isa`` (``AVX2``: the processor's vector instructions) and, of CUDA, ``compute_capability`` ("90").

    Raises:
        ExportError: it is no package, or a damaged one.
    """
    try:
        records = archive.read(content)
        found = json.loads(next(record for name, record in records.items() if name.endswith(_METADATA)))
        names = ("DEVICE_KEY", "PLATFORM", "MACHINE", "CPU_ISA", "COMPUTE_CAPABILITY")
        device, system, machine, isa, capability = (found[f"AOTI_{name}"] for name in names)
    except (zipfile.BadZipFile, StopIteration, KeyError, ValueError) as error:
        raise ExportError(f"it is not an AOTInductor package, or a damaged one ({error}). Export it again") from error
    needed = {"device": device, "platform": system, "machine": machine, "isa": isa}
    return needed if device == "cpu" else needed | {"compute_capability": capability}


def load(content: bytes, device: str) -> Callable[..., Any]:
    """A compiled graph, if it is for this machine; the caller's images have to be on the device.

    It is a shared library: loading it runs it, whatever it is. torch's own load warns where the processor is another
    one, and the first instruction that it lacks kills the process.

    Args:
        content: what `export` returned.
        device: ``cpu`` or ``cuda``.

    Raises:
        ExportError: it is damaged, or for another device, platform or processor.
    """
    _check_device(device)
    needed = requirements(content)
    here = {"device": device, "platform": sys.platform, "machine": platform.machine()}
    if device == "cuda":
        here["compute_capability"] = "{}{}".format(*torch.cuda.get_device_capability())
    wrong = [f"{key} {needed[key]}, here it is {value}" for key, value in here.items() if needed[key] != value]
    lanes = torch.backends.cpu.get_cpu_capability()
    if needed["isa"].startswith("AVX") and lanes != "AVX512" and not needed["isa"].startswith(lanes):
        wrong.append(f"a processor with {needed['isa']}, this one has {lanes}")
    if wrong:
        raise ExportError(f"the package is compiled for {'; '.join(wrong)}. Export it again on such a machine")
    # Read by the library when it first runs: without it images of another size or type are taken as they lie in
    # memory, and the answer is noise.
    os.environ.setdefault("AOTI_RUNTIME_CHECK_INPUTS", "1")
    with tempfile.TemporaryDirectory() as folder, config.patch({"cpp.vec_isa_ok": True, "cpp.simdlen": 256}):
        # patched: torch would compile a program to find this processor's instructions, and warn of other than AVX512
        package = Path(folder, "model.pt2")
        package.write_bytes(content)
        model: Callable[..., Any] = torch._inductor.aoti_load_package(str(package))
    return model


def _compiler() -> str:
    name = os.environ.get("CXX", "g++")
    found = shutil.which(name)
    if found is None:
        raise ExportError(
            f"AOTInductor needs a C++ compiler, and '{name}' is not on the PATH. Install one (`apt-get install g++`), "
            "name another in the environment variable CXX, or leave this format out"
        )
    return found


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ExportError("a package for CUDA is made and run on a machine with an NVIDIA GPU, and torch sees none")


def _without_paths(compiler: str, folder: Path) -> Path:
    """The compiler, but without debug information, names of folders and an identifier made of both in what it writes.

    Inductor has no option for either; what it takes is the path of a compiler.
    """
    cache, headers = os.environ["TORCHINDUCTOR_CACHE_DIR"], Path(torch.__file__).parent
    flags = ["-g0", "-s", "-Wl,--build-id=none", f"-ffile-prefix-map={headers}=torch", f"-ffile-prefix-map={cache}=."]
    script = folder / Path(compiler).name
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(compiler)} "$@" {shlex.join(flags)}\n')
    script.chmod(0o755)
    return script


def _tidied(content: bytes) -> bytes:
    """The package without C++ sources, which nothing reads, and with file names that do not depend on the folder.

    Sources name the folder in comments; they are named by a hash over these, and the library names them.
    """
    records = archive.read(content)
    sources = [name for name in records if name.endswith(".cpp")]
    stems = {Path(name).name.split(".")[0]: Path(name).suffixes[0].strip(".") for name in sources}
    tidied = {}
    for name, record in records.items():
        if name not in sources:
            for stem, kind in stems.items():
                plain = kind.ljust(len(stem), "_")  # of the same length: the library's strings lie where they lay
                name = name.replace(stem, plain)
                record = record.replace(stem.encode(), plain.encode())
            tidied[name] = record
    return archive.write(tidied)


def _format(device: str) -> Format:
    def make(request: Request) -> Made:
        return Made(export(request.graph, request.images, device, request.any_size))  # no place for names or origin

    return Format(
        name=f"aoti-{device}",
        format="aoti",
        device=device,
        stem=f"aoti-{device}",
        suffix=".pt2",
        reproducible=False,
        make=make,
        start=run_by_torch(load),
        engines=torch_alone,
        has_cuda=torch.cuda.is_available,
        requires=requirements,
        check=partial(check, device),
    )


FORMATS = tuple(map(_format, DEVICES))
