"""A view is a resize, a crop and a mirror; several are averaged as probabilities."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as reference

from assay_deploy.images.canvas import Canvas, View
from assay_research.tasks.classification.views import Views

CANVAS = Canvas(16, 24)


class Pixels(nn.Module):
    """A model whose logits are the pixels it was given."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def some_images(batch: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, CANVAS.height, CANVAS.width, 3), generator=generator, dtype=torch.uint8)


def seen(view: View) -> Tensor:
    return Views(Pixels(), CANVAS, [view])(some_images()).unflatten(1, (3, CANVAS.height, CANVAS.width))


def test_plain_view_is_the_image_to_the_bit() -> None:
    assert torch.equal(seen(View()), some_images().permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize(
    ("crop", "top", "left"),
    [("center", 4, 6), ("top_left", 0, 0), ("top_right", 0, 12), ("bottom_left", 8, 0), ("bottom_right", 8, 12)],
)
@pytest.mark.parametrize("flip", [False, True])
def test_view_is_a_crop_of_the_resized_image(crop: str, top: int, left: int, flip: bool) -> None:
    resized = reference.resize(some_images().permute(0, 3, 1, 2) / 255, [24], antialias=True)
    expected = resized[:, :, top : top + 16, left : left + 24]
    found = seen(View(size=24, crop=crop, flip=flip))
    torch.testing.assert_close(found, expected.flip(3) if flip else expected, atol=1e-5, rtol=0)


def test_several_views_average_their_probabilities() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 24, 7))
    views = [View(), View(flip=True), View(size=20), View(size=28, crop="top_left", flip=True)]
    expected = torch.stack([Views(model, CANVAS, [view])(some_images()).softmax(1) for view in views]).mean(0)
    torch.testing.assert_close(Views(model, CANVAS, views)(some_images()), expected)


def test_one_view_gives_logits() -> None:
    logits = Views(Pixels(), CANVAS, [View(flip=True)])(some_images())
    assert not torch.allclose(logits.sum(1), torch.ones(len(logits)))


def test_views_carry_no_state() -> None:
    assert not Views(Pixels(), CANVAS, [View(size=20)]).state_dict()


def test_no_view_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one view"):
        Views(Pixels(), CANVAS, [])


def test_view_smaller_than_the_canvas_is_refused() -> None:
    with pytest.raises(ValueError, match="size 12 is smaller than the 16x24 canvas"):
        Views(Pixels(), CANVAS, [View(size=12)])
