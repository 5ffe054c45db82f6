"""A manifest that is well-formed and cannot be true is refused, and the error says which part."""

from collections.abc import Callable
from pathlib import Path

import pytest

from assay_deploy.bundle.folder import MANIFEST, read_manifest
from assay_deploy.errors import BundleError
from tests.deploy.mutations import Document, edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=1), "manifest version 1, but this assay-deploy reads version 3"),
        (lambda d: d.update(version=4), "manifest version 4, but this assay-deploy reads version 3"),
        (lambda d: d.update(version=True), "manifest version True"),
        (lambda d: d.update(version="1"), "manifest version '1'"),
        (lambda d: d.pop("version"), "manifest version None"),
        (lambda d: d.update(surprise=1), "unknown key 'surprise'; known are version, name"),
        (lambda d: d["source"].update(author="x"), r"manifest\.source: unknown key 'author'"),
        (lambda d: d["artifacts"][1].update(cache=0), r"manifest\.artifacts\[1\]: unknown key 'cache'"),
        (lambda d: d.pop("labels"), "'labels' is missing"),
        (lambda d: d["views"][0].pop("flip"), r"manifest\.views\[0\]: 'flip' is missing"),
        (lambda d: d.update(labels="red"), r'manifest\.labels: expected a list, got str "red"'),
        (lambda d: d["artifacts"][0].update(views=1.0), "views: expected int, got float"),
        (lambda d: d["artifacts"][0].update(views=True), "views: expected int, got bool"),
        (lambda d: d["artifacts"][0].update(views=3), "runs 3 views, but the manifest lists 2"),
        (lambda d: d["artifacts"][0].update(views=0), "runs 0 views"),
        (lambda d: d["artifacts"][0]["tolerances"].update(logits=0), r"has the tolerances \{'logits': 0"),
        (lambda d: d["artifacts"][0]["tolerances"].update(logits=10**400), "logits: expected float, got int"),
        (lambda d: d["artifacts"][0]["tolerances"].update(logits=float("nan")), "logits: expected a number, got nan"),
        (lambda d: d["artifacts"][0]["tolerances"].update(logits=float("inf")), "logits: expected a number, got inf"),
        (lambda d: d["artifacts"][0].update(tolerances={}), r"has the tolerances \{\}, expected one above 0 for each"),
        (lambda d: d["artifacts"][0].update(outputs=["odds"]), r"computes \['odds'\], the manifest's outputs are"),
        (lambda d: d["artifacts"][0].update(outputs=[]), r"computes \[\], the manifest's outputs are"),
        (lambda d: d["artifacts"][0].update(dense=0), "model.onnx is dense with stride 0 and 1 views"),
        (lambda d: d["artifacts"][1].update(dense=8), "model_tta.onnx is dense with stride 8 and 2 views"),
        (lambda d: d["artifacts"][0].update(precision="fp8"), "unknown precision 'fp8'; known are fp32"),
        (lambda d: d["artifacts"][0].update(device="tpu"), "unknown device 'tpu'; known are any, cpu, cuda"),
        (lambda d: d["artifacts"][0].update(format="pickle"), "unknown format 'pickle'"),
        (lambda d: d["artifacts"][0].update(sha256="F" * 64), "is not 64 hex digits"),
        (lambda d: d["artifacts"][0].update(path="../model.onnx"), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path="a/../../model.onnx"), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path="/etc/passwd"), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path="C:model.onnx"), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path="a\\b.onnx"), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path=""), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path="."), "not a plain path inside the bundle"),
        (lambda d: d["artifacts"][0].update(path="model\0.onnx"), "control character"),
        (lambda d: d["artifacts"][0].update(beside=None), "beside: expected a list, got NoneType null"),
        (
            lambda d: d["artifacts"][1].update(beside=[{"path": "../w.data", "sha256": "0" * 64}]),
            "'../w.data' is not a plain path inside the bundle",
        ),
        (
            lambda d: d["artifacts"][1].update(beside=[{"path": "w.data", "sha256": "0" * 63}]),
            "sha256 of 'w.data' is not 64 hex digits",
        ),
        (lambda d: d["parity"].update(path="/etc/passwd"), "not a plain path inside the bundle"),
        (lambda d: d["report"].update(path="../parity.html"), "not a plain path inside the bundle"),
        (lambda d: d["sbom"].update(path="/sbom.json"), "not a plain path inside the bundle"),
        (lambda d: d["labels"].__setitem__(0, "\x1b[31mred"), "control character"),
        (lambda d: d["labels"].__setitem__(0, "\ud800"), "half a surrogate pair"),
        (lambda d: d["toolchain"].update({"\x1b[31mtorch": "2"}), "control character"),
        (lambda d: d["toolchain"].update({"\ud800": 2}), "half a surrogate pair"),
        (lambda d: d["labels"].pop(), r"tensor 'logits' must be float32 \['batch', 4\]"),
        (lambda d: d.update(labels=[]), "at least one label"),
        (lambda d: d.update(artifacts=[]), "at least one artifact"),
        (lambda d: d.update(inputs=[]), "exactly one input"),
        (lambda d: d["inputs"][0].update(dtype="float32"), "tensor 'images' must be uint8"),
        (lambda d: d.update(task="segmentation"), "unknown task 'segmentation'; known are classification and detec"),
        (
            lambda d: d.update(task="detection"),
            r"outputs \['logits', 'probabilities'\], expected boxes, scores, labels",
        ),
        (
            lambda d: d["outputs"].reverse() or d["outputs"].append(d["outputs"][0]),
            r"expected logits, probabilities or both",
        ),
        (lambda d: d.update(views=[]), "at least one view"),
        (lambda d: d["preprocess"].update(fit="pad"), "canvas fit must be stretch or letterbox"),
        (lambda d: d["preprocess"].update(height=0), "at least one pixel"),
        (lambda d: d["preprocess"].update(height=10**12), "at most"),
        (lambda d: d["views"][1].update(crop="left"), "crop must be one of"),
        (lambda d: d["views"][1].update(size="big"), "expected int or null, got str"),
    ],
)
def test_a_manifest_that_lies_is_refused(bundle: Path, change: Callable[[Document], object], message: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=message) as caught:
        read_manifest(bundle)
    assert str(caught.value).startswith(str(bundle / MANIFEST))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["outputs"][0].update(shape=["batch", 3, 4]), r"'boxes' must be float32 \['batch', 2, 4\]"),
        (lambda d: d["outputs"][1].update(shape=["batch", "places"]), r"'boxes' must be float32 \['batch', 1, 4\]"),
        (lambda d: d["outputs"][2].update(dtype="float32"), r"'labels' must be int64 \['batch', 2\]"),
        (lambda d: d["outputs"].pop(), "expected boxes, scores, labels"),
        (lambda d: d["artifacts"][0]["outputs"].pop(), r"computes \['boxes', 'scores'\]"),
        (lambda d: d["artifacts"][0]["outputs"].__setitem__(2, "scores"), r"computes \['boxes', 'scores', 'scores'\]"),
        (lambda d: d["artifacts"][0]["outputs"].reverse(), r"computes \['labels', 'scores', 'boxes'\]"),
        (lambda d: d["artifacts"][0]["tolerances"].pop("labels"), "expected one above 0 for each of boxes, scores, l"),
    ],
)
def test_a_detectors_manifest_that_lies_is_refused(
    detector_bundle: Path, change: Callable[[Document], object], message: str
) -> None:
    read_manifest(detector_bundle)
    edit(detector_bundle, change)
    with pytest.raises(BundleError, match=message):
        read_manifest(detector_bundle)
