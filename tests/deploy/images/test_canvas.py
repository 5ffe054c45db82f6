"""An image is put on the canvas as defined, or refused."""

import numpy as np
import pytest
from numpy.typing import NDArray

from assay_deploy.images.canvas import Canvas, place

RAMP = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3) * 5
"""A 3x5 image without any symmetry."""


def test_place_resizes_the_whole_image_to_the_canvas() -> None:
    halves = np.zeros((10, 40, 3), np.uint8)
    halves[:, 20:] = 255
    placed = place(halves, Canvas(8, 8))
    assert placed.shape == (8, 8, 3)
    np.testing.assert_array_equal(placed[:, [0, 1, 2, 5, 6, 7], 0], [[0, 0, 0, 255, 255, 255]] * 8)
    assert (placed[:, 3] < 40).all()  # antialiased: a little of the neighbour
    assert (placed[:, 4] > 215).all()


def test_place_leaves_a_image_that_fits_alone() -> None:
    assert place(RAMP, Canvas(3, 5)) is RAMP


@pytest.mark.parametrize(
    "array", [RAMP.astype(np.float32), RAMP[..., 0], RAMP[..., :2], RAMP[:0], np.zeros((1, 2, 3, 3), np.uint8)]
)
def test_place_refuses_what_is_no_rgb_image(array: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected a uint8 array"):
        place(array, Canvas(8, 8))


def test_a_canvas_is_of_sensible_size() -> None:
    for height, width in ((0, 1), (1, -1), (10**6, 10**6)):
        with pytest.raises(ValueError, match="canvas"):
            Canvas(height, width)
