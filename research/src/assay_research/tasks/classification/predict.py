"""Batched prediction of a classifier on a split."""

import torch
from torch import Tensor, nn

from assay_research.data.classification import Split

BATCH = 500
"""Default number of images per batch."""


@torch.inference_mode()
def predict(
    graph: nn.Module, split: Split, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = BATCH
) -> Tensor:
    """Run a classifier on every image of a split, in eval mode.

    Args:
        graph: `Views` or `DenseView`, on the device; it stays in eval mode.
        split: n images, on any device.
        device: device to compute on.
        dtype: dtype to compute in; bfloat16 means autocast.
        batch: number of images per batch.

    Returns:
        float32 ``[n, classes]`` on the device: logits of one view, or probabilities averaged over several.
    """
    graph.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        return torch.cat([graph(images.to(device)).float() for images in split.images.split(batch)])
