"""Batched prediction of a detector on a split."""

from typing import Any

import torch
from torch import nn

from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found

BATCH = 8
"""Default number of images per batch."""


@torch.inference_mode()
def predict(
    graph: nn.Module, split: BoxSplit, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = BATCH
) -> list[Found]:
    """Run a detector on every image of a split, in eval mode.

    Args:
        graph: `BoxViews`, on the device; it stays in eval mode.
        split: n images.
        device: device to compute on.
        dtype: dtype to compute in; bfloat16 means autocast.
        batch: number of images per batch.

    Returns:
        Detections of each of the n images in canvas pixels, on the CPU.
    """
    graph.eval()
    found: list[Found] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        for images in split.images.split(batch):
            answer: Any = graph(images.to(device))
            found += [Found(*(each.cpu() for each in answer.image(i))) for i in range(len(images))]
    return found
