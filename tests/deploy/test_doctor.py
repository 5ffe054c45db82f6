"""The doctor says what is there, finds what is wrong, and its exit code tells."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay_deploy.bundle.folder import read_manifest, sha256, write_manifest
from assay_deploy.bundle.manifest import File, Manifest
from assay_deploy.cli import main
from assay_deploy.doctor import examine
from tests.deploy.weights import weights_beside


def _replace_probe(bundle: Path, manifest: Manifest, content: bytes) -> None:
    (bundle / "probe.npz").write_bytes(content)
    write_manifest(replace(manifest, probe=File("probe.npz", sha256(content))), bundle)


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_sound_bundle_has_nothing_wrong(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(bundle)]) == 0
    text = capsys.readouterr().out
    for words in (
        "name        tiny, classification, manifest version 3",
        "run tiny/2026-01-01, checkpoint best, commit 0123abc",
        "canvas      8x8 pixels, stretch",
        "labels      5: red, green",
        "mirrored",
        "top1 0.5000",
        "ok      model_tta.onnx",
        "CPUExecutionProvider: ",
        "Conv 1",
        "onnxruntime",
        "pillow",
        "No problems found.",
    ):
        assert words in text
    assert "ok      probe logits differs by" in text
    assert "ok      probe probabilities differs by" in text
    assert "not in the manifest" not in text


def test_json_says_the_same(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(bundle), "--json", "--provider", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == []
    assert report["manifest"]["name"] == "tiny"
    assert [graph["path"] for graph in report["graphs"]] == ["model.onnx", "model_tta.onnx"]
    for graph in report["graphs"]:
        assert graph["ok"]
        assert graph["provider"] == "cpu"
        (output,) = graph["tolerances"]
        assert graph["differences"][output] <= graph["tolerances"][output]
        assert graph["nodes"]["CPUExecutionProvider"]["Conv"] == 1
    assert {"assay-deploy", "python", "numpy", "pillow"} <= set(report["versions"])


def test_every_damaged_file_is_a_problem_and_the_rest_is_examined(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "model.onnx").write_bytes(b"?")
    (bundle / "parity.json").unlink()
    assert main(["doctor", str(bundle)]) == 1
    text = capsys.readouterr().out
    assert "FAILED  model.onnx" in text
    assert "FAILED  parity.json" in text
    assert "2 problems:" in text
    assert f"{bundle / 'model.onnx'}: not the file that was proven" in text
    assert "FAILED  probe logits not run" in text
    assert "ok      probe probabilities differs by" in text


def test_a_graph_that_no_longer_gives_the_probe_is_a_problem(bundle: Path, manifest: Manifest) -> None:
    probe = dict(np.load(bundle / "probe.npz"))
    probe["logits"][2, 1] += 2e-3
    _replace_probe(bundle, manifest, _npz(**probe))
    report = examine(bundle)
    plain, tta = report["graphs"]
    assert not plain["ok"]
    assert plain["differences"]["logits"] == pytest.approx(2e-3, rel=0.05)
    assert tta["ok"]
    assert len(report["problems"]) == 1
    assert (
        "model.onnx: on the probe images, output 'logits' differs from the eager model's by up to 0.00"
        in report["problems"][0]
    )


def test_a_probe_with_nan_is_a_problem(bundle: Path, manifest: Manifest) -> None:
    probe = dict(np.load(bundle / "probe.npz"))
    probe["logits"][0, 0] = np.nan
    _replace_probe(bundle, manifest, _npz(**probe))
    report = examine(bundle)
    assert [graph["ok"] for graph in report["graphs"]] == [False, True]
    assert len(report["problems"]) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        b"",
        _npz(images=np.zeros((1, 8, 8, 3), np.uint8)),
        _npz(images=np.zeros((1, 9, 9, 3), np.uint8), logits=np.zeros((1, 5)), probabilities=np.zeros((1, 5))),
        _npz(images=np.zeros((2, 8, 8, 3), np.uint8), logits=np.zeros((3, 5)), probabilities=np.zeros((3, 5))),
        _npz(images=np.array([{}], dtype=object), logits=np.zeros((1, 5)), probabilities=np.zeros((1, 5))),
    ],
)
def test_what_is_no_probe_is_a_problem(bundle: Path, manifest: Manifest, content: bytes) -> None:
    _replace_probe(bundle, manifest, content)
    report = examine(bundle)
    assert not any(graph["ok"] for graph in report["graphs"])
    assert all("probe.npz: not a probe of this bundle" in problem for problem in report["problems"])
    assert report["problems"]


def test_a_refused_manifest_is_the_problem(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "manifest.json").write_text('{"version": 9}')
    assert main(["doctor", str(bundle)]) == 1
    text = capsys.readouterr().out
    assert "1 problem:" in text
    assert "manifest version 9" in text
    assert "versions" in text


def test_files_that_nothing_names_are_noted(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "extra").mkdir()
    (bundle / "extra" / "notes.txt").touch()
    assert main(["doctor", str(bundle)]) == 0
    assert "note    extra/notes.txt: not in the manifest" in capsys.readouterr().out


def test_a_provider_that_cannot_be_had_is_a_problem(bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    report = examine(bundle, provider="cuda")
    assert len(report["problems"]) == 2
    assert all("has no CUDA" in problem for problem in report["problems"])


def test_what_was_proven_elsewhere_is_noted_and_no_problem(
    bundle: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    plain, tta = manifest.artifacts
    write_manifest(replace(manifest, artifacts=(plain, replace(tta, precision="fp16", device="cuda"))), bundle)
    assert main(["doctor", str(bundle)]) == 0
    assert "note    skipped: " in capsys.readouterr().out
    assert main(["doctor", str(bundle), "--provider", "cuda"]) == 1


def test_a_detector_is_replayed_by_its_boxes(detector_bundle: Path) -> None:
    report = examine(detector_bundle)
    assert report["problems"] == []
    (graph,) = report["graphs"]
    assert set(graph["differences"]) == {"boxes", "scores", "labels"}
    probe = dict(np.load(detector_bundle / "probe.npz"))
    probe["boxes"][:, 0, 2] += 0.3
    _replace_probe(detector_bundle, read_manifest(detector_bundle), _npz(**probe))
    assert (
        "model.onnx: on the probe images, output 'boxes' differs from the eager model's by up to 0.3"
        in examine(detector_bundle)["problems"][0]
    )


def test_weights_beside_a_graph_are_examined(
    bundle: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = (weights_beside(bundle, manifest), manifest.artifacts[1])
    write_manifest(replace(manifest, artifacts=artifacts), bundle)
    assert main(["doctor", str(bundle)]) == 0
    assert "ok      model.onnx.data" in capsys.readouterr().out
    (bundle / "model.onnx.data").write_bytes(b"others")
    report = examine(bundle)
    assert [file["path"] for file in report["files"] if not file["ok"]] == ["model.onnx.data"]
    assert [graph["ok"] for graph in report["graphs"]] == [False, True]
    (problem,) = report["problems"]
    assert "model.onnx.data: not the file that was proven" in problem


def test_the_engine_that_is_asked_for_replays_the_probe(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(bundle), "--engine", "openvino", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["engine"] == "OpenVINO"
    assert "openvino" in report["versions"]
    assert "onnxruntime" not in report["versions"]
    assert [set(graph["nodes"]) for graph in report["graphs"]] == [{"CPU"}, {"CPU"}]


def test_a_bundle_without_a_graph_for_the_engine_is_a_problem(bundle: Path, manifest: Manifest) -> None:
    artifacts = tuple(replace(artifact, precision="int8") for artifact in manifest.artifacts)
    write_manifest(replace(manifest, artifacts=artifacts), bundle)
    (problem,) = examine(bundle, engine="openvino")["problems"]
    assert "has no graph that OpenVINO can run; it has onnx in int8" in problem
