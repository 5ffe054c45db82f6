"""A tiny real bundle, made with the onnx package alone, and ways to run the command line on it."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

from assay_deploy.bundle.folder import read_manifest, sha256, write_manifest
from assay_deploy.bundle.manifest import MANIFEST_VERSION, Artifact, Expected, File, Manifest, Source, Tensor
from assay_deploy.images.canvas import Canvas, View

LABELS = ("red", "green", "blue", "dark", "bright")
SIDE = 8


def _graph(views: int) -> onnx.ModelProto:
    """A small classifier of colours; with two views, the second is the mirrored image."""
    # six features: how red, green and blue, and how little of each; noise makes it notice a mirror
    kernel = 0.1 * np.random.default_rng(0).normal(size=(6, 3, 3, 3))
    kernel[:, :, 1, 1] += np.concatenate([np.eye(3), -np.eye(3)])
    head = np.zeros((6, len(LABELS)))
    head[:3, :3] = 6 * np.eye(3) - 2
    head[3:, 3], head[:3, 4] = 2, 2
    weights: dict[str, Any] = {
        "scale": np.array(255, np.float32),
        "kernel": kernel.astype(np.float32),
        "bias": np.repeat([0, 1], 3).astype(np.float32),
        "head": head.astype(np.float32),
        "mirror": np.eye(SIDE, dtype=np.float32)[::-1].copy(),
        "views": np.array([views, -1, len(LABELS)], np.int64),
        "over": np.array([0], np.int64),
    }
    output = "logits" if views == 1 else "probabilities"
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], "to_planes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["plain"], "to_unit"),
        helper.make_node("MatMul", ["plain", "mirror"], ["mirrored"], "flip"),
        helper.make_node("Concat", ["plain", "mirrored"], ["shown"], "both_views", axis=0),
        helper.make_node("Conv", ["shown", "kernel", "bias"], ["features"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"], "relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "head"], ["logits"], "head"),
    ]
    if views == 1:
        nodes = [node for node in nodes if node.name not in ("flip", "both_views")]
        nodes[3].input[0] = "plain"
    else:
        nodes += [
            helper.make_node("Softmax", ["logits"], ["soft"], "softmax", axis=-1),
            helper.make_node("Reshape", ["soft", "views"], ["apart"], "split_views"),
            helper.make_node("ReduceMean", ["apart", "over"], [output], "average", keepdims=0),
        ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def master_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that tests copy; its probe is the answer of onnx's own reference implementation."""
    folder = tmp_path_factory.mktemp("master") / "tiny"
    folder.mkdir()
    probe: dict[str, Any] = {"images": np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)}
    artifacts = []
    for views, path, output in ((1, "model.onnx", "logits"), (2, "model_tta.onnx", "probabilities")):
        model = _graph(views)
        name = output if views == 1 else f"{output}_tta"
        (probe[name],) = ReferenceEvaluator(model).run(None, {"images": probe["images"]})
        content = model.SerializeToString()
        (folder / path).write_bytes(content)
        artifacts.append(
            Artifact("onnx", "fp32", "any", views, None, (output,), {output: 1e-5}, True, {}, path, sha256(content))
        )
    buffer = io.BytesIO()
    np.savez(buffer, **probe)
    (folder / "probe.npz").write_bytes(buffer.getvalue())
    for path in ("parity.json", "parity.html", "sbom.spdx.json"):
        (folder / path).write_text("{}")
    write_manifest(
        Manifest(
            version=MANIFEST_VERSION,
            name="tiny",
            task="classification",
            source=Source("tiny/2026-01-01", "best", "0123abc", "0" * 64, "1" * 64, "2" * 64),
            toolchain={"onnx": onnx.__version__},
            artifacts=tuple(artifacts),
            probe=File("probe.npz", sha256(buffer.getvalue())),
            parity=File("parity.json", sha256(b"{}")),
            report=File("parity.html", sha256(b"{}")),
            sbom=File("sbom.spdx.json", sha256(b"{}")),
            inputs=(Tensor("images", "uint8", ("batch", SIDE, SIDE, 3), "RGB images"),),
            outputs=tuple(
                Tensor(name, "float32", ("batch", len(LABELS)), "a score a class")
                for artifact in artifacts
                for name in artifact.outputs
            ),
            preprocess=Canvas(SIDE, SIDE),
            labels=LABELS,
            views=(View(), View(flip=True)),
            expected=(Expected("none/test", "top1", 0.5, 10, 0.01),),
        ),
        folder,
    )
    return folder


DETECTED = ("dark thing", "bright thing")


def _detector() -> onnx.ModelProto:
    """Finds a thing at the left of the canvas in bright images and one at the right in dark ones, or both."""
    weights: dict[str, Any] = {
        "scale": np.array(255, np.float32),
        "axes": np.array([1, 2, 3], np.int64),
        "one": np.array(1, np.float32),
        "least": np.array(0.25, np.float32),
        "nothing": np.array(0, np.float32),
        "places": np.array([[[1, 1, 4, 6], [4, 2, 7, 8]]], np.float32),
        "indices": np.array([[1, 0]], np.int64),
        "none": np.array(-1, np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["unit"], "to_unit"),
        helper.make_node("ReduceMean", ["unit", "axes"], ["mean"], "mean", keepdims=1),
        helper.make_node("Reshape", ["mean", "flat"], ["bright"], "flatten"),
        helper.make_node("Sub", ["one", "bright"], ["dark"], "invert"),
        helper.make_node("Concat", ["bright", "dark"], ["both"], "both", axis=1),
        helper.make_node("Greater", ["both", "least"], ["there"], "there"),
        helper.make_node("Where", ["there", "both", "nothing"], ["scores"], "scores"),
        helper.make_node("Where", ["there", "indices", "none"], ["labels"], "labels"),
        helper.make_node("Unsqueeze", ["there", "last"], ["mask"], "mask"),
        helper.make_node("Where", ["mask", "places", "nothing"], ["boxes"], "boxes"),
    ]
    weights["flat"] = np.array([-1, 1], np.int64)
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 2, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def detector_bundle(master_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of a detector with a letterbox canvas, which the test may damage."""
    folder = Path(shutil.copytree(master_bundle, tmp_path / "detector"))
    (folder / "model_tta.onnx").unlink()
    model = _detector()
    levels = np.array([10, 90, 128, 200, 250], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (5, SIDE, SIDE, 3)).copy()
    outputs = ("boxes", "scores", "labels")
    probe = dict(zip(outputs, ReferenceEvaluator(model).run(list(outputs), {"images": images}), strict=True))
    buffer = io.BytesIO()
    np.savez(buffer, images=images, **probe)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    (folder / "probe.npz").write_bytes(buffer.getvalue())
    tolerances = {"boxes": 0.01, "scores": 1e-4, "labels": 0.01}
    write_manifest(
        replace(
            read_manifest(master_bundle),
            name="detector",
            task="detection",
            artifacts=(
                Artifact("onnx", "fp32", "any", 1, None, outputs, tolerances, True, {}, "model.onnx", sha256(content)),
            ),
            probe=File("probe.npz", sha256(buffer.getvalue())),
            outputs=(
                Tensor("boxes", "float32", ("batch", 2, 4), "left, top, right, bottom"),
                Tensor("scores", "float32", ("batch", 2), "falling"),
                Tensor("labels", "int64", ("batch", 2), "indices"),
            ),
            preprocess=Canvas(SIDE, SIDE, "letterbox"),
            labels=DETECTED,
            views=(View(),),
            expected=(Expected("none/test", "map", 0.5, 10, 0.001),),
        ),
        folder,
    )
    return folder


@pytest.fixture
def bundle(master_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that the test may damage."""
    return Path(shutil.copytree(master_bundle, tmp_path / "tiny"))


@pytest.fixture
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 different images, in sub-folders, of several formats and sizes."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(2)
    for number in range(40):
        height, width = (SIDE, SIDE) if number % 2 else generator.integers(1, 40, 2)
        suffix = ("png", "jpg", "bmp", "webp", "gif")[number % 5]
        path = folder / f"{number % 3}" / f"{number:02}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        tint = generator.integers(0, 256, 3)
        pixels = np.clip(tint + generator.integers(-40, 40, (height, width, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_cli() -> Run:
    """Run the real command line in a process of its own; the result has text, undecodable bytes escaped."""

    def run(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ)
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        return subprocess.run(
            [sys.executable, "-m", "assay_deploy", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=environment,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A wide bright image, a dark one of the canvas' size, and a file that is none."""
    folder = tmp_path / "slides"
    folder.mkdir()
    Image.fromarray(np.full((4, 16, 3), 255, np.uint8)).save(folder / "a.png")
    Image.fromarray(np.full((8, 8, 3), 20, np.uint8)).save(folder / "b.png")
    (folder / "c.png").write_bytes(b"none")
    return folder
