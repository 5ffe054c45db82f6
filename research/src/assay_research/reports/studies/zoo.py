"""Table of models: layers, parameters and FLOPs of each file in `conf/model`, counted from the model it builds."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN

from assay_deploy.errors import AssayError
from assay_research.config.build import instantiate
from assay_research.config.yaml_text import read_yaml
from assay_research.models.base_detector import Detector
from assay_research.reports.tables import table
from assay_research.runs.disk import write_atomically

ZOO = Path(__file__).parents[2] / "conf" / "model"
CLASSES, SIDE = 10, 32
HEIGHT, WIDTH = 240, 320
"""Size in pixels of the canvas for the counts of detectors."""

INTRODUCTION = """\
# Models

Every `model=<name>`, built for {classes} classes and {side}x{side} images. The columns give the output shapes of its
convolutions (number x channels x height x width), the widths of its fully connected layers, its parameters, and the
floating-point operations of one image's forward pass. A multiply-add of a convolution or a fully connected layer
counts as two operations; nothing else counts.

    python -m assay_research.reports.studies.zoo docs/models.md

"""

COLUMNS = ("model", "input", "convolutions", "fully connected", "output", "parameters", "FLOPs")

DETECTORS = """\

## Detectors

Every detector, built for {classes} classes and {height}x{width} canvases, which are padded to multiples of 32 pixels.
The columns give the levels of the feature pyramid, the anchors on all levels together, the largest number of boxes that
Faster R-CNN's second stage classifies (proposals), the parameters, and the floating-point operations of one image's
forward pass, counted as above, with this number of proposals.

"""

DETECTOR_COLUMNS = ("model", "pyramid", "anchors", "proposals", "parameters", "FLOPs")


@dataclass(frozen=True)
class ClassifierModel:
    """One classifier of the zoo; shapes are without the batch dimension.

    Attributes:
        name: value of ``model=``.
        input: input shape, ``(channels, height, width)``.
        maps: output shape of each convolution, in the order of execution.
        widths: input width of the first fully connected layer, then the output width of each.
        output: output shape, ``(classes,)``.
        parameters: number of parameters.
        flops: FLOPs of the forward pass; a multiply-add counts as two.
    """

    name: str
    input: tuple[int, ...]
    maps: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int
    flops: int

    columns: ClassVar[tuple[str, ...]] = COLUMNS

    def row(self) -> tuple[str, ...]:
        """Row of the model in the table."""
        maps = ((len(list(same)), shape) for shape, same in groupby(self.maps))
        return (
            f"`{self.name}`",
            _shape(self.input),
            ", ".join(f"{number} x {_shape(shape)}" for number, shape in maps) or "none",
            " → ".join(map(str, self.widths)),
            _shape(self.output),
            f"{self.parameters:,}",
            f"{self.flops:,}",
        )


@dataclass(frozen=True)
class DetectorModel:
    """One detector of the zoo; shapes are without the batch dimension.

    Attributes:
        name: value of ``model=``.
        pyramid: shape of each level, ``(channels, height, width)``.
        anchors: number of anchors on all levels.
        proposals: largest number of boxes for the second stage; 0 for a one-stage detector.
        parameters: number of parameters.
        flops: FLOPs of the forward pass; a multiply-add counts as two.
    """

    name: str
    pyramid: tuple[tuple[int, ...], ...]
    anchors: int
    proposals: int
    parameters: int
    flops: int

    columns: ClassVar[tuple[str, ...]] = DETECTOR_COLUMNS

    def row(self) -> tuple[str, ...]:
        """Row of the model in the table."""
        return (
            f"`{self.name}`",
            ", ".join(map(_shape, self.pyramid)),
            f"{self.anchors:,}",
            f"{self.proposals:,}",
            f"{self.parameters:,}",
            f"{self.flops:,}",
        )


class _Shapes(TorchDispatchMode):
    """Recorder of the output shapes of convolutions and the widths of fully connected layers in a forward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.maps: list[tuple[int, ...]] = []
        self.widths: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self.maps.append(tuple(output.shape[1:]))
        elif func is torch.ops.aten.addmm.default:
            self.widths += [*(() if self.widths else (args[1].shape[1],)), output.shape[1]]
        return output


def zoo() -> list[Path]:
    """Return the YAML file of every model in natural order: `resnet_4` before `resnet_15`."""
    return sorted(ZOO.glob("*.yaml"), key=lambda path: [part.zfill(4) for part in re.split(r"(\d+)", path.stem)])


def measure(path: Path) -> ClassifierModel | DetectorModel:
    """Build the model of one file without memory for its weights, and count its layers, parameters and FLOPs.

    Args:
        path: path of the model's YAML file.

    Raises:
        ConfigError: the file does not build a model.
    """
    config = read_yaml(path)
    with torch.device("meta"), torch.no_grad():
        model = instantiate(config, "models", classes=CLASSES).eval()
        return (_detector if isinstance(model, Detector) else _classifier)(path.stem, model)


def _classifier(name: str, model: nn.Module) -> ClassifierModel:
    image = torch.empty(1, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter, _Shapes() as shapes:
        logits: Tensor = model(image)
    return ClassifierModel(
        name,
        tuple(image.shape[1:]),
        tuple(shapes.maps),
        tuple(shapes.widths),
        tuple(logits.shape[1:]),
        sum(parameter.numel() for parameter in model.parameters()),
        counter.get_total_flops(),
    )


def _detector(name: str, model: Detector) -> DetectorModel:
    """Count a detector without its selection of boxes, which needs data and cannot run on a meta device."""
    inner, proposals = model.model, 0
    padded = inner.transform(torch.empty(1, 3, HEIGHT, WIDTH), None)[0].tensors
    with FlopCounterMode(display=False) as counter:
        levels = list(inner.backbone(padded).values())
        if isinstance(inner, FasterRCNN):
            inner.rpn.head(levels)
            proposals, generator, heads = inner.rpn.post_nms_top_n(), inner.rpn.anchor_generator, inner.roi_heads
            heads.box_predictor(
                heads.box_head(torch.empty(proposals, levels[0].shape[1], *heads.box_roi_pool.output_size))
            )
        else:
            inner.head(levels)
            generator = inner.anchor_generator
    return DetectorModel(
        name,
        tuple(tuple(level.shape[1:]) for level in levels),
        sum(
            level.shape[2] * level.shape[3] * number
            for level, number in zip(levels, generator.num_anchors_per_location(), strict=True)
        ),
        proposals,
        sum(parameter.numel() for parameter in model.parameters()),
        counter.get_total_flops(),
    )


def markdown(models: Iterable[ClassifierModel | DetectorModel]) -> str:
    """Return the page: introduction, command, table of the classifiers and table of the detectors."""
    rows: dict[tuple[str, ...], list[tuple[str, ...]]] = {COLUMNS: [], DETECTOR_COLUMNS: []}
    for model in models:
        rows[model.columns].append(model.row())
    return (
        INTRODUCTION.format(classes=CLASSES, side=SIDE)
        + table([COLUMNS, *rows[COLUMNS]])
        + DETECTORS.format(classes=CLASSES, height=HEIGHT, width=WIDTH)
        + table([DETECTOR_COLUMNS, *rows[DETECTOR_COLUMNS]])
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def main() -> None:
    """Write the page to the file given on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m assay_research.reports.studies.zoo <file.md>")
    try:
        write_atomically(markdown(map(measure, zoo())).encode(), Path(sys.argv[1]))
    except AssayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
