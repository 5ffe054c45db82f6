"""A bundle that is not as it was written ends in a clear error: it neither loads nor crashes what loads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay_deploy.bundle.folder import MANIFEST, read_manifest
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.bundle.strict_json import encode
from assay_deploy.cli import main
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.errors import BundleError, RuntimeUnavailableError
from tests.deploy.mutations import any_fault, any_signed_fault, mutated, snapshot

REFUSED = (BundleError, RuntimeUnavailableError)


def load(bundle: Path) -> tuple[Manifest, list[dict[str, np.ndarray[Any, Any]]]]:
    """The manifest, and what each graph makes of a few images."""
    manifest = read_manifest(bundle)
    canvas = manifest.preprocess
    images = np.random.default_rng(0).integers(0, 256, (2, canvas.height, canvas.width, 3), np.uint8)
    graphs = [Session.load(bundle, manifest, artifact, provider="cpu", threads=1) for artifact in manifest.artifacts]
    return manifest, [graph.run(images) for graph in graphs]


def doctor(bundle: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """The doctor's exit code, once its text is found to go with it."""
    code = main(["doctor", str(bundle), "--provider", "cpu"])
    said = capsys.readouterr()
    assert ("No problems found." in said.out) == (code == 0)
    assert said.err == ""
    return code


def test_no_altered_bundle_loads(master_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, (sound, answers) = snapshot(master_bundle), load(master_bundle)
    refused = 0
    for bundle in mutated(master_bundle, tmp_path, any_fault, 300):
        altered = {name for name, content in whole.items() if snapshot(bundle).get(name) != content}
        assert doctor(bundle, capsys) == (1 if altered else 0), bundle
        refused += bool(altered)
        try:
            manifest, found = load(bundle)
        except REFUSED:
            assert altered, bundle
        else:
            assert not altered & {MANIFEST, *(artifact.path for artifact in sound.artifacts)}, bundle
            assert manifest == sound
            np.testing.assert_equal(found, answers)
    assert refused > 280


@pytest.mark.parametrize("name", ["master_bundle", "detector_bundle"])
def test_what_is_hashed_anew_is_refused_or_is_what_it_says(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = 0
    for bundle in mutated(request.getfixturevalue(name), tmp_path, any_signed_fault, 150):
        code = doctor(bundle, capsys)
        try:
            manifest, found = load(bundle)
        except REFUSED:
            refused += 1
        else:
            assert json.loads(json.dumps(encode(manifest))) == json.loads((bundle / MANIFEST).read_bytes()), bundle
            assert [set(outputs) for outputs in found] == [set(each.outputs) for each in manifest.artifacts]
        assert code in (0, 1)
    assert 50 < refused < 150
