"""The wheel alone, in an empty environment, predicts; torch is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

pytestmark = pytest.mark.slow


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # PYTHONPATH would let the packages of this environment into the empty one
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)


def _check(*command: str | Path) -> str:
    result = _run(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is written beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = shutil.copytree(DEPLOY, folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    build = f"import os; os.chdir({str(sources)!r}); import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    return folder / _check(sys.executable, "-c", build).split()[-1]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The interpreter of a new environment that holds the wheel and what it needs, no ONNX Runtime yet."""
    folder = tmp_path_factory.mktemp("empty") / "environment"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if shutil.which("uv"):
        _check("uv", "venv", "--python", sys.executable, folder)
    else:
        _check(sys.executable, "-m", "venv", folder)
    _install(python, str(wheel))
    return python


def _install(python: Path, requirement: str) -> None:
    if shutil.which("uv"):
        _check("uv", "pip", "install", "--python", python, requirement)
    else:
        _check(python, "-m", "pip", "install", requirement)


def test_the_wheel_alone_predicts_without_torch(python: Path, wheel: Path, bundle: Path, images: Path) -> None:
    command = python.with_name("assay-deploy")
    bare = _run(command, "predict", bundle, images)
    assert bare.returncode == 2
    assert "ONNX Runtime is not installed" in bare.stderr
    assert "pip install" in bare.stderr
    assert "Traceback" not in bare.stderr

    _install(python, f"assay-deploy[cpu] @ {wheel.as_uri()}")
    assert len(_check(command, "predict", bundle, images).splitlines()) == 40
    assert len(_check(python, "-m", "assay_deploy", "predict", bundle, images, "--tta", "--json").splitlines()) == 40
    assert "No problems found." in _check(command, "doctor", bundle)

    found = _check(
        python,
        "-c",
        "from importlib.util import find_spec as f; print([n for n in ('torch', 'torchvision', 'onnx') if f(n)])",
    )
    assert found.strip() == "[]"


def test_the_wheel_predicts_with_openvino_which_reports_nothing(
    python: Path, wheel: Path, bundle: Path, images: Path
) -> None:
    _install(python, f"assay-deploy[openvino] @ {wheel.as_uri()}")
    code = (
        "import sys; from importlib.util import find_spec; from assay_deploy.cli import main;"
        "assert find_spec('openvino_telemetry'); code = main(sys.argv[1:]);"
        "there = {name for name, module in sys.modules.items() if module};"
        "sys.exit(code or any(name.startswith('openvino_telemetry') for name in there) or 'openvino' not in there)"
    )
    assert len(_check(python, "-c", code, "predict", bundle, images, "--engine", "openvino").splitlines()) == 40
    assert "No problems found." in _check(python, "-c", code, "doctor", bundle, "--engine", "openvino")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith(("assay_deploy/", "assay_deploy-")) for name in names)
    assert {f"assay_deploy/{path.name}" for path in (DEPLOY / "src" / "assay_deploy").glob("*.py")} <= set(names)
