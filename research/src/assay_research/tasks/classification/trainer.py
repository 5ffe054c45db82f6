"""Trainer for classifiers, with all images in the device's memory."""

from collections.abc import Iterator
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from assay_deploy.images.canvas import View
from assay_research.data.augment import Augment, augment, draw
from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import ConfigError
from assay_research.models.normalized import Normalized
from assay_research.runs.score import TOP1
from assay_research.schedules import Constant
from assay_research.tasks.classification.metrics import cross_entropy, top1
from assay_research.tasks.classification.predict import predict
from assay_research.tasks.classification.views import Views
from assay_research.training.loop import Loop, LoopOptions


class ClassifierTrainer(Loop):
    """Trainer of one classifier on one data set.

    The data set is stored on the device as uint8; batches are gathered and augmented there.

    Args:
        model: model for images in [0, 1]; its channel statistics are set from the training images.
        data: the data set with its three splits.
        optimizer: optimizer over the model's parameters.
        schedule: learning-rate schedule, a factor on the optimizer's base rates.
        view: the plain view, used for validation.
        settings: augmentation of the training images.
        label_smoothing: label smoothing of the cross-entropy (Szegedy et al., arXiv:1512.00567), in [0, 1).
        **options: options of `Loop`.
    """

    MEASURED: ClassVar[tuple[str, ...]] = ("loss", "top1")
    CHOSEN: ClassVar[str] = TOP1.val
    data: ClassificationData

    def __init__(
        self,
        model: Normalized,
        data: ClassificationData,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Constant,
        view: View = View(),  # noqa: B008 - frozen
        settings: Augment | None = None,
        label_smoothing: float = 0.0,
        **options: Unpack[LoopOptions],
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"expected 0 <= label_smoothing < 1, got {label_smoothing}")
        model.set_statistics(*data.channel_statistics())
        super().__init__(model, data, optimizer, schedule, **options)
        self.train_split, self.val_split = data.train.to(self.device), data.val.to(self.device)
        self.settings = settings or Augment()
        self.label_smoothing = label_smoothing
        self.plain = Views(self.result, data.canvas, [view]).to(self.device)

    def parts(self, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Loop.parts`: augmented images and their labels."""
        draws = draw(len(indices), self.settings, self.generator)
        mine = self.world.share(len(indices))
        parts = self.accumulate
        for chosen, drawn in zip(indices[mine].chunk(parts), draws[:, mine].chunk(parts, 1), strict=True):
            # index_select copies whole images: 18 times as fast as indexing, on a CPU.
            images = augment(self.train_split.images.index_select(0, chosen), self.settings, drawn)
            yield images, self.train_split.labels.index_select(0, chosen)

    def measure(self, part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Loop.measure`."""
        images, labels = part
        logits = self.forward(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss, (logits.detach().argmax(1) == labels).float().mean()

    def disable_augmentation(self) -> None:
        """See `Loop.disable_augmentation`."""
        self.settings = Augment()

    def validate(self) -> dict[str, float]:
        """See `Loop.validate`."""
        logits, labels = self.predict(self.plain, self.val_split), self.val_split.labels
        return {"val_loss": cross_entropy(logits, labels), "val_top1": top1(logits, labels)}

    def predict(self, graph: Views, split: Split) -> Tensor:
        """Return the graph's float32 output ``[n, classes]`` for a split; each process computes its share."""
        if self.world.size == 1:
            return predict(graph, split, self.device, self.dtype)
        rank, size = self.world.rank, self.world.size
        mine = predict(graph, Split(split.images[rank::size], split.labels[rank::size], ()), self.device, self.dtype)
        answers = torch.zeros(len(split), mine.shape[1], device=self.device)
        answers[rank::size] = mine
        return self.world.sum(answers)
