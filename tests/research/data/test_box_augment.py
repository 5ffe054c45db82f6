"""Whatever is done to an image is done to the boxes in it, and the draws alone decide what."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from assay_deploy.images.canvas import GREY
from assay_research.data.box_augment import MIN_AREA_LEFT, BoxAugment, augment_boxes, draw

HEIGHT, WIDTH = 48, 64
COLOURS = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
SETTINGS = {
    "nothing": BoxAugment(),
    "flip": BoxAugment(flip=True),
    "flip_vertical": BoxAugment(flip_vertical=True),
    "enlarge": BoxAugment(scale=[1.0, 2.0]),
    "shrink": BoxAugment(scale=[0.4, 1.0]),
    "colour": BoxAugment(brightness=0.3, contrast=0.3, saturation=0.3),
    "everything": BoxAugment(flip=True, flip_vertical=True, scale=[0.5, 1.7], **COLOURS),
}


def noise(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)


def rectangles(batch: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """A red and a blue rectangle on black in each image, their boxes, and 3 and 5 as labels."""
    images = torch.zeros(batch, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    images[:, 6:26, 4:34, 0] = 250
    images[:, 30:44, 40:60, 2] = 250
    boxes = torch.tensor([[4.0, 6, 34, 26], [40, 30, 60, 44]])
    return images, [boxes] * batch, [torch.tensor([3, 5])] * batch


def vary(batch, settings: BoxAugment, seed: int = 0):
    images, boxes, labels = batch
    return augment_boxes(images, boxes, labels, settings, draw(len(images), torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_painted_rectangle_and_its_box_stay_together(settings: BoxAugment) -> None:
    seen = 0
    for image, boxes, labels in zip(*vary(rectangles(60), settings), strict=True):
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            colour = {3: 0, 5: 2}[label]
            mask = image[colour] - image[2 - colour] > 0.5 * (image[colour] - image[2 - colour]).max()
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            painted = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert box == pytest.approx([float(each) for each in painted], abs=1.01)
            seen += 1
    assert seen > 80


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_output_is_float_in_unit_range_and_channels_last_and_boxes_lie_on_it(settings: BoxAugment) -> None:
    images, boxes, labels = vary(rectangles(8), settings)
    assert images.shape == (8, 3, HEIGHT, WIDTH)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= images.min() <= images.max() <= 1
    for each, label in zip(boxes, labels, strict=True):
        assert type(each) is Tensor
        assert each.dtype == torch.float32
        assert len(each) == len(label)
        assert (each[:, :2] < each[:, 2:]).all()
        assert (each >= 0).all()
        assert (each <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all()


def test_defaults_only_cast() -> None:
    images, boxes, labels = rectangles(3)
    varied, same_boxes, same_labels = vary((images, boxes, labels), BoxAugment())
    assert torch.equal(varied, images.permute(0, 3, 1, 2) / 255)
    assert all(torch.equal(one, other) for one, other in zip(same_boxes, boxes, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(same_labels, labels, strict=True))


@pytest.mark.parametrize("name", ["flip", "flip_vertical"])
def test_mirrored_twice_is_what_it_was_and_half_are_mirrored(name: str) -> None:
    images, boxes, labels = rectangles(200)
    images = noise(200)
    once, moved, _ = vary((images, boxes, labels), SETTINGS[name])
    again = (once * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    twice, back, _ = vary((again, moved, labels), SETTINGS[name])
    assert torch.equal(twice, images.permute(0, 3, 1, 2) / 255)
    assert all(torch.equal(one, other) for one, other in zip(back, boxes, strict=True))
    mirrored = [not torch.equal(one, other) for one, other in zip(moved, boxes, strict=True)]
    assert 70 < sum(mirrored) < 130
    flipped = once.flip(3 if name == "flip" else 2)
    same = (images.permute(0, 3, 1, 2) / 255 == flipped).flatten(1).all(1)
    assert same.tolist() == mirrored


def test_scale_is_a_crop_of_the_resized_image_or_the_image_on_grey() -> None:
    image = noise(1)
    for fixed, size in ((2.0, (96, 128)), (0.5, (24, 32))):
        resized = reference.resize(image[0].permute(2, 0, 1), list(size)).float() / 255
        varied, boxes, _ = vary((image.expand(12, -1, -1, -1), *rectangles(12)[1:]), BoxAugment(scale=[fixed, fixed]))
        corners = set()
        for each, found in zip(varied, boxes, strict=True):
            if fixed > 1:
                windows = resized.unfold(1, HEIGHT, 1).unfold(2, WIDTH, 1).permute(1, 2, 0, 3, 4)
                wrong = (windows - each).abs().flatten(2).amax(2)
                top, left = (wrong == 0).nonzero()[0].tolist()
                corner = (-left, -top)
            else:
                windows = each.unfold(1, size[0], 1).unfold(2, size[1], 1).permute(1, 2, 0, 3, 4)
                wrong = (windows - resized).abs().flatten(2).amax(2)
                top, left = (wrong == 0).nonzero()[0].tolist()
                around = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
                around[top : top + size[0], left : left + size[1]] = False
                assert (each[:, around] == GREY / 255).all()
                corner = (left, top)
            corners.add(corner)
            expected = fixed * rectangles(1)[1][0] + torch.tensor(corner * 2)
            area = expected[:, 2:].sub(expected[:, :2]).prod(1)
            clipped = torch.stack([expected[:, i].clamp(0, (WIDTH, HEIGHT)[i % 2]) for i in range(4)], 1)
            visible = (clipped[:, 2:] - clipped[:, :2]).prod(1) >= MIN_AREA_LEFT * area
            torch.testing.assert_close(found, clipped[visible])
        assert len(corners) > 8


def test_factors_reach_both_ends_and_are_spread_evenly_around_one() -> None:
    small = [torch.tensor([[30.0, 22, 34, 26]])] * 400
    _, boxes, _ = vary((noise(400), small, [torch.tensor([0])] * 400), BoxAugment(scale=[0.5, 2.0]))
    whole = torch.cat([each for each in boxes if len(each) and (each > 0).all() and each[0, 2] < WIDTH])
    factors = (whole[:, 2] - whole[:, 0]) / 4
    assert 0.5 <= factors.min() < 0.55
    assert 1.85 < factors.max() <= 2.0
    assert 0.8 < factors.log2().mean().exp2() < 1.2


def test_a_box_that_loses_three_quarters_of_its_area_is_dropped_with_its_labels() -> None:
    """Twice as large, an image is cropped anywhere; boxes at the corners are often all but gone."""
    batch = 300
    boxes = torch.tensor([[0.0, 0, 20, 20], [24, 16, 40, 32]])
    labels = torch.tensor([[7, 1], [8, 0]])  # whatever goes along: a class and whether it is ignored
    _, found, kept = vary((noise(batch), [boxes] * batch, [labels] * batch), BoxAugment(scale=[2.0, 2.0]))
    areas = {7: [], 8: []}
    for each, label in zip(found, kept, strict=True):
        assert label.shape == (len(each), 2)
        for box, (which, ignored) in zip(each, label.tolist(), strict=True):
            assert ignored == (which == 7)
            areas[which].append(float((box[2] - box[0]) * (box[3] - box[1])))
    assert MIN_AREA_LEFT * 1600 <= min(areas[7]) < 0.3 * 1600
    assert 0 < len(areas[7]) < batch
    assert len(areas[8]) > len(areas[7])


def test_colours_are_torchvisions_one_after_the_other_and_move_no_box() -> None:
    batch = (noise(6), *rectangles(6)[1:])
    numbers = draw(6, torch.Generator().manual_seed(0))
    varied, boxes, _ = augment_boxes(*batch, SETTINGS["colour"], numbers)
    for image, each, row in zip(batch[0], varied, numbers[5:].T.tolist(), strict=True):
        factors = [1 + 0.3 * (2 * number - 1) for number in row]
        expected = image.permute(2, 0, 1) / 255
        for adjust, factor in zip(
            (reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation), factors, strict=True
        ):
            expected = adjust(expected, factor)
        torch.testing.assert_close(each, expected, atol=1e-5, rtol=0)
    assert all(torch.equal(one, other) for one, other in zip(boxes, batch[1], strict=True))


def test_the_draws_alone_decide_and_each_image_has_its_own() -> None:
    numbers = draw(6, torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    first = augment_boxes(*rectangles(6), SETTINGS["everything"], numbers)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = augment_boxes(*rectangles(6), SETTINGS["everything"], numbers)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(one, other) for one, other in zip(first[1], second[1], strict=True))
    assert all(not torch.equal(first[0][i], first[0][j]) for i in range(6) for j in range(i))
    images, boxes, labels = rectangles(6)
    part, _, _ = augment_boxes(images[2:4], boxes[2:4], labels[2:4], SETTINGS["everything"], numbers[:, 2:4])
    assert torch.equal(part, first[0][2:4])


def test_switching_colour_on_moves_nothing() -> None:
    _, still, _ = vary(rectangles(20), replace(SETTINGS["everything"], brightness=0.0, contrast=0.0, saturation=0.0))
    _, moved, _ = vary(rectangles(20), SETTINGS["everything"])
    assert all(torch.equal(one, other) for one, other in zip(still, moved, strict=True))


def test_a_image_without_boxes_stays_one() -> None:
    none = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    images, boxes, labels = vary((noise(2), [none[0]] * 2, [none[1]] * 2), SETTINGS["everything"])
    assert images.shape == (2, 3, HEIGHT, WIDTH)
    assert [each.shape for each in boxes] == [(0, 4)] * 2
    assert [each.shape for each in labels] == [(0,)] * 2


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"scale": [1.0]}, r"scale must be \[smallest, largest\] with 0 < smallest <= largest, got \[1.0\]"),
        ({"scale": [0.0, 1.0]}, "scale must be"),
        ({"scale": [1.2, 0.8]}, "scale must be"),
        ({"contrast": 1.5}, "contrast must be from 0 to 1, got 1.5"),
        ({"brightness": -0.1}, "brightness must be from 0 to 1"),
        ({"saturation": 2.0}, "saturation must be from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(settings, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BoxAugment(**settings)
