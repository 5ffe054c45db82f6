"""Engines that no bundle was proven with load its ONNX graphs, and give the eager model's answers."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from assay_deploy.bundle.difference import detection_differences, largest_differences
from assay_deploy.bundle.folder import read_verified
from assay_deploy.bundle.manifest import BOXES, DETECTION
from assay_deploy.images.canvas import Canvas, View
from assay_export.formats import onnx_graph
from assay_export.formats.runner import Images, Outputs, Runner, module_runner
from assay_export.gate.tolerances import TOLERANCES
from assay_export.graphs.detector import exportable
from assay_research.models.detectors import small_retinanet
from assay_research.models.normalized import Normalized
from assay_research.tasks.detection.views import BoxViews

CANVAS = Canvas(32, 32)


@dataclass(frozen=True)
class Graph:
    """An ONNX file and the model it came from.

    Attributes:
        content: the file.
        eager: the model's answers.
        tolerances: of each output.
        images: three to ask about, uint8 ``[3, height, width, 3]``.
    """

    content: bytes
    eager: Runner
    tolerances: dict[str, float]
    images: Images

    def wrong(self, found: Outputs, images: Images) -> dict[str, float]:
        """How far the outputs are off that are farther off than is allowed."""
        compare = detection_differences if "boxes" in found else largest_differences
        off = compare(found, self.eager(images))
        return {name: value for name, value in off.items() if not value <= self.tolerances[name]}


def classifier(bundle: Any, views: int) -> Graph:
    """That of the bundle, and images in colour, in white and in black."""
    artifact = bundle.manifest.artifact("onnx", tta=views > 1)
    eager = module_runner(bundle.graphs[artifact.variant], artifact.outputs)
    images = np.ascontiguousarray(bundle.probe.numpy()[-3:][::-1])
    return Graph(read_verified(bundle.folder, artifact), eager, artifact.tolerances, images)


def detector(views: int) -> Graph:
    """Of a detector that finds as much as it may."""
    torch.manual_seed(0)
    sizes = {"channels": [8, 8, 16, 16], "blocks": [1] * 4, "width": 16, "depth": 1, "anchor_sizes": [6, 9, 13, 18]}
    network = small_retinanet(classes=3, detections=20, **sizes)
    head = network.model.head
    with torch.no_grad():
        head.classification_head.cls_logits.bias.fill_(-1)
        head.classification_head.cls_logits.weight.normal_(std=0.3)
        head.regression_head.bbox_reg.weight.normal_(std=0.02)
    model = Normalized(network, torch.full((3,), 0.5), torch.full((3,), 0.25)).eval()
    looks = (View(), View(flip=True))[:views]
    images = np.random.default_rng(0).integers(0, 256, (3, CANVAS.height, CANVAS.width, 3), dtype=np.uint8)
    content = onnx_graph.export(exportable(model, CANVAS, looks), torch.from_numpy(images), BOXES, {"run": "none"})
    eager = module_runner(BoxViews(model, CANVAS, looks).eval(), BOXES)
    found = eager(images)
    assert (found["labels"] >= 0).all()
    assert (found["boxes"][..., 2:] - found["boxes"][..., :2]).min() > 1  # IoU says little of a box without area
    return Graph(content, eager, TOLERANCES[DETECTION, "onnx", "fp32"], images)


@pytest.fixture(scope="module", params=["classifier", "classifier, tta", "detector", "detector, tta"])
def graph(request: pytest.FixtureRequest) -> Graph:
    several = request.param.endswith("tta")
    if request.param.startswith("detector"):
        return detector(2 if several else 1)
    return classifier(request.getfixturevalue("bundle"), 3 if several else 1)


@pytest.fixture(scope="module")
def openvino() -> Iterator[ModuleType]:
    """The package, kept from sending usage data, as it does when it is imported if ``openvino_telemetry`` is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openvino_telemetry", None)
        yield import_module("openvino")


def in_openvino(package: ModuleType, content: bytes) -> Runner:
    # Where a processor has bfloat16, the plugin for CPUs computes graphs of float32 in it unless told not to.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = package.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", options)

    def run(images: Images) -> Outputs:
        return {port.any_name: array for port, array in compiled({onnx_graph.INPUT: images}).items()}

    return run


class GatherElements(OpRun):
    """ONNX's definition in NumPy's words; what onnx 1.23 has takes no more than 64 rows."""

    op_domain = ""

    def _run(self, data: Any, indices: Any, axis: int = 0) -> tuple[Any]:
        return (np.take_along_axis(data, indices, axis),)


def in_reference(content: bytes) -> Runner:
    evaluator = ReferenceEvaluator(onnx.load_from_string(content), new_ops=[GatherElements])

    def run(images: Images) -> Outputs:
        return dict(zip(evaluator.output_names, evaluator.run(None, {onnx_graph.INPUT: images}), strict=True))

    return run


Start = Callable[[bytes], Runner]


@pytest.fixture(params=["openvino", "onnx.reference"])
def start(request: pytest.FixtureRequest, openvino: ModuleType) -> Start:
    """How the engine loads a graph."""
    if request.param == "openvino":
        return lambda content: in_openvino(openvino, content)
    return in_reference


def test_every_engine_gives_the_eager_answers(graph: Graph, start: Start) -> None:
    run = start(graph.content)
    for batch in (1, 3):
        images = graph.images[:batch]
        assert graph.wrong(run(images), images) == {}


def test_altered_kernel_shows_in_every_engine(graph: Graph, start: Start) -> None:
    model = onnx.load_from_string(graph.content)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]  # the first may have a norm behind it
    kernel = next(each for each in model.graph.initializer if each.name == last.input[1])
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))
    found = start(model.SerializeToString())(graph.images)
    assert graph.wrong(found, graph.images)


def test_swapped_channels_show_in_every_engine(graph: Graph, start: Start) -> None:
    found = start(graph.content)(np.ascontiguousarray(graph.images[..., ::-1]))
    assert graph.wrong(found, graph.images)


def test_openvino_takes_bytes_of_any_number_of_images(graph: Graph, openvino: ModuleType) -> None:
    model = openvino.Core().read_model(graph.content)
    (images,) = model.inputs
    assert images.any_name == onnx_graph.INPUT
    assert images.element_type == openvino.Type.u8
    assert str(images.partial_shape) == f"[?,{CANVAS.height},{CANVAS.width},3]"
    assert {port.any_name for port in model.outputs} == set(graph.tolerances)
    assert all(port.partial_shape[0].is_dynamic for port in model.outputs)
    assert all(size.is_static for port in model.outputs for size in list(port.partial_shape)[1:])


def test_openvino_sends_nothing(openvino: ModuleType) -> None:
    telemetry: Any = import_module("openvino.tools.ovc.telemetry_utils").tm
    assert telemetry.__name__.endswith("telemetry_stub")
