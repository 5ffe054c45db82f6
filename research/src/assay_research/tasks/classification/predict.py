"""A classifier's answer to every image of a split, so many images at a time."""

import torch
from torch import Tensor, nn

from assay_research.data.classification import Split

BATCH = 500
"""Images at a time, where nothing else is said."""


@torch.inference_mode()
def predict(
    graph: nn.Module, split: Split, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = BATCH
) -> Tensor:
    """The graph's answer to every image of a split, in eval mode.

    Args:
        graph: `Views` or `DenseView`, on the device; it is left in eval mode.
        split: n images, on any device.
        device: where to compute.
        dtype: what to compute in; bfloat16 means autocast.
        batch: images at a time.

    Returns:
        float32 ``[n, classes]`` on the device: logits of one view, or probabilities averaged over several.
    """
    graph.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        return torch.cat([graph(images.to(device)).float() for images in split.images.split(batch)])
