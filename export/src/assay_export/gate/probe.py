"""The probe: a few images that show a fault."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from assay_deploy.bundle.manifest import DENSE
from assay_export.formats.runner import Images, Outputs, Runner

PROBE_IMAGES = 16
"""Of the test split, in the probe: enough to show all classes of a small data set, few enough to ship."""


def make_probe(images: Tensor) -> Tensor:
    """A few images that show a fault: test images from all over the split, black, white and coloured noise.

    Noise matters where the data set is grey: there the channels could be swapped and no test image would tell.

    Args:
        images: of the test split, uint8 ``[n, height, width, 3]``.

    Returns:
        uint8 ``[images, height, width, 3]``, the same for the same split.
    """
    chosen = images[torch.linspace(0, len(images) - 1, min(PROBE_IMAGES, len(images))).long()]
    noise = np.random.default_rng(0).integers(0, 256, images.shape[1:], dtype=np.uint8)
    extremes = [torch.zeros_like(images[0]), torch.full_like(images[0], 255), torch.from_numpy(noise)]
    return torch.cat([chosen, torch.stack(extremes)])


def tiled(probe: Tensor) -> Tensor:
    """A probe for dense graphs: two by three of its images in each, uint8 ``[images, 2 height, 3 width, 3]``."""
    row = torch.cat([probe.roll(shift, 0) for shift in range(3)], 2)
    return torch.cat([row, row.roll(3, 0)], 1)


def enlarged(run: Runner, dense: int) -> Runner:
    """Show images, larger by so many pixels a side, to a dense graph: the smallest it takes."""

    def run_larger(images: Images) -> Outputs:
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        height, width = planes.shape[2:]
        larger = functional.interpolate(planes, (height + dense, width + dense), mode="bilinear")
        return run(larger.round().byte().permute(0, 2, 3, 1).contiguous().numpy())

    return run_larger


def probe_for(look: str, probe: Tensor) -> Tensor:
    """The images that probe a graph which looks at them that way; see `make_probe` and `tiled`."""
    return tiled(probe) if look == DENSE else probe


def for_test(run: Runner, dense: int | None) -> Runner:
    """The runner that is shown the test split: a dense graph gets its images enlarged."""
    return run if dense is None else enlarged(run, dense)
