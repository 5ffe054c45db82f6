"""A compiled package is the eager model for any batch, names nothing of this machine, and refuses another one."""

import json
import os
import tempfile
from pathlib import Path

import pytest
import torch

from assay_deploy.images.canvas import Canvas, View
from assay_export.errors import ExportError
from assay_export.formats import aoti, archive
from assay_research.models.resnet import resnet
from assay_research.tasks.classification.views import Views

REPOSITORY = Path(__file__).resolve().parents[3]


def small_graph() -> Views:
    torch.manual_seed(0)
    return Views(resnet([1, 1], [4, 8]), Canvas(32, 32), (View(), View(size=36))).eval()


def some_images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def compile_on(device: str, folder: Path, monkeypatch) -> bytes:
    """A package, made where nothing else is, and nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    content = aoti.export(small_graph(), some_images(2), device)
    assert list(folder.iterdir()) == []
    return content


def package(**changes: str) -> bytes:
    """A package of nothing for this machine, but for some changes."""
    metadata = {
        "AOTI_DEVICE_KEY": "cpu",
        "AOTI_PLATFORM": "linux",
        "AOTI_MACHINE": os.uname().machine,
        "AOTI_CPU_ISA": "AVX2",
        "AOTI_COMPUTE_CAPABILITY": "",
    }
    return archive.write(
        {"model/data/aotinductor/model/a.wrapper_metadata.json": json.dumps(metadata | changes).encode()}
    )


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names the instructions of x86")
def test_a_package_is_the_eager_model_private_portable_and_the_same_each_time(tmp_path, monkeypatch):
    # One test for all of it: each compilation takes half a minute.
    content = compile_on("cpu", tmp_path, monkeypatch)
    graph, compiled = small_graph(), aoti.load(content, "cpu")
    with torch.inference_mode():
        for batch in (1, 2, 7, 19, 40):
            assert (compiled(some_images(batch)) - graph(some_images(batch))).abs().max() < 1e-6
    with pytest.raises(RuntimeError, match="expected: 32, but got: 36"):
        compiled(torch.zeros(2, 36, 36, 3, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="dtype"):
        compiled(torch.zeros(2, 32, 32, 3))
    records = b"\n".join(archive.read(content).values())
    for path in (Path.home(), REPOSITORY, Path(torch.__file__).parent, tmp_path):
        assert str(path).encode() not in records
    assert aoti.requirements(content)["isa"] == "AVX2"
    assert compile_on("cpu", tmp_path, monkeypatch) == content


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_package_for_cuda_is_the_eager_model(tmp_path, monkeypatch):
    content = compile_on("cuda", tmp_path, monkeypatch)
    graph, compiled = small_graph().cuda(), aoti.load(content, "cuda")
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        for batch in (1, 2, 7, 40):
            images = some_images(batch).cuda()
            assert (compiled(images) - graph(images)).abs().max() < 1e-5
    assert aoti.requirements(content)["device"] == "cuda"
    with pytest.raises(ExportError, match="device cuda, here it is cpu"):
        aoti.load(content, "cpu")


def test_without_a_compiler_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ExportError, match=r"'g\+\+' is not on the PATH. Install one"):
        aoti.export(small_graph(), some_images(2), "cpu")


def test_without_a_gpu_cuda_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for act in (lambda: aoti.export(small_graph(), some_images(2), "cuda"), lambda: aoti.load(package(), "cuda")):
        with pytest.raises(ExportError, match="NVIDIA GPU"):
            act()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"AOTI_MACHINE": "riscv64"}, "machine riscv64, here it is"),
        ({"AOTI_PLATFORM": "win32"}, "platform win32, here it is linux"),
        ({"AOTI_DEVICE_KEY": "cuda"}, "device cuda, here it is cpu"),
    ],
)
def test_a_package_for_another_machine_is_refused(change, reason):
    with pytest.raises(ExportError, match=reason):
        aoti.load(package(**change), "cpu")


@pytest.mark.parametrize(
    ("needed", "has", "refused"),
    [
        ("AVX2", "DEFAULT", True),
        ("AVX512 AVX512_VNNI", "AVX2", True),
        ("AVX2", "AVX2", False),
        ("AVX2", "AVX512", False),
    ],
)
def test_a_package_for_more_instructions_than_there_are_is_refused(monkeypatch, needed, has, refused):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: has)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path: "loaded")
    if refused:
        with pytest.raises(ExportError, match=f"a processor with {needed}, this one has {has}"):
            aoti.load(package(AOTI_CPU_ISA=needed), "cpu")
    else:
        assert aoti.load(package(AOTI_CPU_ISA=needed), "cpu") == "loaded"


@pytest.mark.parametrize("content", [b"", package()[:100], archive.write({"model/archive_format": b"pt2"})])
def test_what_is_no_package_is_refused(content):
    with pytest.raises(ExportError, match="not an AOTInductor package"):
        aoti.load(content, "cpu")
