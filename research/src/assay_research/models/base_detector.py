"""Adapter for torchvision's detectors: images in; padded boxes or losses out."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet

from assay_research.errors import ConfigError
from assay_research.models.boxes import Detections
from assay_research.models.pretrained import Published, fetch, fit, read

DIVISOR = 32
"""A canvas is padded to a multiple of this, as torchvision does, so that every level's stride divides it."""

PREDICTORS = ("roi_heads.box_predictor.", "head.classification_head.cls_logits.")
"""Name prefixes of the layers whose width depends on the number of classes."""


class Detector(nn.Module):
    """Torchvision detector without its resizing and normalisation.

    Images must be normalised, placed on a canvas, and all of one size.

    Args:
        model: `FasterRCNN` or `RetinaNet`.
        weights: weights that `load_pretrained` loads: ``none``, ``backbone``, ``coco`` or a file.
        trainable: ``full``, or ``head`` to freeze the layers of the backbone that have pretrained weights, BatchNorm's
            statistics included.
        published: URLs of ``backbone`` and ``coco``; None if there are no published weights.

    Attributes:
        statistics: channel mean and standard deviation that the pretrained weights expect, float32 ``[3]`` each; None
            before they are loaded.

    Raises:
        ValueError: a value is out of range, or values do not fit together.

    Shape:
        - Input: float32 ``[batch, 3, height, width]``, normalised; to get losses, also a dict for each image:
          ``boxes`` float32 ``[objects, 4]``, left, top, right, bottom in canvas pixels, each with a positive area, and
          ``labels`` int64 ``[objects]`` from 0.
        - Output: `Detections`; or, with targets, the losses by name, float32 scalars. The train or eval mode does not
          change this: it only affects BatchNorm.
    """

    def __init__(
        self, model: FasterRCNN | RetinaNet, weights: str, trainable: str, published: Published | None
    ) -> None:
        super().__init__()
        if published is None and weights in ("backbone", "coco"):
            raise ValueError(f"there are no published weights={weights} for this model; expected none or a file")
        if trainable not in ("full", "head") or (trainable == "head" and weights == "none"):
            raise ValueError(
                "trainable must be full, or head with pretrained weights, "
                f"got trainable={trainable} with weights={weights}"
            )
        two_stages = isinstance(model, FasterRCNN)
        last = model.roi_heads if two_stages else model
        self.detections: int = last.detections_per_img
        if self.detections < 1 or not 0 <= last.score_thresh <= 1 or not 0 <= last.nms_thresh <= 1:
            raise ValueError(
                "expected at least one detection, and thresholds from 0 to 1, got "
                f"{self.detections}, {last.score_thresh} and {last.nms_thresh}"
            )
        self.model = model
        self.weights, self.trainable, self.published = weights, trainable, published
        self.background = int(two_stages)
        self.statistics: tuple[Tensor, Tensor] | None = None
        if self.frozen is not None:
            self.frozen.requires_grad_(False)
        model.transform = _Batch()
        outputs = (model.rpn.head, model.roi_heads.box_predictor) if two_stages else (model.head,)
        for module in outputs:
            module.register_forward_hook(_in_float32)

    @property
    def frozen(self) -> nn.Module | None:
        """Frozen part of the backbone; None if all is trained. The pyramid is trained if the weights have none."""
        if self.trainable == "full":
            return None
        frozen: nn.Module = self.model.backbone.body if self.weights == "backbone" else self.model.backbone
        return frozen

    def train(self, mode: bool = True) -> "Detector":
        """Set the mode of everything but the frozen layers, which stay in eval mode."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Detections | dict[str, Tensor]:
        """Return the detections, or with targets the losses."""
        for part in (self.model, *((self.model.rpn, self.model.roi_heads) if self.background else ())):
            part.training = targets is not None  # only on this module: it selects losses or boxes
        if targets is not None:
            losses: dict[str, Tensor] = self.model(
                images, [{**target, "labels": target["labels"] + self.background} for target in targets]
            )
            return losses
        found = self.model(images)
        room = [self.detections - len(each["scores"]) for each in found]
        boxes, scores, labels = (
            torch.stack([_extend(each[key], more, value) for each, more in zip(found, room, strict=True)])
            for key, value in (("boxes", 0), ("scores", 0), ("labels", self.background - 1))
        )
        return Detections(boxes, scores, labels - self.background)

    def load_pretrained(self) -> None:
        """Load the pretrained weights; the constructor does not, since a checkpoint may replace them.

        Layers whose width depends on the number of classes are not changed if that number differs.

        Raises:
            ConfigError: the weights are not available, or are for another model.
        """
        if self.weights == "none":
            return
        urls = {"coco": self.published.coco, "backbone": self.published.imagenet} if self.published else {}
        path = fetch(urls[self.weights]) if self.weights in urls else Path(self.weights).expanduser()
        found = read(path)
        if found.whole:
            fit(self.model, found.tensors, path, new=PREDICTORS)
        elif self.frozen is self.model.backbone:
            raise ConfigError(
                f"model.weights: '{path}' contains only a backbone; trainable=head needs weights of a whole detector"
            )
        else:
            classifier = ("fc.", "classifier.")
            tensors = {name: each for name, each in found.tensors.items() if not name.startswith(classifier)}
            fit(self.model.backbone.body, {name.removeprefix("features."): tensors[name] for name in tensors}, path)
        self.statistics = found.statistics


class _Batch(nn.Module):
    """Replacement of torchvision's transform: pads images to a multiple of `DIVISOR`, and does not change boxes."""

    def forward(self, images: Tensor, targets: Any) -> tuple[ImageList, Any]:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % DIVISOR, 0, -height % DIVISOR))
        return ImageList(padded, [(height, width)] * len(images)), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: Any) -> list[dict[str, Tensor]]:
        return found


def _in_float32(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Forward hook that converts outputs to float32: in bfloat16, with 8 bits, boxes would be off by 1 pixel in 256."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {key: _in_float32(module, inputs, each) for key, each in output.items()}
    return type(output)(_in_float32(module, inputs, each) for each in output)


def _extend(tensor: Tensor, more: int, value: float) -> Tensor:
    """Append `more` rows filled with one value."""
    return torch.cat([tensor, tensor.new_full((more, *tensor.shape[1:]), value)])
