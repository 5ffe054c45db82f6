"""A model repository holds what was proven, in the form that Triton Inference Server takes."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper

from assay_deploy.bundle.folder import read_manifest, sha256
from assay_deploy.bundle.manifest import (
    BOXES,
    CLASSIFICATION,
    DETECTION,
    MANIFEST_VERSION,
    Artifact,
    Expected,
    File,
    Manifest,
    Source,
    Tensor,
)
from assay_deploy.engines.onnxruntime.runtime import CUDA_OPTIONS
from assay_deploy.errors import BundleError
from assay_deploy.images.canvas import Canvas, View
from assay_export import triton
from assay_export.errors import ExportError
from assay_export.triton import write_repository
from tests.export.triton_schema import ENUMS, read_config

HEIGHT, WIDTH, PLACES = 6, 8, 5
LABELS = ("rote Bete", 'a "quoted" label', "blau: ü")

ELEMENTS = {"TYPE_UINT8": TensorProto.UINT8, "TYPE_FP32": TensorProto.FLOAT, "TYPE_INT64": TensorProto.INT64}
"""Triton's types in ONNX."""


def graph(tensors: tuple[Tensor, ...], seed: float, size: tuple[int | str, int | str] = (HEIGHT, WIDTH)) -> bytes:
    """An ONNX graph of images of that size and these outputs, each the images' mean, spread over its shape."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "seed"], ["scaled"]),
    ]
    weights = {"axes": np.array([1, 2, 3], np.int64), "seed": np.array(seed, np.float32)}
    for tensor in tensors:
        rank = len(tensor.shape)
        ones, shape = f"{tensor.name}_ones", f"{tensor.name}_shape"
        weights[shape] = np.array([-1] + [1] * (rank - 1), np.int64)
        weights[ones] = np.ones((1, *tensor.shape[1:]), np.float32)
        kind = TensorProto.INT64 if tensor.dtype == "int64" else TensorProto.FLOAT
        nodes += [
            helper.make_node("Reshape", ["scaled", shape], [f"{tensor.name}_column"]),
            helper.make_node("Mul", [f"{tensor.name}_column", ones], [f"{tensor.name}_float"]),
            helper.make_node("Cast", [f"{tensor.name}_float"], [tensor.name], to=kind),
        ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *size, 3])],
            [
                helper.make_tensor_value_info(
                    tensor.name, TensorProto.INT64 if tensor.dtype == "int64" else TensorProto.FLOAT, tensor.shape
                )
                for tensor in tensors
            ],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


SCORES = tuple(Tensor(name, "float32", ("batch", len(LABELS)), "scores") for name in ("logits", "probabilities"))
FOUND = tuple(
    Tensor(name, dtype, ("batch", PLACES, *rest), "what was found")
    for name, dtype, rest in zip(BOXES, ("float32", "float32", "int64"), ((4,), (), ()), strict=True)
)


def make_bundle(folder: Path, task: str, seed: float = 1.0) -> tuple[Path, Manifest]:
    """A bundle with a graph of every kind, and one that Triton is not given."""
    folder.mkdir(parents=True)
    outputs = SCORES if task == CLASSIFICATION else FOUND
    artifacts = []
    for path, form, precision, device, views, dense in (
        ("model.torchscript", "torchscript", "fp32", "any", 1, None),
        ("model.onnx", "onnx", "fp32", "any", 1, None),
        ("model_tta.onnx", "onnx", "fp32", "any", 2, None),
        ("model_dense.onnx", "onnx", "fp32", "any", 1, 8),
        ("model-fp16.onnx", "onnx", "fp16", "cuda", 1, None),
        ("model-int8.onnx", "onnx", "int8", "cpu", 1, None),
        ("model_tta-fp16.onnx", "onnx", "fp16", "cuda", 2, None),
    ):
        if dense and task == DETECTION:
            continue
        computed = outputs if task == DETECTION else outputs[views - 1 : views]
        size = ("height", "width") if dense else (HEIGHT, WIDTH)
        content = graph(computed, seed + len(artifacts), size)
        (folder / path).write_bytes(content)
        names = tuple(tensor.name for tensor in computed)
        tolerances = dict.fromkeys(names, 1e-5)
        artifacts.append(
            Artifact(form, precision, device, views, dense, names, tolerances, True, {}, path, sha256(content))
        )
    nothing = sha256(b"")
    return folder, Manifest(
        version=MANIFEST_VERSION,
        name="tiny",
        task=task,
        source=Source('tiny/"2026"', "best", "0123abc+dirty", "0" * 64, "1" * 64, "2" * 64),
        toolchain={"onnx": onnx.__version__},
        artifacts=tuple(artifacts),
        probe=File("probe.npz", nothing),
        parity=File("parity.json", nothing),
        report=File("parity.html", nothing),
        sbom=File("sbom.spdx.json", nothing),
        inputs=(Tensor("images", "uint8", ("batch", HEIGHT, WIDTH, 3), "RGB images"),),
        outputs=outputs,
        preprocess=Canvas(HEIGHT, WIDTH),
        labels=LABELS,
        views=(View(), View(flip=True)),
        expected=(Expected("none/test", "top1", 0.5, 10, 0.01),),
    )


@pytest.fixture(params=[CLASSIFICATION, DETECTION])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Manifest]:
    return make_bundle(tmp_path / "bundles" / "tiny", request.param)


@pytest.fixture
def classifier(tmp_path: Path) -> tuple[Path, Manifest]:
    return make_bundle(tmp_path / "bundles" / "tiny", CLASSIFICATION)


def models(repository: Path) -> Iterator[tuple[Path, Any]]:
    """Every model that Triton would see, and its configuration."""
    for place in sorted(path for path in repository.iterdir() if path.is_dir()):
        yield place, read_config(place)


def test_every_onnx_graph_is_a_model_and_its_bytes_are_the_proven_ones(
    bundle: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = bundle
    written = write_repository(folder, manifest, tmp_path / "repository", max_batch_size=8)
    expected = {
        "tiny": "model.onnx",
        "tiny_tta": "model_tta.onnx",
        **({"tiny_dense": "model_dense.onnx"} if manifest.task == CLASSIFICATION else {}),
        "tiny_fp16": "model-fp16.onnx",
        "tiny_int8": "model-int8.onnx",
        "tiny_tta_fp16": "model_tta-fp16.onnx",
    }
    assert {path.parent.name for path in written} == {place.name for place, _ in models(tmp_path / "repository")}
    assert {path.parent.name: (path / "model.onnx").read_bytes() for path in written} == {
        name: (folder / path).read_bytes() for name, path in expected.items()
    }
    assert all(read_manifest(path) == manifest for path in written)


def test_config_satisfies_triton(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    """The rules of ValidateModelConfig and ValidateIOShape (core, src/model_config_utils.cc)."""
    write_repository(*bundle, tmp_path / "repository", max_batch_size=8)
    for place, config in models(tmp_path / "repository"):
        assert config.name == place.name
        assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")
        assert not config.default_model_filename  # it is the default, model.onnx
        assert config.HasField("dynamic_batching")
        assert config.max_batch_size == 8
        assert config.version_policy.latest.num_versions == 1
        for tensor in (*config.input, *config.output):
            assert tensor.name
            assert tensor.data_type
            assert tensor.dims
            free = config.name == "tiny_dense" and tensor in config.input
            assert all(size >= 1 for size in tensor.dims) or (free and list(tensor.dims) == [-1, -1, 3])


def test_config_describes_the_graph(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    """What the ONNX Runtime backend compares when it loads a model, sizes of outputs exactly (CompareDimsSupported)."""
    write_repository(*bundle, tmp_path / "repository", max_batch_size=8)
    for place, config in models(tmp_path / "repository"):
        model = onnx.load(place / "1" / "model.onnx").graph
        for described, computed in ((config.input, model.input), (config.output, model.output)):
            assert [tensor.name for tensor in described] == [value.name for value in computed]
            for tensor, value in zip(described, computed, strict=True):
                batch, *sizes = value.type.tensor_type.shape.dim
                assert batch.dim_param == "batch"
                assert list(tensor.dims) == [-1 if size.dim_param else size.dim_value for size in sizes]
                kind = ENUMS["DataType"]
                name = next(name for name, number in kind.items() if number == tensor.data_type)
                assert value.type.tensor_type.elem_type == ELEMENTS[name]


def test_images_enter_as_bytes_of_the_canvas(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_repository(*bundle, tmp_path / "repository", max_batch_size=8)
    for _, config in models(tmp_path / "repository"):
        (images,) = config.input
        assert images.name == "images"
        assert images.data_type == ENUMS["DataType"]["TYPE_UINT8"]
        assert list(images.dims) == ([-1, -1, 3] if config.name == "tiny_dense" else [HEIGHT, WIDTH, 3])
        assert images.format == ENUMS["Format"]["FORMAT_NHWC"]


def test_classes_have_their_labels(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_repository(*classifier, tmp_path / "repository", max_batch_size=8)
    for place, config in models(tmp_path / "repository"):
        (output,) = config.output
        # as Triton reads it: LabelProvider::AddLabels, a label a line
        assert (place / output.label_filename).read_text(encoding="utf-8").split("\n") == [*LABELS, ""]


def test_boxes_are_no_classes(tmp_path: Path) -> None:
    folder, manifest = make_bundle(tmp_path / "tiny", DETECTION)
    write_repository(folder, manifest, tmp_path / "repository", max_batch_size=8)
    for place, config in models(tmp_path / "repository"):
        assert [output.label_filename for output in config.output] == ["", "", ""]
        assert (place / "labels.txt").read_text(encoding="utf-8").splitlines() == list(LABELS)


def test_model_runs_only_where_it_was_proven(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_repository(*classifier, tmp_path / "repository", max_batch_size=8)
    kinds = {
        place.name: [group.kind for group in config.instance_group] for place, config in models(tmp_path / "repository")
    }
    gpu, cpu = ENUMS["Kind"]["KIND_GPU"], ENUMS["Kind"]["KIND_CPU"]
    assert kinds == {
        "tiny": [],
        "tiny_tta": [],
        "tiny_dense": [],
        "tiny_fp16": [gpu],
        "tiny_int8": [cpu],
        "tiny_tta_fp16": [gpu],
    }


def test_triton_runs_cuda_as_the_gate_did(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_repository(*classifier, tmp_path / "repository", max_batch_size=8)
    for _, config in models(tmp_path / "repository"):
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert accelerator.name == "cuda"
        assert {entry.key: entry.value for entry in accelerator.parameters} == CUDA_OPTIONS
        parameters = {entry.key: entry.value.string_value for entry in config.parameters}
        assert parameters["cudnn_conv_algo_search"] == "1"  # HEURISTIC; without it the backend sets EXHAUSTIVE


def test_config_tells_where_the_model_comes_from(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = classifier
    write_repository(folder, manifest, tmp_path / "repository", max_batch_size=8)
    for place, config in models(tmp_path / "repository"):
        parameters = {entry.key: entry.value.string_value for entry in config.parameters}
        assert parameters["assay.run"] == manifest.source.run
        assert parameters["assay.commit"] == manifest.source.commit
        assert parameters["assay.model_sha256"] == sha256((place / "1" / "model.onnx").read_bytes())
        assert parameters["assay.version"] == "1"


def test_exporting_again_adds_a_version(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    folder, manifest = classifier
    write_repository(folder, manifest, repository, max_batch_size=8)
    own = repository / "tiny" / "configs" / "own.pbtxt"
    own.parent.mkdir()
    own.write_text("max_batch_size: 2")
    (repository / "tiny" / "10").mkdir()  # ten comes after nine, and is the newest
    for path in (repository / "tiny" / "1").iterdir():
        (repository / "tiny" / "10" / path.name).write_bytes(path.read_bytes())

    newer_folder, newer = make_bundle(tmp_path / "newer", CLASSIFICATION, seed=7)
    newer = replace(newer, source=replace(newer.source, run="tiny/newer"))
    written = write_repository(newer_folder, newer, repository, max_batch_size=4)

    assert {path.relative_to(repository).as_posix() for path in written} == {
        *("tiny/11", "tiny_tta/2", "tiny_dense/2", "tiny_fp16/2", "tiny_int8/2", "tiny_tta_fp16/2"),
    }
    assert (repository / "tiny" / "1" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert (repository / "tiny" / "11" / "model.onnx").read_bytes() == (newer_folder / "model.onnx").read_bytes()
    config = read_config(repository / "tiny")
    assert config.max_batch_size == 4
    assert {entry.value.string_value for entry in config.parameters} >= {"tiny/newer", "11"}
    assert own.read_text() == "max_batch_size: 2"


def test_altered_graph_enters_no_repository(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = classifier
    (folder / "model_tta-fp16.onnx").write_bytes((folder / "model.onnx").read_bytes())
    with pytest.raises(BundleError, match="not the file that was proven"):
        write_repository(folder, manifest, tmp_path / "repository", max_batch_size=8)
    assert not (tmp_path / "repository").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("first", [True, False])
def test_interrupted_export_leaves_no_half_version(
    classifier: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    repository = tmp_path / "repository"
    folder, manifest = classifier
    if not first:
        write_repository(folder, manifest, repository, max_batch_size=8)
    before = contents(repository)
    written: list[Path] = []

    def interrupted(manifest: Manifest, folder: Path) -> None:
        written.append(folder)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(triton, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_repository(folder, manifest, repository, max_batch_size=8)
    assert contents(repository) == before
    assert not (tmp_path / ".repository.partial").exists()


def test_what_a_killed_export_left_does_not_get_into_the_next(
    classifier: tuple[Path, Manifest], tmp_path: Path
) -> None:
    left = tmp_path / ".repository.partial" / "tiny" / "1"
    left.mkdir(parents=True)
    (left / "half.onnx").write_bytes(b"half")
    write_repository(*classifier, tmp_path / "repository", max_batch_size=8)
    assert not list((tmp_path / "repository").rglob("half.onnx"))
    assert not (tmp_path / ".repository.partial").exists()


def test_repository_holds_nothing_but_models(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    """Triton takes any other folder for a model that it cannot load, and does not start."""
    write_repository(*classifier, tmp_path / "repository", max_batch_size=8)
    names = {"tiny", "tiny_tta", "tiny_dense", "tiny_fp16", "tiny_int8", "tiny_tta_fp16"}
    assert {path.name for path in (tmp_path / "repository").iterdir()} == names


def test_place_that_cannot_be_written_is_told(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("a file")
    with pytest.raises(ExportError, match="cannot be written"):
        write_repository(*classifier, tmp_path / "repository", max_batch_size=8)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": (*LABELS[:2], "other")},
        {"preprocess": Canvas(HEIGHT, WIDTH, "letterbox")},
        {"inputs": (Tensor("images", "uint8", ("batch", HEIGHT, WIDTH + 1, 3), "RGB images"),)},
        {"outputs": tuple(replace(tensor, shape=("batch", 4)) for tensor in SCORES)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_versions_have_one_interface(classifier: tuple[Path, Manifest], tmp_path: Path, change: dict[str, Any]) -> None:
    folder, manifest = classifier
    write_repository(folder, manifest, tmp_path / "repository", max_batch_size=8)
    before = (tmp_path / "repository" / "tiny" / "config.pbtxt").read_bytes()
    with pytest.raises(ExportError, match="another canvas"):
        write_repository(folder, replace(manifest, **change), tmp_path / "repository", max_batch_size=8)
    assert (tmp_path / "repository" / "tiny" / "config.pbtxt").read_bytes() == before


@pytest.mark.parametrize("kind", ["model of others", "file", "dangling link"])
def test_what_others_left_is_not_touched(classifier: tuple[Path, Manifest], tmp_path: Path, kind: str) -> None:
    place = tmp_path / "repository" / "tiny"
    place.parent.mkdir()
    if kind == "model of others":
        (place / "1").mkdir(parents=True)
        (place / "config.pbtxt").write_text("theirs")
    elif kind == "file":
        place.write_text("theirs")
    else:
        place.symlink_to("nowhere")
    with pytest.raises(ExportError, match="Choose another repository"):
        write_repository(*classifier, tmp_path / "repository", max_batch_size=8)
    assert not (place / "2").exists()
    assert os.path.lexists(place)


def test_two_exports_at_once_do_not_mix(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    with FileLock(tmp_path / ".repository.lock"), pytest.raises(ExportError, match="right now"):
        write_repository(*classifier, tmp_path / "repository", max_batch_size=8)


@pytest.mark.parametrize("name", ["../outside", "", ".hidden", "a/b"])
def test_name_stays_inside_the_repository(classifier: tuple[Path, Manifest], tmp_path: Path, name: str) -> None:
    folder, manifest = classifier
    with pytest.raises(ExportError, match="cannot be a model's name"):
        write_repository(folder, replace(manifest, name=name), tmp_path / "repository", max_batch_size=8)


def test_bundle_without_onnx_is_refused(classifier: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = classifier
    with pytest.raises(ExportError, match="no ONNX graph"):
        write_repository(
            folder, replace(manifest, artifacts=manifest.artifacts[:1]), tmp_path / "repository", max_batch_size=8
        )
