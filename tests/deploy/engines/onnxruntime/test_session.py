"""A session computes what the probe says, where it was asked to, or says why not."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.runtime import CPU, CUDA, MINIMUM, stray_nodes
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.errors import AssayError, BundleError, RuntimeUnavailableError

HAS_CUDA = CUDA in onnxruntime.get_available_providers()
without_cuda = pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")


@pytest.fixture(params=[False, True], ids=["plain", "tta"])
def session(bundle: Path, manifest: Manifest, request: pytest.FixtureRequest) -> Session:
    return Session.load(bundle, manifest, manifest.artifact("onnx", tta=request.param), provider="cpu")


def test_a_session_reproduces_the_probe(session: Session, bundle: Path) -> None:
    probe = np.load(bundle / "probe.npz")
    (output,) = session.outputs
    scores = session.run(probe["images"])[output]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, probe[output if output == "logits" else "probabilities_tta"], atol=1e-5)


def test_a_batch_computes_what_its_pictures_do_one_by_one(session: Session, bundle: Path) -> None:
    images = np.load(bundle / "probe.npz")["images"]
    (output,) = session.outputs
    singly = np.concatenate([session.run(images[i : i + 1])[output] for i in range(len(images))])
    np.testing.assert_allclose(session.run(images)[output], singly, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)],
)
def test_what_is_no_batch_of_canvases_is_refused(session: Session, images: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[batch, 8, 8, 3\], got"):
        session.run(images)


def test_every_node_has_a_place_and_only_compute_counts_as_stray(session: Session) -> None:
    placed = {node.op for node in session.placement}
    assert {"Conv", "Relu", "Gemm", "GlobalAveragePool"} <= placed
    assert {node.provider for node in session.placement} == {CPU}
    assert stray_nodes(session.placement, CPU) == []
    strays = {node.op for node in stray_nodes(session.placement, CUDA)}
    assert {"Conv", "Relu", "Gemm", "GlobalAveragePool", "Transpose"} <= strays
    assert not {"Reshape", "Concat", "Cast"} & strays


def test_one_node_off_the_device_is_found_among_many(session: Session) -> None:
    nodes = [replace(node, provider=CUDA) for node in session.placement]
    assert stray_nodes(nodes, CUDA) == []
    conv = next(i for i, node in enumerate(nodes) if node.op == "Conv")
    nodes[conv] = session.placement[conv]
    assert stray_nodes(nodes, CUDA) == [session.placement[conv]]


@without_cuda
def test_auto_takes_the_cpu_where_there_is_no_cuda(bundle: Path, manifest: Manifest) -> None:
    session = Session.load(bundle, manifest, manifest.artifact("onnx"))
    assert session.provider == "cpu"
    assert session.threads == available_cores()


@without_cuda
@pytest.mark.parametrize("allow_fallback", [False, True])
def test_cuda_is_an_error_where_there_is_none(bundle: Path, manifest: Manifest, allow_fallback: bool) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx: .*has no CUDA.*pip install .onnxruntime-gpu"):
        Session.load(bundle, manifest, manifest.artifact("onnx"), provider="cuda", allow_fallback=allow_fallback)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="this ONNX Runtime has no CUDA")
@pytest.mark.parametrize("tta", [False, True])
def test_cuda_reproduces_the_probe_with_every_compute_node_on_it(bundle: Path, manifest: Manifest, tta: bool) -> None:
    session = Session.load(bundle, manifest, manifest.artifact("onnx", tta=tta), provider="cuda")
    probe = np.load(bundle / "probe.npz")
    (output,) = session.outputs
    expected = probe[f"{output}_tta" if tta else output]
    np.testing.assert_allclose(session.run(probe["images"])[output], expected, atol=1e-5)
    assert session.provider == "cuda"
    assert stray_nodes(session.placement, CUDA) == []


def test_a_damaged_file_never_reaches_the_runtime(bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.artifact("onnx")
    (bundle / artifact.path).write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="not the file that was proven"):
        Session.load(bundle, manifest, artifact)


def test_a_graph_that_cannot_be_loaded_is_named(bundle: Path, manifest: Manifest) -> None:
    content = b"not a graph"
    (bundle / "model.onnx").write_bytes(content)
    artifact = replace(manifest.artifact("onnx"), sha256=sha256(content))
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx: onnxruntime .* cannot load it"):
        Session.load(bundle, manifest, artifact)


def test_a_graph_whose_names_are_no_text_is_refused(bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.artifact("onnx")
    content = (bundle / artifact.path).read_bytes().replace(b"to_planes", b"to_\xff\xff\xff\xff\xff\xff")
    (bundle / artifact.path).write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx: a name in the graph is no text"):
        Session.load(bundle, manifest, replace(artifact, sha256=sha256(content)))


def test_outputs_of_another_shape_are_refused(bundle: Path, manifest: Manifest) -> None:
    outputs = tuple(replace(tensor, shape=("batch", 4)) for tensor in manifest.outputs)
    session = Session.load(bundle, replace(manifest, outputs=outputs), manifest.artifact("onnx"))
    with pytest.raises(
        BundleError, match=r"model\.onnx: gives logits of the shape \[2, 5\], the manifest says \[2, 4\]"
    ):
        session.run(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_graph_that_is_not_the_manifests_is_refused(bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.artifact("onnx")
    with pytest.raises(BundleError, match=r"gives .*logits.*the manifest says probabilities"):
        Session.load(bundle, manifest, replace(artifact, outputs=("probabilities",)))
    other = replace(manifest, inputs=(replace(manifest.inputs[0], name="pixels"),))
    with pytest.raises(BundleError, match=r"takes .*images.*the manifest says pixels"):
        Session.load(bundle, other, artifact)
    with pytest.raises(BundleError, match="torchscript file"):
        Session.load(bundle, manifest, replace(artifact, format="torchscript"))


def test_available_cores_are_those_of_the_affinity_mask() -> None:
    seen = []

    def pinned() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        seen.append(available_cores())

    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    assert seen == [1]


def test_importing_the_package_does_not_import_the_runtime() -> None:
    code = (
        "import sys, assay_deploy.cli, assay_deploy.doctor; "
        "print([m for m in ('onnxruntime', 'onnx', 'torch', 'torchvision') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages that holds what assay-deploy needs and no ONNX Runtime."""
    import assay_deploy

    installed = Path(np.__file__).parents[1]
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "assay_deploy").symlink_to(Path(assay_deploy.__file__).parent)
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs", "tqdm"):
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    return folder


def _predict(site: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    """Run predict with the packages of `site` and the standard library alone (-S)."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "assay_deploy", "predict", str(bundle), "picture.png"],
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


def test_errors_are_of_one_family() -> None:
    assert issubclass(BundleError, AssayError)
    assert issubclass(RuntimeUnavailableError, AssayError)


def test_a_precision_runs_only_where_it_was_proven(bundle: Path, manifest: Manifest) -> None:
    artifact = replace(manifest.artifact("onnx"), precision="int8", device="cpu")
    assert Session.load(bundle, manifest, artifact, provider="auto").provider == "cpu"
    with pytest.raises(RuntimeUnavailableError, match="int8 and was proven on cpu alone"):
        Session.load(bundle, manifest, artifact, provider="cuda")
    with pytest.raises(RuntimeUnavailableError, match="fp16 and was proven on cuda alone"):
        Session.load(bundle, manifest, replace(artifact, precision="fp16", device="cuda"), provider="cpu")
