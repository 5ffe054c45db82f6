"""Every engine of the registry gives what the probe says, alone and in several threads at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay_deploy.bundle.folder import read_manifest
from assay_deploy.bundle.manifest import Manifest
from assay_deploy.engines.engine import Engine
from assay_deploy.engines.machine import available_cores
from assay_deploy.engines.registry import ENGINES
from assay_deploy.tasks.registry import TASKS


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def test_an_engine_says_what_it_is(engine: Engine, manifest: Manifest) -> None:
    assert ENGINES[engine.name] is engine
    assert engine.installed()
    assert all(engine.versions().values())
    assert any("CPU" in device for device in engine.devices())
    assert all(engine.runs(artifact) for artifact in manifest.artifacts)
    assert not engine.runs(replace(manifest.artifacts[0], format="torchscript"))


@pytest.mark.parametrize("which", ["bundle", "detector_bundle"])
def test_an_engine_reproduces_the_probe(engine: Engine, which: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(which)
    manifest = read_manifest(bundle)
    probe = np.load(bundle / "probe.npz")
    for artifact in manifest.artifacts:
        session = engine.load(bundle, manifest, artifact, provider="cpu")
        expected = {name: probe[artifact.probe_name(name)] for name in session.outputs}
        found = session.run(probe["images"])
        assert {name: array.dtype for name, array in found.items()} == {n: a.dtype for n, a in expected.items()}
        off = TASKS[manifest.task].differences(found, expected)
        assert all(off[name] <= artifact.tolerances[name] for name in artifact.outputs)


def test_runs_at_once_do_not_mix(engine: Engine, bundle: Path, manifest: Manifest) -> None:
    session = engine.load(bundle, manifest, manifest.artifact("onnx"), provider="cpu", threads=1)
    batches = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8, 3), np.uint8)
    alone = [session.run(batch)["logits"] for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: session.run(batch)["logits"], batches))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_session_says_where_it_runs(engine: Engine, bundle: Path, manifest: Manifest) -> None:
    session = engine.load(bundle, manifest, manifest.artifact("onnx"), provider="cpu", threads=1)
    assert (session.provider, session.threads, session.outputs, session.fallback) == ("cpu", 1, ("logits",), "")
    assert any(node.op.startswith("Conv") for node in session.placement)
    assert all("CPU" in node.provider for node in session.placement)
    assert list(session.stray) == []
    assert engine.load(bundle, manifest, manifest.artifact("onnx")).threads == available_cores()
