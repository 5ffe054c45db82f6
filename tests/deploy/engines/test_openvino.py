"""OpenVINO runs what was proven, in float32 and from hashed bytes, and reports to nobody."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.openvino import INSTALL, OpenVino, import_openvino
from assay_deploy.errors import BundleError, RuntimeUnavailableError
from tests.deploy.weights import weights_beside

ENGINE = OpenVino()


def test_graphs_are_computed_in_float32_by_the_threads_asked_for(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, asked = import_openvino(), []
    compile_model = package.Core.compile_model

    def watched(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return compile_model(*arguments)

    monkeypatch.setattr(package.Core, "compile_model", watched)
    monkeypatch.setattr("assay_deploy.engines.openvino.available_cores", lambda: 8)
    for threads, streams in ((1, 8), (2, 4), (8, 1), (16, 1)):
        ENGINE.load(bundle, manifest, manifest.artifact("onnx"), threads=threads)
        assert asked.pop() == {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
        }


def test_only_what_was_proven_in_float32_is_run(bundle: Path, manifest: Manifest) -> None:
    for precision in ("fp16", "int8"):
        artifact = replace(manifest.artifact("onnx"), precision=precision)
        assert not ENGINE.runs(artifact)
        with pytest.raises(BundleError, match=rf"a onnx file in {precision}, but OpenVINO runs only onnx in fp32"):
            ENGINE.load(bundle, manifest, artifact)


def test_cuda_is_an_error(bundle: Path, manifest: Manifest) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx: OpenVINO has no CUDA"):
        ENGINE.load(bundle, manifest, manifest.artifact("onnx"), provider="cuda")


def test_weights_that_it_would_read_by_path_are_refused(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = weights_beside(bundle, manifest)
    monkeypatch.chdir(bundle)  # where it would find them
    for refused in (artifact, replace(artifact, beside=())):
        with pytest.raises(BundleError, match=r"has weights in external files.*Use --engine onnxruntime"):
            ENGINE.load(bundle, manifest, refused)
    whole = replace(manifest.artifact("onnx", tta=True), beside=artifact.beside)
    with pytest.raises(BundleError, match=r"has weights in external files"):
        ENGINE.load(bundle, manifest, whole)


def test_a_graph_that_cannot_be_loaded_is_named(bundle: Path, manifest: Manifest) -> None:
    (bundle / "model.onnx").write_bytes(b"not a graph")
    artifact = replace(manifest.artifact("onnx"), sha256=sha256(b"not a graph"))
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx: openvino 20.* cannot load it"):
        ENGINE.load(bundle, manifest, artifact)


def test_an_engine_that_is_not_there_is_an_error_with_the_command_that_helps(site: Path, bundle: Path) -> None:
    for command in ("predict", "doctor"):
        result = subprocess.run(
            [sys.executable, "-S", "-m", "assay_deploy", command, str(bundle), "--engine", "openvino"]
            + ["image.png"] * (command == "predict"),
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(site)},
            check=False,
        )
        assert result.returncode == (2 if command == "predict" else 1)
        assert f"OpenVINO is not installed: `{INSTALL}`" in result.stderr + result.stdout
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("ours", [False, True], ids=["plain import", "assay-deploy"])
def test_the_package_that_reports_never_runs(tmp_path: Path, ours: bool) -> None:
    package = tmp_path / "packages" / "openvino_telemetry"
    (package / "backend").mkdir(parents=True)
    mark = tmp_path / "reported"
    for path in (package / "__init__.py", package / "backend" / "__init__.py", package / "backend" / "backend_ga4.py"):
        path.write_text(f"open({str(mark)!r}, 'w').close()")
    (package / "__init__.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Telemetry: pass\n")
    how = "from assay_deploy.engines.openvino import import_openvino as f; f()" if ours else "import openvino"
    code = f"import sys; sys.path.insert(0, {str(package.parent)!r}); {how}; import openvino.tools.ovc.main"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=tmp_path)
    assert mark.exists() != ours


def test_the_floor_of_the_extra_is_the_one_that_errors_name() -> None:
    pyproject = Path(__file__).parents[3] / "deploy" / "pyproject.toml"
    assert f"openvino = [{INSTALL.partition(' install ')[2]}]" in pyproject.read_text()
