"""A session computes what the probe says, where it was asked to, or says why not."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.onnxruntime.runtime import CPU, CUDA, stray_nodes
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.errors import AssayError, BundleError, RuntimeUnavailableError
from tests.deploy.weights import weights_beside

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


def test_a_batch_computes_what_its_images_do_one_by_one(session: Session, bundle: Path) -> None:
    images = np.load(bundle / "probe.npz")["images"]
    (output,) = session.outputs
    singly = np.concatenate([session.run(images[i : i + 1])[output] for i in range(len(images))])
    np.testing.assert_allclose(session.run(images)[output], singly, atol=1e-6)


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
    with pytest.raises(BundleError, match=r"model\.onnx: a name in the graph is not valid UTF-8"):
        Session.load(bundle, manifest, replace(artifact, sha256=sha256(content)))


def test_importing_the_package_does_not_import_the_runtime() -> None:
    code = (
        "import sys, assay_deploy.cli, assay_deploy.doctor; "
        "print([m for m in ('onnxruntime', 'openvino', 'onnx', 'torch', 'torchvision') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_errors_are_of_one_family() -> None:
    assert issubclass(BundleError, AssayError)
    assert issubclass(RuntimeUnavailableError, AssayError)


def test_a_precision_runs_only_where_it_was_proven(bundle: Path, manifest: Manifest) -> None:
    artifact = replace(manifest.artifact("onnx"), precision="int8", device="cpu")
    assert Session.load(bundle, manifest, artifact, provider="auto").provider == "cpu"
    with pytest.raises(RuntimeUnavailableError, match="int8 graph was proven only on cpu, not on cuda"):
        Session.load(bundle, manifest, artifact, provider="cuda")
    with pytest.raises(RuntimeUnavailableError, match="fp16 graph was proven only on cuda, not on cpu"):
        Session.load(bundle, manifest, replace(artifact, precision="fp16", device="cuda"), provider="cpu")


def test_weights_beside_the_graph_are_those_that_were_hashed(
    bundle: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.load(bundle / "probe.npz")["images"]
    expected = Session.load(bundle, manifest, manifest.artifact("onnx"), provider="cpu").run(images)["logits"]
    artifact = weights_beside(bundle, manifest)
    monkeypatch.chdir(tmp_path)  # a file of that name where the process runs is not looked at
    (tmp_path / "model.onnx.data").write_bytes(bytes((bundle / "model.onnx.data").stat().st_size))
    session = Session.load(bundle, manifest, artifact, provider="cpu")
    np.testing.assert_array_equal(session.run(images)["logits"], expected)

    content = bytearray((bundle / "model.onnx.data").read_bytes())
    content[0] ^= 1
    (bundle / "model.onnx.data").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx\.data: not the file that was proven"):
        Session.load(bundle, manifest, artifact)


def test_weights_that_the_manifest_does_not_name_are_not_read(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = weights_beside(bundle, manifest)
    monkeypatch.chdir(bundle)
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx: onnxruntime .* cannot load it"):
        Session.load(bundle, manifest, replace(artifact, beside=()))
