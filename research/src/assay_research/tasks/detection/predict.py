"""A detector's answer to every image of a split, so many images at a time."""

from typing import Any

import torch
from torch import nn

from assay_research.data.detection import BoxSplit
from assay_research.models.boxes import Found

BATCH = 8
"""Images at a time, where nothing else is said."""


@torch.inference_mode()
def predict(
    graph: nn.Module, split: BoxSplit, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = BATCH
) -> list[Found]:
    """What a graph finds in every image of a split, in eval mode.

    Args:
        graph: `BoxViews`, on the device; it is left in eval mode.
        split: n images.
        device: where to compute.
        dtype: what to compute in; bfloat16 means autocast.
        batch: images at a time.

    Returns:
        n times boxes in canvas pixels, on the CPU.
    """
    graph.eval()
    found: list[Found] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        for images in split.images.split(batch):
            answer: Any = graph(images.to(device))
            found += [Found(*(each.cpu() for each in answer.image(i))) for i in range(len(images))]
    return found
