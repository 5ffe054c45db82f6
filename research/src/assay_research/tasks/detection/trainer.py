"""Trainer for detectors."""

from collections.abc import Iterator
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from assay_deploy.images.canvas import View
from assay_research.data.box_augment import BoxAugment, augment_boxes, draw
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.errors import ConfigError
from assay_research.models.boxes import Found
from assay_research.models.normalized import Normalized, Pretrained
from assay_research.runs.score import MAP
from assay_research.schedules import Constant
from assay_research.tasks.detection.metrics import measure
from assay_research.tasks.detection.predict import predict
from assay_research.tasks.detection.views import BoxViews
from assay_research.training.loop import Loop, LoopOptions

Target = dict[str, Tensor]


class DetectorTrainer(Loop):
    """Trainer of one detector on one data set.

    The images stay in main memory, or in the data set's cache file; batches are augmented on the device. Ignored
    objects are not used as targets.

    Args:
        model: model from images in [0, 1] to `Detections`, or with targets to losses. Its channel statistics are set
            from the training images, unless its pretrained weights have their own.
        data: the data set with its three splits.
        optimizer: optimizer over the model's parameters.
        schedule: learning-rate schedule, a factor on the optimizer's base rates.
        view: the plain view, used for validation.
        settings: augmentation of the training images.
        **options: options of `Loop`.
    """

    CHOSEN: ClassVar[str] = MAP.val
    data: DetectionData

    def __init__(
        self,
        model: Normalized,
        data: DetectionData,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Constant,
        view: View = View(),  # noqa: B008 - frozen
        settings: BoxAugment | None = None,
        **options: Unpack[LoopOptions],
    ) -> None:
        network = model.network
        expected = network.statistics if isinstance(network, Pretrained) else None
        model.set_statistics(*(expected or data.channel_statistics()))
        super().__init__(model, data, optimizer, schedule, **options)
        self.settings = settings or BoxAugment()
        self.plain = BoxViews(self.result, data.canvas, [view]).to(self.device)

    def parts(self, indices: Tensor) -> Iterator[tuple[Tensor, list[Target]]]:
        """See `Loop.parts`: augmented images and their targets."""
        draws = draw(len(indices), self.generator)
        mine = self.world.share(len(indices))
        for chosen, drawn in zip(
            indices[mine].chunk(self.accumulate), draws[:, mine].chunk(self.accumulate, 1), strict=True
        ):
            images, targets = self._taken(self.data.train, chosen.tolist())
            boxes, labels = ([target[key] for target in targets] for key in ("boxes", "labels"))
            images, boxes, labels = augment_boxes(images, boxes, labels, self.settings, drawn)
            yield images, [{"boxes": one, "labels": two} for one, two in zip(boxes, labels, strict=True)]

    def measure(self, part: tuple[Tensor, list[Target]]) -> tuple[Tensor, ...]:
        """See `Loop.measure`: the sum of the detector's losses."""
        images, targets = part
        losses: dict[str, Tensor] = self.forward(images, targets)
        return (torch.stack(list(losses.values())).sum(),)

    def disable_augmentation(self) -> None:
        """See `Loop.disable_augmentation`."""
        raise ConfigError("probe=overfit_one_batch is for classifiers: a detector's loss does not fall to near 0")

    def validate(self) -> dict[str, float]:
        """See `Loop.validate`."""
        split = self.data.val
        scores = measure(self.predict(self.plain, split), split, self.data.canvas, self.data.classes)
        return {"val_loss": self._loss(split), "val_map": scores.map, "val_map50": scores.map50}

    def predict(self, graph: nn.Module, split: BoxSplit) -> list[Found]:
        """Return the graph's detections in every image of a split, on the CPU."""
        return predict(graph, split, self.device, self.dtype, self.batch_size)

    @torch.no_grad()
    def _loss(self, split: BoxSplit) -> float:
        """Mean loss over a split's images without augmentation, with BatchNorm's running statistics.

        The random seed is fixed, so that detectors that sample anchors or proposals for their loss sample the same.
        """
        model = self.result
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []), self.autocast():
            torch.manual_seed(0)
            for chosen in torch.arange(len(split)).split(self.batch_size):
                images, targets = self._taken(split, chosen.tolist())
                losses: dict[str, Tensor] = model(images.permute(0, 3, 1, 2).float() / 255, targets)
                total += torch.stack(list(losses.values())).sum() * len(chosen)
        return (total / len(split)).item()

    def _taken(self, split: BoxSplit, chosen: list[int]) -> tuple[Tensor, list[Target]]:
        """Return images uint8 ``[batch, height, width, 3]`` of a split and their targets, on the device."""
        targets = [
            {"boxes": split.boxes[i][~split.ignored[i]], "labels": split.labels[i][~split.ignored[i]]} for i in chosen
        ]
        on_device = [{key: value.to(self.device) for key, value in target.items()} for target in targets]
        return split.images[chosen].to(self.device), on_device
