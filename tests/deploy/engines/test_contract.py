"""Whatever engine loads it, a graph is held to what the manifest declares of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.engine import Engine
from assay_deploy.engines.registry import ENGINES
from assay_deploy.errors import BundleError, RuntimeUnavailableError


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.mark.parametrize("tta", [False, True], ids=["plain", "tta"])
@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)],
)
def test_what_is_no_batch_of_canvases_is_refused(
    engine: Engine, bundle: Path, manifest: Manifest, tta: bool, images: NDArray[Any]
) -> None:
    session = engine.load(bundle, manifest, manifest.artifact("onnx", tta=tta), provider="cpu")
    with pytest.raises(ValueError, match=r"expected uint8 \[batch, 8, 8, 3\], got"):
        session.run(images)


def test_outputs_of_another_shape_are_refused(engine: Engine, bundle: Path, manifest: Manifest) -> None:
    outputs = tuple(replace(tensor, shape=("batch", 4)) for tensor in manifest.outputs)
    session = engine.load(bundle, replace(manifest, outputs=outputs), manifest.artifact("onnx"))
    with pytest.raises(
        BundleError, match=r"model\.onnx: output logits has the shape \[2, 5\], but the manifest declares \[2, 4\]"
    ):
        session.run(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_graph_that_is_not_the_manifests_is_refused(engine: Engine, bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.artifact("onnx")
    with pytest.raises(BundleError, match=r"gives .*logits.*the manifest declares probabilities"):
        engine.load(bundle, manifest, replace(artifact, outputs=("probabilities",)))
    outputs = tuple(replace(tensor, dtype="int64") for tensor in manifest.outputs)
    with pytest.raises(BundleError, match=r"gives .*'logits': 'float32'.*the manifest declares logits \(int64\)"):
        engine.load(bundle, replace(manifest, outputs=outputs), artifact)
    with pytest.raises(BundleError, match=r"gives .*logits.*the manifest declares odds \(None\)"):
        engine.load(bundle, manifest, replace(artifact, outputs=("odds",)))
    for change in ({"name": "pixels"}, {"dtype": "float32"}):
        other = replace(manifest, inputs=(replace(manifest.inputs[0], **change),))
        with pytest.raises(BundleError, match=r"takes .*images.*the manifest declares (pixels|images \(float32\))"):
            engine.load(bundle, other, artifact)
    with pytest.raises(BundleError, match="torchscript file"):
        engine.load(bundle, manifest, replace(artifact, format="torchscript"))


def test_an_artifact_runs_only_where_it_was_proven(engine: Engine, bundle: Path, manifest: Manifest) -> None:
    artifact = replace(manifest.artifact("onnx"), device="cpu")
    assert engine.load(bundle, manifest, artifact).provider == "cpu"
    with pytest.raises(RuntimeUnavailableError, match="fp32 graph was proven only on cpu"):
        engine.load(bundle, manifest, artifact, provider="cuda")
    with pytest.raises(RuntimeUnavailableError, match="fp32 graph was proven only on cuda"):
        engine.load(bundle, manifest, replace(artifact, device="cuda"), provider="cpu")
    with pytest.raises(ValueError, match="provider must be one of auto, cuda, cpu, got 'tpu'"):
        engine.load(bundle, manifest, artifact, provider="tpu")


def test_a_damaged_file_never_reaches_an_engine(engine: Engine, bundle: Path, manifest: Manifest) -> None:
    artifact = manifest.artifact("onnx")
    (bundle / artifact.path).write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="not the file that was proven"):
        engine.load(bundle, manifest, artifact)
