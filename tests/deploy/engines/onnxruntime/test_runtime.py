"""A machine without a usable ONNX Runtime is told what to install."""

import subprocess
import sys
from pathlib import Path

from assay_deploy.engines.onnxruntime.runtime import MINIMUM


def _predict(site: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    """Run predict with the packages of `site` and the standard library alone (-S)."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "assay_deploy", "predict", str(bundle), "image.png"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(site)},
        check=False,
    )


def _pretend_installed(site: Path, name: str) -> None:
    folder = site / f"{name.replace('-', '_')}-1.30.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.30.0\n")


def test_no_runtime_is_an_error_with_the_command_that_helps(site: Path, bundle: Path) -> None:
    result = _predict(site, bundle)
    assert result.returncode == 2
    assert "ONNX Runtime is not installed" in result.stderr
    assert f'pip install "onnxruntime>={MINIMUM}"' in result.stderr
    assert f'pip install "onnxruntime-gpu[cuda,cudnn]>={MINIMUM}"' in result.stderr
    assert "Traceback" not in result.stderr


def test_two_runtimes_are_an_error_with_the_command_that_helps(site: Path, bundle: Path) -> None:
    _pretend_installed(site, "onnxruntime")
    _pretend_installed(site, "onnxruntime-gpu")
    result = _predict(site, bundle)
    assert result.returncode == 2
    assert "onnxruntime 1.30.0 and onnxruntime-gpu 1.30.0 are both installed" in result.stderr
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_runtime_is_an_error_with_the_command_that_helps(site: Path, bundle: Path) -> None:
    _pretend_installed(site, "onnxruntime-gpu")
    result = _predict(site, bundle)
    assert result.returncode == 2
    assert "installed but cannot be imported" in result.stderr
    assert "pip uninstall -y onnxruntime-gpu" in result.stderr


def test_the_floor_of_the_extras_is_the_one_that_errors_name() -> None:
    pyproject = Path(__file__).parents[4] / "deploy" / "pyproject.toml"
    assert pyproject.read_text().count(f">={MINIMUM}") == 2
