"""Views of a canvas are mapped back to it, and fused as weighted boxes fusion or NMS says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from assay_deploy.images.canvas import Canvas, View
from assay_research.models.boxes import Detections
from assay_research.tasks.detection.views import BoxViews, fuse, suppress

CANVAS = Canvas(48, 64)
PLACES = 5


class Spots(nn.Module):
    """Finds the bounding box of what is brighter than 1/2 in each channel; the channel is the class."""

    def forward(self, images: Tensor) -> Detections:
        batch, channels = images.shape[:2]
        boxes = torch.zeros(batch, PLACES, 4)
        scores, labels = torch.zeros(batch, PLACES), torch.full((batch, PLACES), -1)
        for i, image in enumerate(images):
            place = 0
            for channel in range(channels):
                mask = image[channel] > 0.5
                if mask.any():
                    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
                    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                    boxes[i, place] = torch.tensor([float(each) for each in box])
                    scores[i, place], labels[i, place] = 0.9 - 0.1 * channel, channel
                    place += 1
        return Detections(boxes, scores, labels)


def some_images() -> Tensor:
    images = torch.zeros(3, CANVAS.height, CANVAS.width, 3, dtype=torch.uint8)
    images[0, 8:24, 4:36, 0] = 255
    images[0, 20:44, 40:60, 2] = 255
    images[1, 12:40, 16:24, 1] = 255
    return images  # the last one is empty


def detect(*views: View, **options) -> Detections:
    return BoxViews(Spots(), CANVAS, views, **options)(some_images())


def test_the_plain_view_is_the_model_to_the_bit() -> None:
    expected = Spots()(some_images().permute(0, 3, 1, 2) / 255)
    assert all(torch.equal(one, other) for one, other in zip(detect(View()), expected, strict=True))


@pytest.mark.parametrize("size", [None, 24, 36, 72, 96])
@pytest.mark.parametrize("flip", [False, True])
def test_what_one_view_finds_lies_where_the_plain_view_finds_it(size: int | None, flip: bool) -> None:
    found, plain = detect(View(size=size, flip=flip)), detect(View())
    torch.testing.assert_close(found.boxes, plain.boxes, atol=1.4, rtol=0)  # pixels, of a view half as large
    assert torch.equal(found.labels, plain.labels)
    assert torch.equal(found.scores, plain.scores)
    assert not found.boxes[found.labels < 0].any()


def test_a_mirrored_image_seen_mirrored_is_the_image() -> None:
    mirrored = BoxViews(Spots(), CANVAS, [View(flip=True)])(some_images().flip(2))
    plain = detect(View())
    torch.testing.assert_close(mirrored.boxes[..., [1, 3]], plain.boxes[..., [1, 3]])
    there = plain.labels >= 0
    left, right = plain.boxes[..., 0], plain.boxes[..., 2]
    expected = torch.stack([CANVAS.width - right, CANVAS.width - left], -1)[there]
    torch.testing.assert_close(mirrored.boxes[there][:, [0, 2]], expected)


@pytest.mark.parametrize("fusion", ["wbf", "nms"])
def test_views_that_agree_leave_what_each_of_them_found(fusion: str) -> None:
    found, plain = detect(View(), View(flip=True), View(size=96), View(size=96, flip=True), fuse=fusion), detect(View())
    torch.testing.assert_close(found.boxes, plain.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, plain.scores)
    assert torch.equal(found.labels, plain.labels)


def test_views_of_one_size_are_one_batch() -> None:
    sizes: list[tuple[int, ...]] = []

    class Counting(Spots):
        def forward(self, images: Tensor) -> Detections:
            sizes.append(tuple(images.shape))
            return super().forward(images)

    views = [View(), View(size=24), View(flip=True), View(size=24, flip=True), View(size=60)]
    BoxViews(Counting(), CANVAS, views)(some_images())
    assert sizes == [(6, 3, 48, 64), (6, 3, 24, 32), (3, 3, 60, 80)]


def test_views_carry_no_state() -> None:
    assert not BoxViews(Spots(), CANVAS, [View(size=24)]).state_dict()


def test_fusion_is_as_exact_under_autocast() -> None:
    views = (View(), View(size=72), View(size=96, flip=True))
    with torch.autocast("cpu", torch.bfloat16):
        found = detect(*views)
    torch.testing.assert_close(found.boxes, detect(*views).boxes, atol=1.4, rtol=0)
    assert found.boxes.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        both = BoxViews(Fixed([[101.3, 7.7, 161.1, 93.9]]), Canvas(100, 200), [View(), View()])(
            torch.zeros(1, 100, 200, 3)
        )
    torch.testing.assert_close(both.boxes[0, 0], torch.tensor([101.3, 7.7, 161.1, 93.9]))


class Fixed(nn.Module):
    """Finds the same boxes in every image."""

    def __init__(self, boxes: list[list[float]]) -> None:
        super().__init__()
        self.boxes = torch.tensor(boxes)

    def forward(self, images: Tensor) -> Detections:
        count = len(self.boxes)
        boxes = self.boxes.expand(len(images), -1, -1)
        return Detections(boxes, torch.full((len(images), count), 0.5), torch.zeros(len(images), count).long())


# Fusion


def detections(*rows: tuple[list[float], float, int]) -> Detections:
    """Of one image: box, score and label."""
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(torch.tensor([boxes], dtype=torch.float32), torch.tensor([scores]), torch.tensor([labels]))


def test_a_cluster_is_the_mean_weighted_by_scores_and_its_score_the_mean_over_views() -> None:
    found = fuse(
        detections(
            ([0, 0, 10, 10], 0.8, 1),
            ([2, 0, 12, 10], 0.4, 1),
            ([40, 40, 60, 50], 0.6, 1),
            ([0, 0, 10, 10], 0.3, 0),  # another class
            ([0, 0, 0, 0], 0.0, -1),
        ),
        views=2,
        iou=0.55,
        places=4,
    )
    expected = [[(0.8 * 0 + 0.4 * 2) / 1.2, 0, (0.8 * 10 + 0.4 * 12) / 1.2, 10], [40, 40, 60, 50], [0, 0, 10, 10]]
    torch.testing.assert_close(found.boxes[0, :3], torch.tensor(expected))
    torch.testing.assert_close(found.scores[0], torch.tensor([(0.8 + 0.4) / 2, 0.6 / 2, 0.3 / 2, 0]))
    assert found.labels.tolist() == [[1, 1, 0, -1]]
    assert not found.boxes[0, 3].any()


def test_three_views_and_more_boxes_than_views() -> None:
    """The paper's factor is min(T, N) / N of T boxes and N views, on the mean score."""
    box = [10.0, 10, 30, 30]
    for count, views, score in ((2, 3, 0.5 * 2 / 3), (3, 3, 0.5), (4, 3, 0.5), (5, 2, 0.5)):
        found = fuse(detections(*[(box, 0.5, 0)] * count), views, 0.55, places=2)
        torch.testing.assert_close(found.scores, torch.tensor([[score, 0]]))
        torch.testing.assert_close(found.boxes[0, 0], torch.tensor(box))


def test_nms_keeps_the_best_box_of_a_cluster_as_it_is() -> None:
    found = fuse(
        detections(([2, 0, 12, 10], 0.4, 1), ([0, 0, 10, 10], 0.8, 1), ([0, 0, 10, 10], 0.3, 0)),
        views=None,
        iou=0.55,
        places=3,
    )
    assert found.boxes.tolist() == [[[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]]]
    torch.testing.assert_close(found.scores, torch.tensor([[0.8, 0.3, 0]]))
    assert found.labels.tolist() == [[1, 0, -1]]


def test_a_box_joins_the_nearest_of_two_clusters_and_counts_once() -> None:
    found = fuse(
        detections(([0, 0, 20, 10], 0.9, 0), ([9, 0, 29, 10], 0.8, 0), ([5, 0, 25, 10], 0.1, 0)),
        views=2,
        iou=0.5,
        places=3,
    )
    torch.testing.assert_close(found.scores, torch.tensor([[0.45, (0.8 + 0.1) / 2, 0]]).sort(descending=True)[0])
    left = (0.8 * 9 + 0.1 * 5) / 0.9
    assert sorted(found.boxes[0, :2, 0].tolist()) == pytest.approx([0.0, left])


def paper(found: Detections, views: int, iou: float) -> list[tuple[list[float], float, int]]:
    """Section 3 of arXiv:1910.13302, one box after the other."""
    clusters: list[list[tuple[list[float], float, int]]] = []
    rows = [row for row in zip(*(each[0].tolist() for each in found), strict=True) if row[2] >= 0]
    for box, score, label in sorted(rows, key=lambda row: -row[1]):
        overlaps = [overlap(mean(each), box) if each[0][2] == label else 0.0 for each in clusters]
        best = max(range(len(clusters)), key=overlaps.__getitem__, default=None)
        if best is not None and overlaps[best] > iou:
            clusters[best].append((box, score, label))
        else:
            clusters.append([(box, score, label)])
    fused = [
        (mean(each), sum(row[1] for row in each) / len(each) * min(len(each), views) / views, each[0][2])
        for each in clusters
    ]
    return sorted(fused, key=lambda row: -row[1])


def mean(cluster: list[tuple[list[float], float, int]]) -> list[float]:
    total = sum(score for _, score, _ in cluster)
    return [sum(box[i] * score for box, score, _ in cluster) / total for i in range(4)]


def overlap(one: list[float], other: list[float]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def crowd(batch: int, objects: int, views: int, jitter: float, generator: torch.Generator) -> Detections:
    """Objects on a grid, each found by each view with the same label, a jittered box and a score of its own."""
    corner = torch.stack([torch.arange(objects) % 8 * 40.0, torch.arange(objects) // 8 * 40.0], 1)
    boxes = torch.cat([corner, corner + 30], 1).repeat(views, 1).expand(batch, -1, -1)
    boxes = boxes + jitter * (torch.rand(boxes.shape, generator=generator) - 0.5)
    scores = torch.rand(boxes.shape[:2], generator=generator) * 0.9 + 0.05
    labels = (torch.arange(objects) % 3).repeat(views).expand(batch, -1)
    return Detections(boxes, scores, labels)


@pytest.mark.parametrize("views", [2, 4])
def test_where_clusters_are_apart_boxes_and_scores_are_the_papers(views: int) -> None:
    found = crowd(4, 20, views, jitter=4, generator=torch.Generator().manual_seed(0))
    fused = fuse(found, views, 0.55, 30)
    for i in range(4):
        expected = paper(Detections(*(each[i : i + 1] for each in found)), views, 0.55)
        assert len(expected) == 20
        one = fused.image(i)
        torch.testing.assert_close(one.boxes, torch.tensor([row[0] for row in expected]))
        torch.testing.assert_close(one.scores, torch.tensor([row[1] for row in expected]))
        assert one.labels.tolist() == [row[2] for row in expected]


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_suppression_is_torchvisions(iou: float) -> None:
    """Also where boxes crowd, as they do before a detector's own NMS."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(3, 300, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(3, 300, 2, generator=generator) * 40], 2)
    scores, labels = torch.rand(3, 300, generator=generator), torch.randint(0, 2, (3, 300), generator=generator)
    found = fuse(Detections(boxes, scores, labels), None, iou, 300)
    for i in range(3):
        expected = batched_nms(boxes[i], scores[i], labels[i], iou)
        assert len(expected) < 290
        torch.testing.assert_close(found.image(i).boxes, boxes[i][expected])
        assert torch.equal(found.image(i).labels, labels[i][expected])


def test_of_equal_scores_the_first_is_kept() -> None:
    everywhere = torch.ones(1, 4, 4)
    assert suppress(everywhere, torch.tensor([[0.5, 0.5, 0.5, 0.5]])).tolist() == [[True, False, False, False]]


def test_one_more_image_in_the_batch_changes_nothing() -> None:
    found = crowd(3, 20, 3, jitter=12, generator=torch.Generator().manual_seed(2))
    whole, alone = fuse(found, 3, 0.55, 30), fuse(Detections(*(each[1:2] for each in found)), 3, 0.55, 30)
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one[1:2], other)


def test_boxes_without_area_are_left_out() -> None:
    found = fuse(detections(([5, 5, 5, 20], 0.9, 0), ([0, 0, 10, 10], 0.5, 0)), 2, 0.55, 2)
    assert found.labels.tolist() == [[0, -1]]
    assert found.scores.isfinite().all()


# What is refused


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: BoxViews(Spots(), CANVAS, []), "at least one view"),
        (
            lambda: BoxViews(Spots(), CANVAS, [View(), View(size=60, crop="top_left")]),
            "without a crop, got crop=top_left",
        ),
        (lambda: BoxViews(Spots(), CANVAS, [View()], iou=1.0), "0 < iou < 1"),
        (lambda: BoxViews(Spots(), CANVAS, [View()], fuse="mean"), "one of wbf, nms, got 0.55 and 'mean'"),
    ],
)
def test_impossible_values_are_refused(build: Callable[[], BoxViews], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build()
