"""The probe: a few images on which a faulty artifact differs from the model."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from assay_deploy.bundle.manifest import DENSE
from assay_export.formats.runner import Images, Outputs, Runner

PROBE_IMAGES = 16
"""Number of test images in the probe: enough for all classes of a small data set, few enough to ship."""


def make_probe(images: Tensor) -> Tensor:
    """Return the probe: test images from all over the split, a black and a white image, and coloured noise.

    Noise is needed for grey data sets, where no test image would detect swapped channels.

    Args:
        images: images of the test split, uint8 ``[n, height, width, 3]``.

    Returns:
        uint8 ``[images, height, width, 3]``; the same split gives the same images.
    """
    chosen = images[torch.linspace(0, len(images) - 1, min(PROBE_IMAGES, len(images))).long()]
    noise = np.random.default_rng(0).integers(0, 256, images.shape[1:], dtype=np.uint8)
    extremes = [torch.zeros_like(images[0]), torch.full_like(images[0], 255), torch.from_numpy(noise)]
    return torch.cat([chosen, torch.stack(extremes)])


def tiled(probe: Tensor) -> Tensor:
    """Return a probe for dense graphs: each image is 2 x 3 probe images, uint8 ``[images, 2 height, 3 width, 3]``."""
    row = torch.cat([probe.roll(shift, 0) for shift in range(3)], 2)
    return torch.cat([row, row.roll(3, 0)], 1)


def enlarged(run: Runner, dense: int) -> Runner:
    """Return a runner that enlarges images by the stride `dense` in pixels, to the least size that the graph takes."""

    def run_larger(images: Images) -> Outputs:
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        height, width = planes.shape[2:]
        larger = functional.interpolate(planes, (height + dense, width + dense), mode="bilinear")
        return run(larger.round().byte().permute(0, 2, 3, 1).contiguous().numpy())

    return run_larger


def probe_for(variant: str, probe: Tensor) -> Tensor:
    """Return the probe images for a graph of that variant; see `make_probe` and `tiled`."""
    return tiled(probe) if variant == DENSE else probe


def runner_for_test(run: Runner, dense: int | None) -> Runner:
    """Return the runner for the test split; for a dense graph, of stride `dense`, it enlarges the images."""
    return run if dense is None else enlarged(run, dense)
