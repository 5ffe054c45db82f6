"""Training loop of most tutorials: a DataLoader with torchvision's transforms, one PIL image at a time."""

from collections.abc import Callable
from time import perf_counter

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from assay_research.data.augment import Augment
from assay_research.data.classification import Split

PREFETCH = 2
"""Batches that each worker prefetches; torch's default."""


class Images(Dataset[tuple[Tensor, int]]):
    """Data set of PIL images in memory, transformed on access."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images = [Image.fromarray(image) for image in split.images.numpy()]
        self.labels: list[int] = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def transform(settings: Augment, size: int) -> Callable[[Image.Image], Tensor]:
    """Torchvision transform for a fixed scale, a random crop, a random flip and colour jitter."""
    assert settings.scale is not None
    assert settings.flip
    steps = [
        transforms.Resize(settings.scale[0]),
        transforms.RandomCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(settings.brightness, settings.contrast, settings.saturation),
        transforms.ToTensor(),
        transforms.Normalize((0.49, 0.48, 0.45), (0.25, 0.24, 0.26)),
    ]
    return transforms.Compose(steps)  # type: ignore[no-any-return]


def load(images: Images, batch: int, workers: int, device: torch.device) -> DataLoader[tuple[Tensor, int]]:
    """Shuffling data loader with persistent workers; pins memory for CUDA."""
    return DataLoader(
        images,
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=device.type == "cuda",
    )


def margin(workers: int) -> int:
    """Number of untimed steps at the start and at the end of an epoch.

    During the timed steps, all workers are running: as many batches are prefetched at the end as at the start.
    """
    return max(PREFETCH * workers, 1)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[tuple[Tensor, int]],
    device: torch.device,
) -> float:
    """Train one epoch; return the total seconds of its steps, without the first and last ones, see `margin`."""
    untimed = margin(loader.num_workers)
    first, last = untimed - 1, len(loader) - untimed - 1
    assert first < last, "the epoch has no steps between its margins"
    model.train()
    times = []
    for step, (images, labels) in enumerate(loader):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if step in (first, last):
            loss.item()
            if device.type == "cuda":
                torch.cuda.synchronize()  # the loss is available before the step has finished
            times.append(perf_counter())
    return times[1] - times[0]
