"""Every number of a data set report on a case small enough to count by hand."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from assay_deploy.images.canvas import Canvas
from assay_research.data.classification import ClassificationData, Split
from assay_research.data.detection import BoxSplit, DetectionData
from assay_research.reports.dataset.collection import collect
from assay_research.reports.dataset.findings import findings, leaks
from assay_research.reports.dataset.near_duplicates import find_near_duplicates
from assay_research.reports.dataset.statistics import (
    class_counts,
    coverage,
    explore,
    fences,
    imbalance,
    objects_per_image,
    outliers,
    shapes,
    smaller_than,
    without_objects,
)

CANVAS = Canvas(48, 64, "letterbox")


def scenery(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Blobs of all sizes, as cells or leaves are; the same seed gives the same scene."""
    random = np.random.default_rng(seed)
    image = Image.new("L", size, 128)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, r = random.uniform(0, size[0]), random.uniform(0, size[1]), random.uniform(3, 14)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=int(random.integers(256)))
    return image.filter(ImageFilter.GaussianBlur(1)).convert("RGB")


def jpeg(image: Image.Image) -> Image.Image:
    content = BytesIO()
    image.save(content, "JPEG", quality=40)
    return Image.open(content)


def split(images: list[np.ndarray], objects: list[list[tuple]], sizes: list[tuple[int, int]], name: str) -> BoxSplit:
    """Objects are (left, top, right, bottom, label, ignored) on the canvas."""
    columns = [np.array(each, np.float32).reshape(-1, 6) for each in objects]
    return BoxSplit(
        torch.from_numpy(np.stack(images)),
        tuple(torch.from_numpy(each[:, :4].copy()) for each in columns),
        tuple(torch.from_numpy(each[:, 4].astype(np.int64)) for each in columns),
        tuple(torch.from_numpy(each[:, 5] > 0) for each in columns),
        torch.tensor(sizes),
        tuple(f"{name}/{i}.png" for i in range(len(images))),
    )


def some_images(*seeds: int) -> list[np.ndarray]:
    return [np.asarray(scenery(seed, (64, 48))) for seed in seeds]


@pytest.fixture
def data() -> DetectionData:
    """Five images of 640x480 and one of 48x96; seven objects, one of them ignored; one image in two splits."""
    box = (0, 0, 16, 12)
    sizes = [(480, 640)] * 3
    train = split(some_images(0, 1, 2), [[(*box, 0, 0), (*box, 1, 0)], [(*box, 0, 0)], []], sizes, "train")
    val = split(some_images(3, 0), [[(*box, 0, 0)], [(*box, 0, 1)]], sizes[:2], "val")
    # An image of 48 rows and 96 columns lies on rows 8 to 40 of the canvas, at two thirds of its size.
    test = split(some_images(5), [[(16, 8, 48, 24, 1, 0), (0, 8, 8, 16, 0, 0)]], [(48, 96)], "test")
    return DetectionData("made", ("cat", "dog"), CANVAS, train, val, test)


def test_objects_are_counted_by_split_and_class():
    counts = class_counts(np.array([0, 0, 1, 2, 0]), np.array([0, 0, 0, 1, 2]), 3)
    assert counts.tolist() == [[2, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_imbalance_leaves_out_classes_without_objects():
    assert imbalance([12, 0, 3]) == 4
    assert imbalance([0, 0]) == 1


def test_images_without_objects_count_zero():
    owners = np.array([0, 0, 2])
    assert objects_per_image(owners, 4).tolist() == [2, 0, 1, 0]
    assert without_objects(owners, 4).tolist() == [1, 3]


def test_shapes_are_measured_in_the_image_and_on_the_canvas():
    measured = shapes(np.array([[10.0, 20, 50, 30]]), np.array([[5, 10, 25, 15]], np.float32), np.array([[100, 200]]))
    assert (measured.width, measured.height, measured.area) == (40, 10, 400)
    assert measured.share == pytest.approx(0.02)
    assert measured.aspect == 4
    assert measured.side == pytest.approx(10)


def test_fences_lie_one_and_a_half_quartile_ranges_out_on_a_logarithmic_scale():
    # Logarithms to base 2 are 0 to 8, their quartiles 2 and 6, so that the fences are 2 - 6 and 6 + 6.
    low, high = fences(2.0 ** np.arange(9))
    assert low == pytest.approx(2**-4)
    assert high == pytest.approx(2**12)


def test_outliers_are_unlike_their_own_class():
    values = np.array([*np.linspace(9, 11, 20), *np.linspace(90, 110, 20), 100.0, 3.0])
    labels = np.array([0] * 20 + [1] * 20 + [0, 1])
    found = outliers(values, labels)
    assert [each.index for each in found] == [41, 40]  # the third of a class' least is farther than ten times its most
    assert found[1].value == 100
    assert found[1].high == pytest.approx(fences(values[[*range(20), 40]])[1])
    assert found[1].excess == pytest.approx(100 / found[1].high)


def test_neither_few_objects_nor_nearly_equal_ones_have_outliers():
    assert outliers(np.array([1.0] * 10 + [50]), np.zeros(11, np.int64)) == []
    assert outliers(np.array([10.0] * 30 + [11]), np.zeros(31, np.int64)) == []
    assert [each.index for each in outliers(np.array([10.0] * 30 + [16]), np.zeros(31, np.int64))] == [30]


def test_coverage_is_the_part_of_a_cell_that_boxes_cover():
    # The first box covers the left half and a quarter of the height of its image, the second nothing but the top.
    boxes = np.array([[0.0, 0, 50, 10], [0, 0, 30, 5]])
    covered = coverage(boxes, np.array([[40, 100], [10, 30]]), cells=2)
    assert covered == pytest.approx(np.array([[0.75, 0.5], [0, 0]]))


def test_coverage_sums_to_the_mean_area():
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, 200, (50, 2, 2)), axis=1).reshape(50, 4)
    shares = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]) / 200**2
    assert coverage(corners, np.full((50, 2), 200)).mean() == pytest.approx(shares.mean())


def test_a_size_at_the_limit_is_not_smaller():
    assert smaller_than(np.array([7.9, 8, 15, 40]), [8, 16, 32]) == [1, 3, 3]


def test_collection_brings_boxes_back_to_their_images(data):
    found = collect(data)
    assert found.splits.tolist() == [0, 0, 0, 1, 1, 2]
    assert found.owners.tolist() == [0, 0, 1, 3, 4, 5, 5]
    boxes = found.boxes()
    assert boxes[0] == pytest.approx([0, 0, 160, 120])
    assert boxes[-2:] == pytest.approx(np.array([[24, 0, 72, 24], [0, 0, 12, 12]]))
    assert found.unpadded()[5].shape == (32, 64, 3)


def test_exploration_counts_what_is_learned(data):
    statistics = explore(collect(data))
    assert statistics.counts.tolist() == [[2, 1], [1, 0], [1, 1]]
    assert statistics.ignored == 1
    assert statistics.per_image.tolist() == [2, 1, 0, 1, 0, 2]
    assert statistics.empty.tolist() == [2]  # and not the one whose only object is ignored
    assert statistics.shapes is not None
    assert statistics.shapes.area[-2:] == pytest.approx([48 * 24, 144])


def test_the_same_image_in_two_splits_is_a_leak(data):
    statistics = explore(collect(data))
    assert (statistics.pairs.first.tolist(), statistics.pairs.second.tolist()) == ([0], [4])
    assert statistics.pairs.exact.tolist() == [True]
    assert leaks(statistics).tolist() == [True]
    worst = findings(statistics)[0]
    assert worst.level == "problem"
    assert "Near-duplicate images in different splits: 1 pair, 1 of them exact copies." in worst.message


def test_findings_name_classes_that_cannot_be_scored_or_learned(data):
    said = [each.message for each in findings(explore(collect(data)))]
    assert "Classes without objects in val: 1 ('dog'). Such a class cannot be evaluated on this split." in said
    assert "Classes with fewer than 20 training objects: 2 ('cat', 'dog')." in said
    assert "1 image without any object." in said


def test_findings_tell_of_objects_too_small_for_the_canvas(data):
    said = [each.message for each in findings(explore(collect(data)))]
    assert "83% of the objects are smaller than 16x16 pixels on the 64x48 canvas." in said


def test_images_of_a_classifier_have_no_boxes_to_measure():
    images = torch.from_numpy(np.stack(some_images(0, 1, 2, 3)))
    part = Split(images, torch.tensor([0, 1, 1, 1]), tuple("abcd"))
    statistics = explore(collect(ClassificationData("made", ("cat", "dog"), Canvas(48, 64), part, part, part)))
    assert statistics.counts.tolist() == [[1, 3]] * 3
    assert statistics.shapes is None
    assert len(statistics.pairs) == 12
    assert statistics.pairs.exact.all()


COPIES = {
    "the same pixels": lambda image: image,
    "compressed": jpeg,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "out of focus": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "smaller": lambda image: image.resize((80, 60)),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("all_pairs", [100, 0], ids=["every pair", "near hashes"])
def test_a_changed_copy_is_found_among_other_images(change, all_pairs):
    images = [np.asarray(scenery(seed)) for seed in range(12)]
    found = find_near_duplicates([*images, np.asarray(change(scenery(7)))], all_pairs)
    assert (found.first.tolist(), found.second.tolist()) == ([7], [12])
    assert found.exact.tolist() == [change is COPIES["the same pixels"]]
    assert found.similarity[0] > 0.8
    assert found.exhaustive == (all_pairs > 0)


@pytest.mark.parametrize("shift", [(24, 0), (0, 20), (-20, 12)])
def test_a_scene_photographed_twice_is_found_though_it_is_shifted(shift):
    wide = scenery(5, (240, 200))
    here = wide.crop((40, 40, 200, 160))
    there = wide.crop((40 + shift[0], 40 + shift[1], 200 + shift[0], 160 + shift[1]))
    found = find_near_duplicates([np.asarray(each) for each in (scenery(1), here, scenery(2), there)])
    assert (found.first.tolist(), found.second.tolist()) == ([1], [3])
    assert not found.exact.any()


def test_one_object_in_the_same_pose_does_not_make_two_scenes_alike():
    scenes = []
    for seed in range(2):
        faint = ImageEnhance.Contrast(scenery(seed)).enhance(0.1)
        ImageDraw.Draw(faint).ellipse((60, 30, 100, 90), fill="black")
        scenes.append(np.asarray(faint))
    assert len(find_near_duplicates(scenes)) == 0


def test_images_of_one_colour_are_alike_only_if_it_is_the_same():
    plain = [np.full((30, 40, 3), level, np.uint8) for level in (0, 90, 0)]
    found = find_near_duplicates(plain)
    assert (found.first.tolist(), found.second.tolist(), found.exact.tolist()) == ([0], [2], [True])


def test_a_single_image_is_like_no_other():
    assert len(find_near_duplicates([np.asarray(scenery(0))])) == 0


def test_pairs_come_the_most_alike_first():
    images = [scenery(3), jpeg(scenery(3)), scenery(4), scenery(4)]
    found = find_near_duplicates([np.asarray(each) for each in images])
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(2, 3), (0, 1)]
    assert found.similarity[0] == 1
