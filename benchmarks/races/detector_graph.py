"""Compare the speed of exported detectors in ONNX Runtime with torchvision's code: the cost of fixed-size selections.

    python -m benchmarks.races.detector_graph [--models retinanet_small ...] [--rounds 11] [--report bench]

Weights are random, and the input is one image of noise. Torchvision's code processes only the candidates that exist.
The graph always processes the maximum number: boxes in one-stage detectors, which are cheap, or 1,000 proposals in
two-stage detectors, each of which is processed by the second stage. So each detector is timed with nearly all
candidates and with none. Before the timing, the outputs of both are compared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from assay_deploy.bundle.difference import detection_differences
from assay_deploy.bundle.manifest import BOXES, DETECTION
from assay_deploy.engines.machine import available_cores
from assay_deploy.images.canvas import Canvas, View
from assay_export.formats import onnx_graph
from assay_export.gate.tolerances import TOLERANCES
from assay_export.graphs.detector import exportable
from assay_research.config.build import build_model
from assay_research.config.files import choices
from assay_research.config.overrides import compose
from assay_research.models.base_detector import Detector
from assay_research.models.normalized import Normalized
from assay_research.tasks.detection.views import BoxViews
from benchmarks.measure.environment import describe
from benchmarks.measure.interleave import WARM_UP, figures
from benchmarks.report import document as report

CANVAS = Canvas(240, 320)
ALLOWED = {**TOLERANCES[DETECTION, "onnx", "fp32"], "labels": 0.05}
"""Tolerances of the export gate, except for the share of unmatched boxes: random weights give hundreds of boxes with
similar scores and overlaps, and rounding decides which of two remains."""

MODELS = ("retinanet_small", "retinanet_resnet50", "faster_rcnn_mobilenet", "faster_rcnn_resnet50")


def build(name: str, candidates: bool) -> Normalized:
    """Build a detector of the zoo for two classes, with random weights.

    Args:
        name: name of the model for ``model=``.
        candidates: whether there are candidates: proposals of the first stage, or boxes above the score threshold of a
            one-stage detector.
    """
    torch.manual_seed(0)
    model = build_model(compose(["experiment=diatoms_smoke", f"model={name}"]).model, 2)
    detector = model.network
    assert isinstance(detector, Detector)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # batch norm statistics of similar images; otherwise all features are alike
        detector.train().model.backbone(torch.rand(4, 3, CANVAS.height, CANVAS.width))
    model.eval()
    if detector.background:
        detector.model.rpn.score_thresh = 0.0 if candidates else 1.1
        nn.init.normal_(detector.model.roi_heads.box_predictor.cls_score.weight, std=0.01)
    else:
        logits = detector.model.head.classification_head.cls_logits
        nn.init.normal_(logits.weight, std=0.1)
        nn.init.constant_(logits.bias, 0.0 if candidates else -100.0)
    return model


def compare(name: str, candidates: bool, rounds: int) -> dict[str, Any]:
    """Time torchvision's code and the graph in alternation, and check that their outputs agree.

    Args:
        name: name of the detector.
        candidates: whether there are candidates, see `build`.
        rounds: number of rounds.

    Raises:
        ValueError: the outputs differ by more than `ALLOWED`.
    """
    model = build(name, candidates)
    what = f"{name}, {'many candidates' if candidates else 'no candidate'}"
    images = torch.randint(0, 256, (2, CANVAS.height, CANVAS.width, 3), dtype=torch.uint8)
    graph = exportable(model, CANVAS, [View()])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = onnxruntime.InferenceSession(
        onnx_graph.export(graph, images, BOXES, {}), options, providers=["CPUExecutionProvider"]
    )
    eager = BoxViews(model, CANVAS, [View()]).eval()
    image, given = images[:1], {"images": images[:1].numpy()}
    baseline, target = [], []
    with torch.inference_mode():
        expected = {key: each.numpy() for key, each in eager(image)._asdict().items()}
        found = dict(zip(BOXES, session.run(list(BOXES), given), strict=True))
        differences = detection_differences(found, expected)
        if not all(differences[key] <= ALLOWED[key] for key in ALLOWED):
            raise ValueError(f"{what}: the outputs differ by {differences}, allowed {ALLOWED}")
        for _ in range(WARM_UP + rounds):
            start = perf_counter()
            eager(image)
            between = perf_counter()
            session.run(None, given)
            baseline.append(between - start)
            target.append(perf_counter() - between)
    boxes = int(np.sum(expected["labels"] >= 0))
    sys.stdout.write(f"{what}: {boxes} boxes, {differences['labels']:.1%} of the total score unmatched\n")
    named = {"group": "Detectors as graphs", "device": "cpu", "target": what, "baseline": "torchvision"}
    return named | figures(baseline[WARM_UP:], target[WARM_UP:], [1] * rounds)


def main(typed: Sequence[str] | None = None) -> None:
    """Run the command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in choices("model") if name.startswith(("retinanet", "faster_rcnn"))]
    parser.add_argument("--models", nargs="+", choices=known, default=MODELS, metavar="MODEL", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=11, help="number of rounds; default 11")
    parser.add_argument(
        "--report", type=Path, default=Path("bench"), metavar="FOLDER", help="folder of the report; default bench"
    )
    arguments = parser.parse_args(typed)
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {arguments.rounds}")
    environment = describe()
    try:
        timings = [compare(name, there, arguments.rounds) for name in arguments.models for there in (True, False)]
        subject = {"what": f"one image of noise, {CANVAS.width}x{CANVAS.height} pixels, random weights"}
        document = report.document(environment, subject, timings=timings)
        report.show(document, arguments.report)
    except (ValueError, OSError) as error:
        sys.exit(f"detector_graph: {error}")
    except KeyboardInterrupt:
        sys.exit("detector_graph: interrupted")


if __name__ == "__main__":
    main()
