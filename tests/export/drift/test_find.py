"""The drift finder names the layer, the channel order or the resize that was planted, and its script shows it."""

import copy
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from assay_deploy.bundle.difference import detection_differences
from assay_deploy.images.canvas import Canvas, View
from assay_export.drift import find as drift
from assay_export.drift import script as drift_script
from assay_export.drift.evidence import affine, relation
from assay_export.drift.find import Drift, find_drift
from assay_export.drift.onnx_source import OnnxSource
from assay_export.drift.torch_source import TorchSource
from assay_export.errors import ExportError
from assay_export.formats import exported_program, onnx_graph, torchscript
from assay_export.graphs.detector import exportable
from assay_research.models.detectors import small_retinanet
from assay_research.models.normalized import Normalized
from assay_research.models.resnet import resnet
from assay_research.models.vgg import vgg
from assay_research.tasks.classification.views import Views
from assay_research.tasks.detection.views import BoxViews

TOLERANCES = {"logits": 1e-4}
ARTIFACT = SimpleNamespace(path="model.onnx", format="onnx", tolerances=TOLERANCES)
BOX_TOLERANCES = {"boxes": 0.05, "scores": 1e-3, "labels": 0.01}
CANVAS = Canvas(32, 32)

EXPORT: dict[str, Callable[[nn.Module, Tensor], bytes]] = {
    "onnx": lambda graph, images: onnx_graph.export(graph, images, ["logits"], {}),
    "torchscript": lambda graph, images: torchscript.export(graph, images, {}),
    "exported_program": lambda graph, images: exported_program.export(graph, images, {}),
}
ALL = pytest.mark.parametrize("form", EXPORT)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Coloured noise: in a grey image no order of channels can be told from another."""
    return torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def graph_of(network: nn.Module, views: list[View]) -> Views:
    """A network with the running statistics of a trained one, looking at these views."""
    model = Normalized(network, torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -1, 1),
                (module.running_var, 0.3, 3),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -1, 1),
            ):
                tensor.uniform_(low, high)
    return Views(model, CANVAS, views).eval()


@pytest.fixture(scope="module")
def plain() -> Views:
    """TinyVGG-A with BatchNorm, which ONNX folds: 0 convolution, 1 BatchNorm, 2 ReLU, 3 pool, 4 convolution, ..."""
    torch.manual_seed(0)
    return graph_of(vgg(width=0.125, hidden=64, norm=True, init="kaiming"), [View()])


@pytest.fixture(scope="module")
def several() -> Views:
    """TinyVGG-A without BatchNorm, looking three times."""
    torch.manual_seed(0)
    views = [View(), View(flip=True), View(size=36)]
    return graph_of(vgg(width=0.125, hidden=64, init="kaiming"), views)


@pytest.fixture(scope="module")
def residual() -> Views:
    """ResNet-20; its stages' blocks are 3 to 11."""
    torch.manual_seed(0)
    return graph_of(resnet([3, 3, 3], [8, 16, 32]), [View()])


def drift_of(
    graph: nn.Module, images: Tensor, form: str, fault: Callable[[nn.Module], nn.Module | None] = lambda _: None
) -> Drift | None:
    """What is found between a graph and the export of a copy of it with this fault."""
    faulty = copy.deepcopy(graph)
    with torch.no_grad():
        faulty = fault(faulty) or faulty
    return find_drift(graph, form, EXPORT[form](faulty.eval(), images[:2]), images, TOLERANCES)


def reproduce(found: Drift, folder) -> subprocess.CompletedProcess[str]:
    script = drift.write(found, folder)
    # -I: it needs nothing of this checkout, and nothing beside it but what it was written with.
    return subprocess.run([sys.executable, "-I", script], capture_output=True, text=True, check=False)


@ALL
@pytest.mark.parametrize("name", ["plain", "several", "residual"])
def test_healthy_export_has_no_drift(request, images, name, form):
    assert drift_of(request.getfixturevalue(name), images, form) is None


@ALL
def test_wrong_epsilon_names_the_batch_norm_and_both_values(plain, images, form, tmp_path):
    def fault(graph):
        graph.model.network[5].eps = 1e-3

    found = drift_of(plain, images, form, fault)
    assert (found.layer.name, found.layer.kind) == ("model.network.5", "BatchNorm2d")
    assert found.alternative is None
    assert found.evidence == ("in every channel it is what eps=0.001 would give; the model has eps=1e-05",)
    assert found.layer.where.startswith("assay_research/models/normalized.py:")
    assert found.rounding < 3e-6 < 1e-4 < found.relative < 1e-2
    assert found.difference == pytest.approx(abs(found.eager - found.artifact))
    shown = reproduce(found, tmp_path)
    assert shown.returncode == 1, shown.stderr
    assert f"{found.eager:.6g}" in shown.stdout
    assert str(list(found.index)) in shown.stdout


@ALL
def test_swapped_channels_are_named_as_such_before_the_first_layer(plain, images, form):
    class Swapped(nn.Module):
        def __init__(self, graph):
            super().__init__()
            self.views = graph

        def forward(self, images):
            return self.views(images.flip(3))

    found = drift_of(plain, images, form, Swapped)
    assert str(found.layer) == "Views.forward"
    assert found.layer.where.startswith("assay_research/tasks/classification/views.py:")
    assert found.evidence == ("the input of 'model' already differs", "its channels are in the order 2, 1, 0")


@ALL
def test_nearest_resize_names_the_line_that_resizes_and_its_weights(several, images, form, tmp_path):
    def fault(graph):
        for matrix in (graph.rows, graph.columns):
            highest = matrix == matrix.amax(-1, keepdim=True)
            nearest = (highest & (matrix > 0)).float()
            matrix.copy_(nearest / nearest.sum(-1, keepdim=True).clamp(min=1))

    found = drift_of(several, images, form, fault)
    assert str(found.layer) == "Views.forward"
    assert found.layer.where.startswith("assay_research/data/resample.py:")
    assert found.layer.where.endswith(", in resample")
    assert found.evidence[0] == "the input of 'model' already differs"
    assert found.evidence[1].startswith("the artifact has another 'rows'")
    if form == "onnx":  # each start of torch takes seconds
        assert reproduce(found, tmp_path).returncode == 1


@ALL
def test_wrong_weight_deep_in_the_network_names_its_layer(several, images, form):
    def fault(graph):
        graph.model.network[16].weight[3, 2] *= 1.5

    found = drift_of(several, images, form, fault)
    assert (found.layer.name, found.layer.kind) == ("model.network.16", "Conv2d")
    assert found.evidence[-1].startswith("the artifact has another 'model.network.16.weight': it differs by up to")


def test_convolution_is_told_from_the_batch_norm_folded_into_it(plain, images):
    def fault(graph):
        graph.model.network[8].weight[3, 2] *= 1.5

    found = drift_of(plain, images, "onnx", fault)
    assert (found.layer.name, found.alternative) == ("model.network.8", None)
    assert found.operation == "aten.native_batch_norm"
    assert found.counterpart.endswith("(Conv)")
    assert found.evidence[0].startswith("the artifact has another 'model.network.8.weight'")


def test_folded_layers_that_cannot_be_told_apart_are_both_named(plain, images):
    def fault(graph):
        graph.model.network[8].weight *= 1.01

    found = drift_of(plain, images, "onnx", fault)
    assert {found.layer.name, found.alternative.name} == {"model.network.8", "model.network.9"}
    assert found.evidence[0].startswith("each channel is scaled by 1.01 and shifted by")
    assert "it may also be model.network." in drift.describe(found, "reproduce.py")


def test_kernel_with_swapped_channels_is_named(plain, images):
    def fault(graph):
        graph.model.network[0].weight.copy_(graph.model.network[0].weight.flip(1))

    found = drift_of(plain, images, "onnx", fault)
    assert found.layer.name == "model.network.0"
    assert found.evidence == (
        "the artifact has another 'model.network.0.weight': its channels are in the order 2, 1, 0",
    )


@ALL
def test_fault_beside_a_skip_connection_names_its_layer(residual, images, form):
    def fault(graph):
        graph.model.network[7].residual[4].eps = 0.1

    found = drift_of(residual, images, form, fault)
    assert found.layer.name == "model.network.7.residual.4"
    assert found.layer.where.startswith("assay_research/models/resnet.py:")
    assert "eps=0.1 " in found.evidence[0]


def test_wrong_mean_names_the_normalisation(plain, images):
    def fault(graph):
        graph.model.mean += 0.01

    found = drift_of(plain, images, "onnx", fault)
    assert str(found.layer) == "model (Normalized)"
    assert found.evidence[:2] == (
        "the input of 'model.network' already differs",
        "each channel is shifted by -0.01",
    )
    assert found.evidence[2].startswith("the artifact has another 'model.mean'")


def test_value_that_is_not_finite_names_its_layer(plain, images):
    def fault(graph):
        graph.model.network[33].weight[3, 2] = float("nan")

    found = drift_of(plain, images, "onnx", fault)
    assert found.layer.name == "model.network.33"
    assert "not finite" in found.evidence[0]
    assert np.isnan(found.artifact)


def test_missing_layer_is_named(several, images, tmp_path):
    def fault(graph):
        graph.model.network[2] = nn.Identity()  # a pool, without which all maps are larger
        graph.model.network[20] = nn.MaxPool2d(4)

    assert isinstance(several.model.network[2], nn.MaxPool2d)
    assert isinstance(several.model.network[20], nn.MaxPool2d)
    found = drift_of(several, images, "onnx", fault)
    assert found.layer.name == "model.network.2"
    assert found.evidence[0].startswith("no tensor of the artifact corresponds to its output [6, 8, 16, 16]")
    assert reproduce(found, tmp_path).returncode == 1


def test_script_passes_once_the_artifact_is_right(plain, images, tmp_path):
    def fault(graph):
        graph.model.network[5].eps = 1e-3

    drift.write(drift_of(plain, images, "onnx", fault), tmp_path)  # which fails, as another test shows
    right = EXPORT["onnx"](plain, images[:2])
    weights = {each.name: each for each in onnx.load_model_from_string(right).graph.initializer}
    layer = onnx.load(tmp_path / "layer.onnx")
    for weight in layer.graph.initializer:
        weight.CopyFrom(weights[weight.name])
    onnx.save(layer, tmp_path / "layer.onnx")
    shown = subprocess.run(
        [sys.executable, "-I", tmp_path / "reproduce.py"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_script_repeats_views_of_any_memory_and_torchvisions_operators(images, tmp_path):
    class Chosen(nn.Module):
        def forward(self, images):
            planes = images.permute(0, 3, 1, 2).float()
            pixels = planes.permute(0, 2, 3, 1).view(-1, 3)[:500]
            boxes = torch.cat([pixels[:, :2], pixels[:, :2] + 40], 1)
            return pixels[nms(boxes, pixels[:, 2], 0.5)]

    source = TorchSource(Chosen())
    trace = source.trace(images)
    given = next(i for i, value in enumerate(trace.values) if value.op == "aten._to_copy")
    part = drift_script.part(trace, trace.outputs[0], {given})
    side = trace, part, source.trace(images, part.inputs).retained
    for name, content in drift_script.script_files("exported.pt2", "a choice", 1e-5, side, side, None).items():
        (tmp_path / name).write_bytes(content)
    shown = subprocess.run(
        [sys.executable, "-I", tmp_path / "reproduce.py"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_detector_names_the_layer_of_one_of_its_heads():
    torch.manual_seed(0)
    canvas = Canvas(64, 64)
    model = Normalized(
        small_retinanet(3, [8] * 4, [1] * 4, 16, 1, [20, 40, 80, 160]), torch.full((3,), 0.5), torch.full((3,), 0.25)
    ).eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    head = "network.model.head.classification_head.cls_logits"
    nn.init.normal_(model.get_submodule(head).weight, std=0.5)  # or every score is the prior's
    eager = BoxViews(model, canvas, [View()]).eval()

    content = onnx_graph.export(exportable(copy.deepcopy(model), canvas, [View()]), images, list(BOX_TOLERANCES), {})
    assert find_drift(eager, "onnx", content, images, BOX_TOLERANCES, compare=detection_differences) is None
    with torch.no_grad():
        model.get_submodule(head).weight[1] *= 1.5  # the eager one, which saves an export
    found = find_drift(eager, "onnx", content, images, BOX_TOLERANCES, compare=detection_differences)
    assert found.layer.name == f"model.{head}"


def test_decisions_that_agree_hide_no_layer_of_a_detector_that_fuses_views():
    torch.manual_seed(0)
    canvas, views = Canvas(64, 64), [View(), View(flip=True)]
    model = Normalized(
        small_retinanet(3, [8] * 4, [1] * 4, 16, 1, [20, 40, 80, 160]), torch.full((3,), 0.5), torch.full((3,), 0.25)
    ).eval()
    head = "network.model.head.classification_head.cls_logits"
    nn.init.normal_(model.get_submodule(head).weight, std=0.5)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    content = torchscript.export(exportable(copy.deepcopy(model), canvas, views), images, {})
    layer = "network.model.backbone.body.stage1.0.residual.0"
    with torch.no_grad():
        model.get_submodule(layer).weight[1] *= 1.5
    eager = BoxViews(model, canvas, views).eval()
    found = find_drift(eager, "torchscript", content, images, BOX_TOLERANCES, compare=detection_differences)
    assert f"model.{layer}" in (found.layer.name, found.alternative and found.alternative.name)
    assert found.compared > found.agreeing > 10
    assert not any("no tensor of the artifact" in each for each in found.evidence)


def test_what_is_said_names_no_path_of_this_machine(plain, images, tmp_path):
    def fault(graph):
        graph.model.network[5].eps = 1e-3

    (tmp_path / "model.onnx").write_bytes(EXPORT["onnx"](alter(plain, fault), images[:2]))
    manifest = SimpleNamespace(
        task="classification", artifacts=[SimpleNamespace(path="model.onnx", format="onnx", tolerances=TOLERANCES)]
    )
    said = drift.explain(tmp_path, manifest, SimpleNamespace(path="model.onnx"), plain, images)
    script = tmp_path / "drift" / "model.onnx" / "reproduce.py"
    assert f"python {script}" in said
    assert 3 <= len(said.splitlines()) <= 8
    root = str(drift.__file__).partition("export/src")[0]
    assert root not in said
    assert root not in script.read_text()


def alter(graph: nn.Module, fault: Callable[[nn.Module], None]) -> nn.Module:
    altered = copy.deepcopy(graph)
    fault(altered)
    return altered


def test_artifact_that_does_not_run_is_said_to(plain, images, tmp_path):
    (tmp_path / "model.onnx").write_bytes(EXPORT["onnx"](plain, images[:2])[:1000])
    manifest = SimpleNamespace(
        task="classification", artifacts=[SimpleNamespace(path="model.onnx", format="onnx", tolerances=TOLERANCES)]
    )
    said = drift.explain(tmp_path, manifest, SimpleNamespace(path="model.onnx"), plain, images)
    assert "does not run" in said


def test_compiled_package_cannot_be_looked_into(plain, images):
    with pytest.raises(ExportError, match="aoti"):
        find_drift(plain, "aoti", b"", images, TOLERANCES)


@pytest.mark.parametrize("source", ["torch", "onnx"])
def test_chosen_arrays_are_those_that_were_sketched(plain, images, source):
    source = TorchSource(plain) if source == "torch" else OnnxSource(EXPORT["onnx"](plain, images[:2]))
    trace = source.trace(images[:2], keep=range(40))
    assert len(trace.retained) >= 30
    for index, array in trace.retained.items():
        value = trace.values[index]
        assert value.shape == array.shape
        if value.sketch is not None and array.size:
            assert value.sketch[:2].tolist() == [array.min(), array.max()]
    assert np.array_equal(source.run(images[:2])[0], source.trace(images[:2], trace.outputs).retained[trace.outputs[0]])


def test_in_place_writes_through_a_view_are_followed(images):
    class Written(nn.Module):
        def forward(self, images):
            x = torch.zeros(len(images), 4)
            x[:, 1] = images.float().mean((1, 2, 3))
            return x * 2

    trace = TorchSource(Written()).trace(images)
    last = trace.values[trace.outputs[0]]
    reached, waiting = set(), [trace.outputs[0]]
    while waiting:
        reached.add(index := waiting.pop())
        waiting.extend(trace.values[index].parents)
    assert last.op == "aten.mul.Tensor"
    assert 0 in reached, "the output depends on the images"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:, [1, 2, 0]], "its channels are in the order 1, 2, 0"),
        (lambda x: x[..., ::-1], "it is mirrored"),
        (lambda x: x[:, :, ::-1], "it is upside down"),
        (lambda x: x.swapaxes(2, 3), "its rows and columns are swapped"),
        (lambda x: x * 255, "each channel is scaled by 255"),
        (lambda x: x + 0.5, "each channel is shifted by 0.5"),
        (lambda x: np.sqrt(np.abs(x)), None),
    ],
)
def test_relation_says_what_was_done(change, said):
    array = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    assert relation(array, change(array)) == said


def test_line_through_two_points_is_no_evidence():
    array = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    assert affine(array, np.random.default_rng(1).normal(size=(2, 10))) is None
