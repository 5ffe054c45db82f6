"""A manifest tells its files and finds an artifact, or says which there are."""

from dataclasses import replace
from pathlib import Path

import pytest

from assay_deploy.bundle.folder import MANIFEST, read_manifest, read_verified, sha256, write_manifest
from assay_deploy.bundle.manifest import File, Manifest
from assay_deploy.errors import BundleError


def test_a_manifest_without_files_beside_has_no_word_of_them(bundle: Path, manifest: Manifest) -> None:
    before = (bundle / MANIFEST).read_bytes()
    assert b"beside" not in before
    write_manifest(manifest, bundle)
    assert (bundle / MANIFEST).read_bytes() == before


def test_files_beside_an_artifact_are_files_of_the_bundle(bundle: Path, manifest: Manifest) -> None:
    weights = File("weights/model.data", sha256(b"weights"))
    artifacts = tuple(replace(artifact, beside=(weights,)) for artifact in manifest.artifacts)
    write_manifest(replace(manifest, artifacts=artifacts), bundle)
    found = read_manifest(bundle)
    assert found.artifacts == artifacts
    assert [entry.path for entry in found.files].count("weights/model.data") == 1
    with pytest.raises(BundleError, match=r"weights/model\.data: listed in the manifest, but cannot be read"):
        read_verified(bundle, weights)
    (bundle / "weights").mkdir()
    (bundle / "weights" / "model.data").write_bytes(b"weights")
    assert read_verified(bundle, weights) == b"weights"


def test_an_artifact_that_is_not_there_is_named_with_those_that_are(manifest: Manifest) -> None:
    with pytest.raises(
        BundleError, match=r"no plain fp32 torchscript graph; it has model\.onnx \(onnx, fp32, plain\), model_tta"
    ):
        manifest.artifact("torchscript")
    plain = replace(manifest, artifacts=manifest.artifacts[:1])
    with pytest.raises(BundleError, match="no fp32 onnx graph with test-time augmentation"):
        plain.artifact("onnx", tta=True)
