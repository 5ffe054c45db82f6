"""Augmentation gives each image a random crop, mirror or colour change of itself, and nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from assay_research.data.augment import Augment, _recolour, augment, draw

GREY = torch.tensor([0.299, 0.587, 0.114])
EVERYTHING = Augment(flip=True, pad=2, scale=[18, 24], brightness=0.4, contrast=0.4, saturation=0.4, cutout=5)
TO_TEST = {
    "flip": Augment(flip=True),
    "crop": Augment(flip=True, pad=4),
    "scale": Augment(flip=True, scale=[18, 24]),
    "colour": Augment(brightness=0.4, contrast=0.4, saturation=0.4),
    "cutout": Augment(cutout=5),
    "everything": EVERYTHING,
}


def noise(batch: int, height: int = 16, width: int = 16, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(low, high, (batch, height, width, 3), generator=generator, dtype=torch.uint8)


def run(images: Tensor, settings: Augment, seed: int = 0) -> Tensor:
    return vary(images, settings, torch.Generator().manual_seed(seed))


def vary(images, settings, generator):
    """Draw and augment at once."""
    return augment(images, settings, draw(len(images), settings, generator))


def plain(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2) / 255


def crops(image: Tensor, height: int, width: int) -> Tensor:
    """Every crop of a float image ``[3, H, W]``, ``[down, right, 3, height, width]``."""
    return image.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)


def find(wanted: Tensor, among: Tensor) -> list[int] | None:
    """Where `wanted` stands in a grid of crops, within rounding."""
    distance = (among - wanted).abs().flatten(2).amax(2)
    return (distance == distance.min()).nonzero()[0].tolist() if distance.min() < 1e-5 else None


def test_defaults_only_cast_and_draw_no_number() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(vary(noise(4), Augment(), generator), plain(noise(4)))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("settings", [Augment(), *TO_TEST.values()], ids=["nothing", *TO_TEST])
def test_output_is_float_in_unit_range_and_channels_last(settings: Augment) -> None:
    x = run(noise(8), settings)
    assert x.shape == (8, 3, 16, 16)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= x.min() <= x.max() <= 1


def test_flip_mirrors_about_half_of_the_images_and_keeps_the_rest() -> None:
    images = noise(1).expand(400, -1, -1, -1)
    x, same = run(images, Augment(flip=True)), plain(images)
    mirrored = (x == same.flip(3)).flatten(1).all(1)
    assert ((x == same).flatten(1).all(1) ^ mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_pad_takes_every_crop_of_the_padded_image() -> None:
    images = noise(1, 6, 9).expand(300, -1, -1, -1)
    padded = torch.nn.functional.pad(plain(images[:1])[0], (2, 2, 2, 2))
    places = [find(x, crops(padded, 6, 9)) for x in run(images, Augment(pad=2))]
    assert {tuple(place) for place in places if place} == {(down, right) for down in range(5) for right in range(5)}
    assert None not in places


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 24), (24, 16)])
def test_scale_takes_crops_of_the_image_resized_as_torchvision_resizes(height: int, width: int) -> None:
    images = noise(1, height, width).expand(200, -1, -1, -1)
    sizes = [[round(size * length / 16) for length in (height, width)] for size in range(18, 22)]
    resized = [crops(reference.resize(plain(images[:1]), size, antialias=True)[0], height, width) for size in sizes]
    found = [[find(x, each) for each in resized] for x in run(images, Augment(scale=[18, 21]))]
    assert all(any(row) for row in found)
    assert all(any(row[i] for row in found) for i in range(4)), "some S in [18, 21] never came"
    rooms = [each.shape[:2] for each in resized]
    reached = [max((row[3] for row in found if row[3]), key=lambda place: place[axis])[axis] for axis in (0, 1)]
    assert reached == [room - 1 for room in rooms[3]], "the last crop of the largest S never came"


def test_scale_below_the_canvas_with_padding_is_a_crop_with_a_black_border() -> None:
    images = noise(1, 16, 16).expand(50, -1, -1, -1)
    small = reference.resize(plain(images[:1]), [12], antialias=True)[0]
    among = crops(torch.nn.functional.pad(small, (3, 3, 3, 3)), 16, 16)
    assert all(find(x, among) for x in run(images, Augment(scale=[12, 12], pad=3)))


@pytest.mark.parametrize("settings", [Augment(pad=2), Augment(scale=[18, 24]), replace(EVERYTHING, cutout=0)])
def test_switching_flip_on_only_mirrors(settings: Augment) -> None:
    still, mirrored = (run(noise(64), replace(settings, flip=flip)) for flip in (False, True))
    same = torch.isclose(still, mirrored, atol=1e-5).flatten(1).all(1)
    swapped = torch.isclose(still.flip(3), mirrored, atol=1e-5).flatten(1).all(1)
    assert (same ^ swapped).all()
    assert same.any()
    assert swapped.any()


def test_brightness_multiplies_by_one_factor_a_image() -> None:
    images = noise(200, low=40, high=160)
    factors = run(images, Augment(brightness=0.5)) / plain(images)
    assert torch.allclose(factors, factors[:, :1, :1, :1].expand_as(factors), atol=1e-4)
    assert 0.5 <= factors.min() < 0.55
    assert 1.45 < factors.max() <= 1.5


def test_contrast_keeps_mean_grey() -> None:
    images = noise(50, low=100, high=156)
    x, before = run(images, Augment(contrast=0.5)), plain(images)
    means = [torch.einsum("bchw,c->b", each, GREY) / 256 for each in (x, before)]
    assert torch.allclose(*means, atol=1e-5)
    spreads = x.flatten(1).std(1) / before.flatten(1).std(1)
    assert 0.49 < spreads.min() < 0.7
    assert 1.3 < spreads.max() < 1.51


def test_saturation_keeps_each_pixels_grey() -> None:
    images = noise(50, low=100, high=156)
    x, before = run(images, Augment(saturation=0.5)), plain(images)
    greys = [torch.einsum("bchw,c->bhw", each, GREY) for each in (x, before)]
    assert torch.allclose(*greys, atol=1e-5)
    assert not torch.allclose(x, before, atol=0.02)


def test_colours_together_are_torchvisions_one_after_the_other() -> None:
    x = plain(noise(9, low=90, high=166))
    factors = [tuple(row) for row in torch.rand(9, 3, generator=torch.Generator().manual_seed(3)) * 0.4 + 0.8]
    expected = torch.stack(
        [
            reference.adjust_saturation(
                reference.adjust_contrast(reference.adjust_brightness(image, float(b)), float(c)), float(s)
            )
            for image, (b, c, s) in zip(x, factors, strict=True)
        ]
    )
    brightness, contrast, saturation = torch.tensor(factors).T
    torch.testing.assert_close(_recolour(x, brightness, contrast, saturation), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_is_a_grey_square_around_any_pixel_and_nothing_else(side: int) -> None:
    height, width = 6, 9
    cut = run(noise(1, height, width, high=100).expand(600, -1, -1, -1), Augment(cutout=side)) == 0.5
    assert torch.equal(cut.all(1), cut.any(1))
    squares = torch.zeros(height, width, height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            top, left = row - side // 2, column - side // 2
            squares[row, column, max(top, 0) : top + side, max(left, 0) : left + side] = True
    matches = (cut.all(1)[:, None] == squares.flatten(0, 1)).flatten(2).all(2)
    assert matches.any(1).all()
    assert matches.any(0).all(), "some place was never cut out"


def test_cutout_leaves_the_rest_as_it_is_without() -> None:
    whole, cut = (run(noise(64), replace(EVERYTHING, cutout=side)) for side in (0, 5))
    kept = cut != 0.5
    assert kept.float().mean() > 0.8
    assert torch.equal(whole[kept], cut[kept])


@pytest.mark.parametrize("settings", TO_TEST.values(), ids=TO_TEST)
def test_generator_alone_decides(settings: Augment) -> None:
    generator = torch.Generator().manual_seed(5)
    vary(noise(8), settings, generator)
    state = generator.get_state()
    torch.manual_seed(1)
    first = vary(noise(8), settings, generator)
    torch.manual_seed(2)
    generator.set_state(state)
    assert torch.equal(vary(noise(8), settings, generator), first)
    assert not torch.equal(vary(noise(8), settings, generator), first)


def test_as_many_numbers_are_drawn_whatever_is_switched_on() -> None:
    states = []
    for settings in TO_TEST.values():
        generator = torch.Generator().manual_seed(0)
        vary(noise(8), settings, generator)
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_each_image_gets_its_own_draw() -> None:
    x = run(noise(1).expand(6, -1, -1, -1), EVERYTHING)
    assert all(not torch.allclose(x[i], x[j], atol=1e-2) for i in range(6) for j in range(i))


@pytest.mark.parametrize("settings", TO_TEST.values(), ids=TO_TEST)
def test_memory_layout_of_the_images_does_not_matter(settings: Augment) -> None:
    channels_first_in_memory = noise(8).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(run(channels_first_in_memory, settings), run(noise(8), settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pad": -1}, "pad must be 0 pixels or more, got -1"),
        ({"cutout": -2}, "cutout must be 0 pixels or more, got -2"),
        ({"scale": [40]}, "scale must be .S_min, S_max. .* got .40."),
        ({"scale": [40, 36]}, "S_min <= S_max, got .40, 36."),
        ({"scale": [0, 36]}, "1 <= S_min"),
        ({"brightness": -0.1}, "brightness must be from 0 to 1, got -0.1"),
        ({"contrast": 1.5}, "contrast must be from 0 to 1, got 1.5"),
        ({"saturation": float("nan")}, "saturation must be from 0 to 1, got nan"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**settings)


def test_scale_smaller_than_the_canvas_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves 14 pixels for a crop of 16"):
        run(noise(2), Augment(scale=[12, 20], pad=1))
