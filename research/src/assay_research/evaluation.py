"""Score a classifier on a split, looking at it through any views."""

import torch
import torch.nn.functional as F
from torch import Tensor

from assay_research.data import Split
from assay_research.views import Views

BATCH = 500


@torch.inference_mode()
def predict(graph: Views, split: Split, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """The graph's answer to every picture of a split, in eval mode.

    Args:
        graph: on the device; it is left in eval mode.
        split: n pictures, on any device.
        device: where to compute.
        dtype: what to compute in; bfloat16 means autocast.

    Returns:
        float32 ``[n, classes]`` on the device: logits of one view, or probabilities averaged over several.
    """
    graph.eval()
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        return torch.cat([graph(images.to(device)).float() for images in split.images.split(BATCH)])


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy in nats of ``[n, classes]`` logits."""
    return F.cross_entropy(logits, labels.to(logits.device)).item()


def top1(outputs: Tensor, labels: Tensor) -> float:
    """Fraction of ``[n, classes]`` outputs whose highest is the label."""
    return (outputs.argmax(1) == labels.to(outputs.device)).double().mean().item()
