"""The two matrices do what Pillow's and torchvision's antialiased bilinear filter does, then crop, pad and mirror."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from assay_research.data.resample import axis_weights, resample

SOURCE = 16


def image() -> Tensor:
    return torch.rand(1, 3, SOURCE, SOURCE, generator=torch.Generator().manual_seed(0))


def weights(target: int, size: float, offset: float = 0, flip: bool = False) -> Tensor:
    return axis_weights(SOURCE, target, torch.tensor([size]), torch.tensor([offset]), torch.tensor([flip]))


@pytest.mark.parametrize("size", [1, 5, 8, 15, 16, 17, 24, 40])
def test_resize_is_torchvisions_antialiased_bilinear(size: int) -> None:
    matrix = weights(size, size)
    expected = reference.resize(image(), [size, size], antialias=True)
    torch.testing.assert_close(resample(image(), matrix, matrix), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [5, 24])
def test_resize_is_pillows_bilinear_within_its_rounding(size: int) -> None:
    pixels = (image()[0, 0] * 255).round()
    pillow = Image.fromarray(pixels.numpy().astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)
    matrix = weights(size, size)[0]
    # Pillow rounds to whole levels after each of its two passes.
    torch.testing.assert_close(
        resample(pixels, matrix, matrix), torch.from_numpy(np.array(pillow)).float(), atol=1.01, rtol=0
    )


def test_same_size_is_the_identity() -> None:
    assert torch.equal(weights(SOURCE, SOURCE)[0], torch.eye(SOURCE))


def test_offset_takes_that_part_of_the_resized_axis() -> None:
    assert torch.equal(weights(10, 24, offset=7), weights(24, 24)[:, 7:17])


def test_outside_the_resized_axis_is_zero() -> None:
    matrix = weights(30, 24, offset=-3)[0]
    assert torch.equal(matrix[3:27], weights(24, 24)[0])
    assert matrix[:3].count_nonzero() == matrix[27:].count_nonzero() == 0


def test_flip_mirrors_the_crop() -> None:
    torch.testing.assert_close(weights(10, 24, 7, flip=True), weights(10, 24, 7).flip(1))


def test_every_image_of_a_batch_has_its_own_weights() -> None:
    sizes, offsets, flips = torch.tensor([16.0, 24.0, 9.0]), torch.tensor([0.0, 5.0, -2.0]), torch.tensor([0, 1, 0])
    together = axis_weights(SOURCE, 12, sizes, offsets, flips.bool())
    for i in range(3):
        torch.testing.assert_close(together[i], weights(12, sizes[i].item(), offsets[i].item(), bool(flips[i]))[0])


def test_lines_inside_the_image_sum_to_one() -> None:
    torch.testing.assert_close(weights(24, 24).sum(-1), torch.ones(1, 24))
    torch.testing.assert_close(weights(5, 5).sum(-1), torch.ones(1, 5))
