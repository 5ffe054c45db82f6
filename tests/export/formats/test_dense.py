"""A dense graph takes images of any size from its smallest up, and is the dense evaluation, in every format."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from assay_deploy.bundle.folder import sha256
from assay_deploy.bundle.manifest import CLASSIFICATION, DENSE, Artifact
from assay_deploy.doctor import examine
from assay_deploy.engines.onnxruntime.runtime import CPU, start
from assay_deploy.engines.onnxruntime.session import Session
from assay_deploy.images.canvas import Canvas, View
from assay_export.formats import aoti, exported_program, onnx_graph
from assay_export.formats import registry as formats
from assay_export.formats.registry import default_place
from assay_export.formats.runner import module_runner
from assay_export.gate.gate import prove
from assay_export.gate.probe import tiled
from assay_export.gate.verdict import DOES_NOT_RUN
from assay_export.tasks.registry import TASKS
from assay_research.errors import ConfigError
from assay_research.models.normalized import Normalized
from assay_research.models.resnet import resnet
from assay_research.models.vgg import KERNELS, vgg
from assay_research.runs.trained import load
from assay_research.tasks.classification.dense import DenseView, sliding
from assay_research.tasks.classification.views import Views

CANVAS = Canvas(32, 32)
ORIGIN = {"run": "a/1"}
SIZES = ((40, 40), (41, 64), (64, 40), (95, 61), (200, 300))


def some_images(n: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def dense_graph(config: str, stride: int, norm: bool = False) -> Views:
    torch.manual_seed(0)
    network = vgg(config, width=0.125, hidden=16, norm=norm, init="kaiming")
    model = Normalized(network, torch.full((3,), 0.5), torch.full((3,), 0.25)).eval()
    return Views(sliding(model, stride), CANVAS, [View()]).eval()


def dense(bundle) -> list[Artifact]:
    found = [artifact for artifact in bundle.manifest.artifacts if artifact.variant == DENSE]
    assert {artifact.format for artifact in found} == {"torchscript", "onnx", "exported_program"}
    return found


@pytest.mark.parametrize("batch", [1, 3])
def test_every_format_takes_every_size(bundle, batch):
    eager = module_runner(bundle.graphs[DENSE], ("logits",))
    for artifact in dense(bundle):
        run = formats.start(bundle.folder, bundle.manifest, artifact, default_place(artifact, "cpu"))
        for size in SIZES:
            images = some_images(batch, *size).numpy()
            found, expected = run(images)["logits"], eager(images)["logits"]
            assert found.shape == (batch, 10)
            assert np.abs(found - expected).max() <= artifact.tolerances["logits"], (artifact.path, size)


def test_the_eager_graph_is_what_evaluate_calls_dense(bundle):
    model = load(bundle.run).model
    images = bundle.data.test.images[:8]
    view = DenseView(model, CANVAS, View(size=40), 8).eval()
    with torch.inference_mode():
        larger = (view.rows @ (images.permute(0, 3, 1, 2).float() / 255) @ view.columns.mT) * 255
        expected, found = view(images), bundle.graphs[DENSE](larger.permute(0, 2, 3, 1))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 32])
@pytest.mark.parametrize("config", KERNELS)
def test_every_vgg_leaves_densely(config, stride):
    graph, traced = dense_graph(config, stride, norm=config == "E"), tiled(some_images(2, 32, 32))
    program = exported_program.load(exported_program.export(graph, traced, ORIGIN, any_size=True))
    session = start(onnx_graph.export(graph, traced, ["logits"], ORIGIN, any_size=True), 1, [CPU])
    for size in ((32 + stride, 32 + stride), (70, 99)):
        images = some_images(1, *size)
        with torch.inference_mode():
            expected = graph(images)
            assert torch.equal(program(images), expected)
        np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_package_takes_every_size():
    graph = dense_graph("D", 8)
    compiled = aoti.load(aoti.export(graph, tiled(some_images(2, 32, 32)), "cpu", any_size=True), "cpu")
    with torch.inference_mode():
        for size in SIZES:
            for batch in (1, 3):
                torch.testing.assert_close(compiled(some_images(batch, *size)), graph(some_images(batch, *size)))


def test_onnx_names_its_dynamic_sizes(bundle):
    (images,) = onnx.load(bundle.folder / "model_dense.onnx").graph.input
    sizes = images.type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", "height", "width", 3]


def test_deploy_runs_it_and_refuses_what_is_too_small(bundle):
    artifact = next(each for each in dense(bundle) if each.format == "onnx")
    session = Session.load(bundle.folder, bundle.manifest, artifact, provider="cpu")
    assert session.run(some_images(2, 40, 51).numpy())["logits"].shape == (2, 10)
    with pytest.raises(ValueError, match=r"\[batch, at least 40, at least 40, 3\], got uint8 \[2, 40, 39, 3\]"):
        session.run(some_images(2, 40, 39).numpy())


def test_the_doctor_replays_it(bundle):
    report = examine(bundle.folder, provider="cpu")
    assert report["problems"] == []
    assert [graph["ok"] for graph in report["graphs"] if graph["dense"] == 8] == [True]


def test_a_graph_of_one_size_fails_the_gate(bundle, tmp_path):
    artifact = next(each for each in dense(bundle) if each.format == "onnx")
    content = onnx_graph.export(bundle.graphs[DENSE], tiled(bundle.probe)[:2], ["logits"], ORIGIN)
    (tmp_path / artifact.path).write_bytes(content)
    fixed = replace(artifact, sha256=sha256(content))
    verdict = prove(
        tmp_path,
        bundle.manifest,
        fixed,
        default_place(fixed, "cpu"),
        TASKS[CLASSIFICATION],
        bundle.probe,
        bundle.data,
        bundle.references[DENSE],
    )
    assert verdict.failures == (DOES_NOT_RUN,)


def test_a_model_without_a_convolutional_form_is_refused():
    model = Normalized(resnet([1, 1], [4, 8]), torch.zeros(3), torch.ones(3))
    with pytest.raises(ConfigError, match="dense=8: expected a network of `stages` and `head`"):
        sliding(model, 8)
