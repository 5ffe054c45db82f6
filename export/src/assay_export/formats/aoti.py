"""Compile a graph ahead of time with AOTInductor, to a shared library that torch and libtorch run."""

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
from assay_export.formats.format import ArtifactFiles, Format, Request, run_by_torch, torch_only

DEVICES = ("cpu", "cuda")

PORTABLE = {"cpp.march": "x86-64-v3", "cpp.simdlen": 256}
"""Compiler options for AVX2 and FMA, which x86 processors have since Haswell (2013) and Excavator (2015). By default
the package uses all instructions of this processor, which kills the process on one without them. Convolutions remain
libtorch's, which chooses at run time; only the operators between them are compiled. With AVX-512 instead, 64 images
take 0.67 of the time in TinyVGG A, 0.95 in ResNet-15 (one core of an AMD EPYC that has it)."""

_METADATA = "_metadata.json"


def export(graph: nn.Module, images: Tensor, device: str, any_size: bool = False) -> bytes:
    """Compile a graph for the kind of device in this machine.

    Takes half a minute on the CPU for any graph, most of it for torch's own headers.

    Args:
        graph: see `assay_export.formats.exported_program.trace`.
        images: see `assay_export.formats.exported_program.trace`.
        device: ``cpu`` or ``cuda``.
        any_size: see `assay_export.formats.exported_program.trace`.

    Returns:
        The package that ``torch._inductor.aoti_load_package`` and libtorch's ``AOTIModelPackageLoader`` read.

    Raises:
        ExportError: there is no C++ compiler or no such device, or the batch size is fixed.
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
            # Precompiled headers would be stored outside of the folder, and hashed with openssl, which may be missing.
            "aot_inductor.precompile_headers": False,
            # These bounds are assumptions of the tracer to choose between equivalent code (batches from 2 to 15, for a
            # convolution's kernel). With these checks the library would reject other sizes, for which it is correct.
            "aot_inductor.check_lowerbound": False,
            "aot_inductor.check_upperbound": False,
        }
        if platform.machine() == "x86_64":
            options |= PORTABLE
        torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
        return _tidied(package.read_bytes())


def check(device: str) -> None:
    """Raise ExportError unless this machine can make packages for a device.

    Raises:
        ExportError: there is no C++ compiler or no such device.
    """
    _compiler()
    _check_device(device)


def requirements(content: bytes) -> dict[str, str]:
    """Return the requirements of a package on the machine that runs it.

    Returns:
        ``device`` (``cpu`` or ``cuda``), ``platform`` (as ``sys.platform``), ``machine`` (as ``platform.machine()``),
        ``isa`` (vector instructions of the processor, ``AVX2``) and, for CUDA, ``compute_capability`` ("90").

    Raises:
        ExportError: the content is not a package, or is damaged.
    """
    try:
        records = archive.read(content)
        found = json.loads(next(record for name, record in records.items() if name.endswith(_METADATA)))
        names = ("DEVICE_KEY", "PLATFORM", "MACHINE", "CPU_ISA", "COMPUTE_CAPABILITY")
        device, system, machine, isa, capability = (found[f"AOTI_{name}"] for name in names)
    except (zipfile.BadZipFile, StopIteration, KeyError, ValueError) as error:
        raise ExportError(
            f"the file is not an AOTInductor package, or is damaged ({error}). Export it again"
        ) from error
    needed = {"device": device, "platform": system, "machine": machine, "isa": isa}
    return needed if device == "cpu" else needed | {"compute_capability": capability}


def load(content: bytes, device: str) -> Callable[..., Any]:
    """Load a compiled graph, if it was compiled for this kind of machine; its inputs must be on the device.

    The package is a shared library: loading it executes its code, so load only trusted files. torch's own load only
    warns about another processor, and the first missing instruction then kills the process.

    Args:
        content: the package, as returned by `export`.
        device: ``cpu`` or ``cuda``.

    Raises:
        ExportError: the package is damaged, or for another device, platform or processor.
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
    # Read by the library at its first run: without these checks it reads images of another size or type as if they
    # were right, and returns noise.
    os.environ.setdefault("AOTI_RUNTIME_CHECK_INPUTS", "1")
    with tempfile.TemporaryDirectory() as folder, config.patch({"cpp.vec_isa_ok": True, "cpp.simdlen": 256}):
        # patched: else torch compiles a program to find this processor's instructions, and warns of all but AVX512
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
        raise ExportError(
            "a package for CUDA is made and run on a machine with an NVIDIA GPU, and torch finds none here"
        )


def _without_paths(compiler: str, folder: Path) -> Path:
    """Write a compiler wrapper that leaves debug information, folder names and build identifiers out of binaries.

    Inductor has no options for these; it only accepts the path of a compiler.
    """
    cache, headers = os.environ["TORCHINDUCTOR_CACHE_DIR"], Path(torch.__file__).parent
    flags = ["-g0", "-s", "-Wl,--build-id=none", f"-ffile-prefix-map={headers}=torch", f"-ffile-prefix-map={cache}=."]
    script = folder / Path(compiler).name
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(compiler)} "$@" {shlex.join(flags)}\n')
    script.chmod(0o755)
    return script


def _tidied(content: bytes) -> bytes:
    """Return the package without its unused C++ sources, and with file names that do not depend on the folder.

    The sources contain the folder's name in comments; file names contain a hash over the sources, and the library
    contains the file names.
    """
    records = archive.read(content)
    sources = [name for name in records if name.endswith(".cpp")]
    stems = {Path(name).name.split(".")[0]: Path(name).suffixes[0].strip(".") for name in sources}
    tidied = {}
    for name, record in records.items():
        if name not in sources:
            for stem, kind in stems.items():
                plain = kind.ljust(len(stem), "_")  # of the same length, to keep the offsets of the library's strings
                name = name.replace(stem, plain)
                record = record.replace(stem.encode(), plain.encode())
            tidied[name] = record
    return archive.write(tidied)


def _format(device: str) -> Format:
    def make(request: Request) -> ArtifactFiles:
        return ArtifactFiles(
            export(request.graph, request.images, device, request.any_size)
        )  # it cannot store names or origin

    return Format(
        name=f"aoti-{device}",
        format="aoti",
        device=device,
        stem=f"aoti-{device}",
        suffix=".pt2",
        reproducible=False,
        make=make,
        start=run_by_torch(load),
        engines=torch_only,
        has_cuda=torch.cuda.is_available,
        requires=requirements,
        check=partial(check, device),
    )


FORMATS = tuple(map(_format, DEVICES))
