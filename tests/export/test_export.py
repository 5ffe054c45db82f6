"""What an export leaves is complete, reads back, runs on any batch and says nothing of the machine it was made on."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from assay_deploy.bundle.folder import CHECKSUM, MANIFEST, read_manifest, read_verified, sha256
from assay_deploy.bundle.manifest import IMAGES, PLAIN, TTA
from assay_deploy.doctor import examine
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.images.canvas import View
from assay_export.export import export_bundle
from assay_export.formats import registry as formats
from assay_export.formats.registry import default_place
from assay_export.gate.probe import enlarged
from assay_research.runs.run import CONFIG, Run
from benchmarks.gpu import outcomes

REPOSITORY = Path(__file__).resolve().parents[2]
ONNX = ("model.onnx", "model_tta.onnx", "model_dense.onnx")


def test_bundle_reads_back_as_a_client_reads_it(bundle):
    manifest = read_manifest(bundle.folder)
    for entry in manifest.files:
        read_verified(bundle.folder, entry)
    assert manifest == bundle.manifest
    files = {MANIFEST, CHECKSUM, *(entry.path for entry in manifest.files)}
    assert {path.name for path in bundle.folder.iterdir()} == files


def test_manifest_says_where_the_model_comes_from(bundle):
    source = bundle.manifest.source
    assert source.run == bundle.run.name
    assert source.config_sha256 == sha256((bundle.run.folder / CONFIG).read_bytes())
    assert source.weights_sha256 == sha256(bundle.run.checkpoint("best").read_bytes())
    assert source.data_sha256 == bundle.data.fingerprint()
    assert {"python", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow"} <= set(
        bundle.manifest.toolchain
    )


def test_manifest_expects_the_eager_scores(bundle):
    labels = bundle.data.test.labels.numpy()
    expected = {score.metric: score for score in bundle.manifest.expected}
    for metric, variant, output in (("top1", PLAIN, "logits"), ("top1_tta", TTA, "probabilities")):
        assert expected[metric].value == (bundle.references[variant].test[output].argmax(1) == labels).mean()
        assert expected[metric].dataset == "digits/test"
        assert expected[metric].n == len(labels)


def test_every_format_and_all_views_are_exported(bundle):
    assert [(a.path, a.format, *a.outputs, a.views, a.dense) for a in bundle.manifest.artifacts] == [
        ("model.torchscript", "torchscript", "logits", 1, None),
        ("model_tta.torchscript", "torchscript", "probabilities", 3, None),
        ("model_dense.torchscript", "torchscript", "logits", 1, 8),
        ("model.onnx", "onnx", "logits", 1, None),
        ("model_tta.onnx", "onnx", "probabilities", 3, None),
        ("model_dense.onnx", "onnx", "logits", 1, 8),
        ("exported.pt2", "exported_program", "logits", 1, None),
        ("exported_tta.pt2", "exported_program", "probabilities", 3, None),
        ("exported_dense.pt2", "exported_program", "logits", 1, 8),
    ]
    assert bundle.manifest.views == (View(), View(flip=True), View(size=36))


def test_a_single_view_gives_no_tta_graph_and_is_looked_through(plain_run: Run, tmp_path):
    exported = export_bundle(plain_run, tmp_path, "plain", say=lambda text: None)
    assert [artifact.path for artifact in exported.manifest.artifacts] == [
        "model.torchscript",
        "model.onnx",
        "exported.pt2",
    ]
    assert [tensor.name for tensor in exported.manifest.outputs] == ["logits"]
    assert exported.manifest.views == (View(size=36),)
    assert "MatMul" in {node.op_type for node in onnx.load(exported.folder / "model.onnx").graph.node}


def test_probe_replays_through_deploy(bundle):
    probe = np.load(bundle.folder / bundle.manifest.probe.path, allow_pickle=False)
    assert set(probe.files) == {"images", "logits", "probabilities_tta", "images_dense", "logits_dense"}
    for artifact in bundle.manifest.artifacts:
        if artifact.format == "onnx":
            session = Session.load(bundle.folder, bundle.manifest, artifact, provider="cpu")
            (output,) = artifact.outputs
            found = session.run(probe[artifact.probe_name(IMAGES)])[output]
            difference = np.abs(found - probe[artifact.probe_name(output)]).max()
            assert difference <= artifact.tolerances[output]


def test_probe_tells_channels_apart_though_digits_are_grey(bundle):
    assert (bundle.data.test.images[..., 0] == bundle.data.test.images[..., 2]).all()
    assert (bundle.probe[..., 0] != bundle.probe[..., 2]).any()


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_any_batch_size_runs_in_every_format(bundle, batch):
    images = bundle.data.test.images[:batch].numpy()
    for artifact in bundle.manifest.artifacts:
        (output,) = artifact.outputs
        run = formats.start(bundle.folder, bundle.manifest, artifact, default_place(artifact, "cpu"))
        found = (run if artifact.dense is None else enlarged(run, artifact.dense))(images)[output]
        assert found.shape == (batch, 10)
        expected = bundle.references[artifact.variant].test[output][:batch]
        assert np.abs(found - expected).max() <= artifact.tolerances[output]


def test_batchnorm_is_folded(bundle):
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in bundle.graphs[PLAIN].modules())
    for path in ONNX:
        assert "BatchNormalization" not in {node.op_type for node in onnx.load(bundle.folder / path).graph.node}


def test_onnx_is_one_file_with_a_batch_named_batch(bundle):
    for path in ONNX:
        model = onnx.load(bundle.folder / path, load_external_data=False)
        assert not any(weight.external_data for weight in model.graph.initializer)
        for tensor in (*model.graph.input, *model.graph.output):
            assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
        assert next(entry.version for entry in model.opset_import if entry.domain == "") >= 18


def test_nothing_in_a_bundle_names_this_machine(bundle):
    contents = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}
    for name in list(contents):  # of archives: what is compressed has to be looked for inside
        if zipfile.is_zipfile(io.BytesIO(contents[name])):
            with zipfile.ZipFile(io.BytesIO(contents[name])) as archive:
                contents |= {f"{name}/{member}": archive.read(member) for member in archive.namelist()}
    private = {Path.home(), REPOSITORY, Path(torch.__file__).parent, bundle.run.folder, bundle.folder}
    for name, content in contents.items():
        for path in private:
            assert str(path).encode() not in content, f"{name} names {path}"
        assert b"stack_trace" not in content, name


def test_files_say_themselves_where_the_model_comes_from(bundle):
    source = asdict(bundle.manifest.source)
    model = onnx.load(bundle.folder / "model.onnx")
    extra = {"assay.json": b""}
    torch.jit.load(bundle.folder / "model.torchscript", _extra_files=extra)
    program = {"assay.json": ""}
    torch.export.load(bundle.folder / "exported.pt2", extra_files=program)
    for found in (
        {entry.key: entry.value for entry in model.metadata_props},
        json.loads(extra["assay.json"]),
        json.loads(program["assay.json"]),
    ):
        assert source.items() <= found.items()


def test_the_same_run_gives_the_same_bytes_again(bundle, tmp_path):
    again = export_bundle(bundle.run, tmp_path, "digits", dense=8, say=lambda text: None)
    for artifact in again.manifest.artifacts:
        before = next(each for each in bundle.manifest.artifacts if each.path == artifact.path)
        assert artifact.reproducible
        assert artifact.sha256 == before.sha256, artifact.path


def test_the_gpu_suite_reads_the_verdict_and_the_doctors_report(bundle):
    found = outcomes.parity(bundle.folder)
    assert len(found) == 9
    assert found["model.onnx on cpu"].startswith("logits differ by ")
    assert f"on the probe; n {len(bundle.data.test)}, " in found["model.onnx on cpu"]
    assert found["model.onnx on cpu"].endswith(", 0 flipped")
    placed = outcomes.placement(json.dumps(examine(bundle.folder, provider="cpu")))
    assert placed["model_tta.onnx"].startswith("runs on cpu, probabilities differ by ")


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(bundle, tmp_path):
    command = [sys.executable, "-m", "assay_export.cli", f"run={bundle.run.folder}", f"bundles={tmp_path}", "dense=8"]
    subprocess.run(command, check=True, capture_output=True)
    again = read_manifest(tmp_path / "digits")
    assert {each.path: each.sha256 for each in again.artifacts} == {
        each.path: each.sha256 for each in bundle.manifest.artifacts
    }
