"""A task that nobody knew of goes all the way from manifest to printed answer, once it is in the registry."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from assay_deploy.bundle.difference import largest_differences
from assay_deploy.bundle.folder import read_manifest, sha256, write_manifest
from assay_deploy.bundle.manifest import Artifact, File, Manifest, Tensor
from assay_deploy.cli import main
from assay_deploy.errors import BundleError
from assay_deploy.tasks.options import Option, OptionValues, positive
from assay_deploy.tasks.registry import TASKS
from assay_deploy.tasks.result import columns
from assay_deploy.tasks.task import ImageInfo, Outputs, RequiredTensor

SIDE = 8
ENGINES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Count:
    """Number of bright pixels of an image."""

    path: Path
    pixels: float


class Blobs:
    """Counts bright pixels: one number an image."""

    name = "blobs"
    model_kind = "counter"
    dense = False
    options = (Option("digits", "D", positive, "of a counter: digits behind the point", in_text=1, in_json=3),)

    def outputs(self, manifest: Manifest) -> list[RequiredTensor]:
        (count,) = manifest.outputs
        if count.name != "count":
            raise BundleError(f"outputs {[count.name]}, expected count")
        return [(count, "float32", ("batch",))]

    def artifact_outputs(self, manifest: Manifest) -> list[tuple[str, ...]]:
        return [("count",)]

    def results(self, outputs: Outputs, read: Sequence[ImageInfo], manifest: Manifest) -> Iterator[Count]:
        for image, count in zip(read, outputs["count"], strict=True):
            yield Count(image.path, float(count))

    def differences(self, found: Outputs, expected: Outputs) -> dict[str, float]:
        return largest_differences(found, expected)

    def text(self, result: Count, options: OptionValues) -> str:
        return columns(result.path, f"{result.pixels:.{options['digits']}f}")

    def json(self, result: Count, options: OptionValues) -> dict[str, Any]:
        return {"path": str(result.path), "count": round(result.pixels, options["digits"])}


def counting_graph() -> bytes:
    """Counts pixels brighter than 100, each channel as a third of a pixel."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Greater", ["floats", "least"], ["bright"], "bright"),
        helper.make_node("Cast", ["bright"], ["ones"], "to_ones", to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "axes"], ["sum"], "sum", keepdims=0),
        helper.make_node("Div", ["sum", "channels"], ["count"], "per_pixel"),
    ]
    weights = {
        "least": np.array(100, np.float32),
        "axes": np.array([1, 2, 3], np.int64),
        "channels": np.array(3, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "counter",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("count", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture
def blobs_bundle(bundle: Path, manifest: Manifest) -> Path:
    """A bundle of a task that only the test knows."""
    content, buffer = counting_graph(), io.BytesIO()
    images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
    np.savez(buffer, images=images, count=(images > 100).sum((1, 2, 3)).astype(np.float32) / 3)
    (bundle / "model_tta.onnx").unlink()
    (bundle / "model.onnx").write_bytes(content)
    (bundle / "probe.npz").write_bytes(buffer.getvalue())
    tolerances = {"count": 1e-3}
    artifact = Artifact("onnx", "fp32", "any", 1, None, ("count",), tolerances, True, {}, "model.onnx", sha256(content))
    write_manifest(
        replace(
            manifest,
            task="blobs",
            artifacts=(artifact,),
            probe=File("probe.npz", sha256(buffer.getvalue())),
            outputs=(Tensor("count", "float32", ("batch",), "bright pixels"),),
            labels=("bright",),
            views=manifest.views[:1],
        ),
        bundle,
    )
    return bundle


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """An image with five bright pixels, the last of them in one channel alone."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[2, 1:5] = 200
    pixels[5, 5, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    return tmp_path / "slide.png"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "blobs", Blobs())


def test_a_task_that_is_not_registered_is_refused(blobs_bundle: Path) -> None:
    with pytest.raises(BundleError, match="unknown task 'blobs'; known are classification and detection"):
        read_manifest(blobs_bundle)


@pytest.mark.usefixtures("registered")
def test_a_registered_tasks_rules_hold_for_manifests(blobs_bundle: Path) -> None:
    manifest = read_manifest(blobs_bundle)
    (output,) = manifest.outputs
    for lie, message in (
        ({"outputs": (replace(output, shape=("batch", 1)),)}, r"'count' must be float32 \['batch'\], not float32"),
        ({"outputs": (replace(output, name="sum"),)}, r"outputs \['sum'\], expected count"),
        ({"artifacts": (replace(manifest.artifacts[0], dense=4),)}, "only a classifier can be dense"),
        ({"artifacts": (replace(manifest.artifacts[0], outputs=("sum",)),)}, r"computes \['sum'\]"),
    ):
        write_manifest(replace(manifest, **lie), blobs_bundle)
        with pytest.raises(BundleError, match=message):
            read_manifest(blobs_bundle)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_registered_task_predicts_in_text_and_json(
    blobs_bundle: Path, slide: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "--engine", engine, str(blobs_bundle), str(slide)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{slide}\t4.3\n"
    assert main([*command, "--digits", "2"]) == 0
    assert capsys.readouterr().out == f"{slide}\t4.33\n"
    assert main([*command, str(blobs_bundle / "gone.png"), "--json"]) == 1
    counted, gone = map(json.loads, capsys.readouterr().out.splitlines())
    assert counted == {"path": str(slide), "count": 4.333}
    assert set(gone) == {"path", "error"}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("engine", ENGINES)
def test_the_doctor_replays_a_registered_task(
    blobs_bundle: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(blobs_bundle), "--engine", engine]) == 0
    text = capsys.readouterr().out
    assert "tiny, blobs, manifest version 3" in text
    assert "ok      probe count differs by" in text
    probe = dict(np.load(blobs_bundle / "probe.npz"))
    probe["count"][1] += 0.5
    buffer = io.BytesIO()
    np.savez(buffer, **probe)
    (blobs_bundle / "probe.npz").write_bytes(buffer.getvalue())
    manifest = replace(read_manifest(blobs_bundle), probe=File("probe.npz", sha256(buffer.getvalue())))
    write_manifest(manifest, blobs_bundle)
    assert main(["doctor", str(blobs_bundle), "--engine", engine]) == 1
    assert "output 'count' differs from the eager model's by up to 0.5" in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_every_task_refuses_the_options_of_the_others(
    blobs_bundle: Path, master_bundle: Path, slide: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for bundle, option, message in (
        (blobs_bundle, "--top", "contains a counter, which does not take --top. Its own options: --digits"),
        (master_bundle, "--digits", "contains a classifier, which does not take --digits. Its own options: --top"),
    ):
        assert main(["predict", str(bundle), str(slide), option, "1"]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "of a counter: digits behind the point, default 1, with --json 3" in " ".join(
        capsys.readouterr().out.split()
    )
