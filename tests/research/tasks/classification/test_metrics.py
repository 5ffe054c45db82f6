"""Every metric is the number that its definition gives by hand, whatever it is computed from."""

import math

import pytest
import torch
from torch import nn

from assay_deploy.images.canvas import Canvas, View
from assay_research.data.classification import Split
from assay_research.errors import ConfigError
from assay_research.models.cs231n import sequential_convnet
from assay_research.models.normalized import Normalized
from assay_research.models.vgg import dense, vgg
from assay_research.tasks.classification.dense import DenseView, evaluate_view
from assay_research.tasks.classification.metrics import average, measure, reliability, worst_mistakes
from assay_research.tasks.classification.predict import predict
from assay_research.tasks.classification.views import Views

CANVAS, CPU = Canvas(32, 32), torch.device("cpu")


def some_images(n: int, size: int = 32) -> Split:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(n) % 10, tuple(str(i) for i in range(n)))


@pytest.fixture(scope="module")
def model() -> Normalized:
    torch.manual_seed(0)
    network = vgg("C", width=1 / 8, hidden=64, norm=True, init="kaiming")
    with torch.no_grad():  # running statistics as a training leaves them, so that normalisation is not the identity
        network.train()(torch.randn(32, 3, 32, 32))
    return Normalized(network, torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])).eval()


def test_metrics_are_those_computed_by_hand():
    probabilities = torch.tensor(
        [
            [0.70, 0.20, 0.10],  # right, and says 0.7
            [0.60, 0.30, 0.10],  # is 1
            [0.10, 0.80, 0.10],  # right, and says 0.8
            [0.25, 0.35, 0.40],  # right, and says 0.4
        ]
    )
    scores = measure(probabilities.log(), torch.tensor([0, 1, 1, 2]), ("cat", "dog", "emu"))
    assert scores.n == 4
    assert scores.top1 == 0.75
    assert scores.top5 == 1.0  # of three classes, all are among the five most likely
    assert scores.cross_entropy == pytest.approx(-math.log(0.7 * 0.3 * 0.8 * 0.4) / 4)
    assert scores.confusion == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert scores.per_class == {"cat": 1.0, "dog": 0.5, "emu": 1.0}
    assert scores.balanced_accuracy == pytest.approx((1 + 0.5 + 1) / 3)
    assert scores.ece == pytest.approx((0.3 + 0.6 + 0.2 + 0.6) / 4)  # each answer is alone in its bin


def test_balanced_accuracy_leaves_out_a_class_without_images():
    logits = torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    scores = measure(logits, torch.tensor([0, 0, 0, 1]), ("cat", "dog", "emu"))
    assert scores.top1 == 0.75
    assert scores.balanced_accuracy == 0.5  # one of cats, none of dogs; there is no emu to be wrong about


def test_expected_calibration_error_weighs_bins_by_their_images():
    confidence = torch.tensor([0.61, 0.63, 0.65, 0.99])
    bins = reliability(confidence, torch.tensor([True, False, False, True]))
    assert bins.count == [0] * 9 + [3] + [0] * 4 + [1]
    assert bins.ece == pytest.approx((3 * abs(1 / 3 - 0.63) + 1 * abs(1 - 0.99)) / 4)


def test_a_bin_holds_its_upper_edge():
    bins = reliability(torch.tensor([0.0, 0.5, 0.50001, 1.0]), torch.ones(4, dtype=torch.bool), bins=2)
    assert bins.count == [2, 2]
    assert bins.accuracy == [1, 1]


def test_a_sure_and_always_right_classifier_is_calibrated():
    scores = measure(torch.eye(10) * 100, torch.arange(10), tuple("0123456789"))
    assert scores.ece == pytest.approx(0, abs=1e-6)
    assert scores.top1 == scores.top5 == 1


def test_top5_counts_the_five_most_likely():
    logits = torch.arange(10.0).expand(10, 10)  # class 9 is the likeliest, then 8, ...
    scores = measure(logits, torch.arange(10), tuple("0123456789"))
    assert (scores.top1, scores.top5) == (0.1, 0.5)


def test_a_class_without_images_has_no_accuracy_and_logits_that_are_not_finite_do_not_stop_the_rest():
    scores = measure(torch.eye(3)[:2], torch.tensor([0, 1]), ("cat", "dog", "emu"))
    assert math.isnan(scores.per_class["emu"])
    diverged = measure(torch.full((2, 3), math.nan), torch.tensor([0, 1]), ("cat", "dog", "emu"))
    assert math.isnan(diverged.cross_entropy)
    assert sum(map(sum, diverged.confusion)) == 2


def test_worst_mistakes_are_the_surest_wrong_answers():
    logits = torch.tensor([[9.0, 0, 0], [0, 5.0, 0], [0, 0, 7.0], [1.0, 0, 0]])
    assert worst_mistakes(logits, torch.tensor([0, 2, 1, 1]), 2).tolist() == [2, 1]
    assert worst_mistakes(logits, torch.tensor([0, 1, 2, 0]), 9).tolist() == []


def test_average_of_views_is_what_the_exported_module_computes(model):
    views = [View(size=36), View(size=36, flip=True), View(size=44, crop="top_left")]
    split = some_images(20)
    together = predict(Views(model, CANVAS, views), split, CPU)
    separate = average([evaluate_view(model, CANVAS, view, split, CPU) for view in views])
    torch.testing.assert_close(separate.exp().float(), together, rtol=1e-5, atol=1e-6)
    assert separate.exp().sum(1) == pytest.approx(1)


def test_dense_at_the_stride_of_the_network_is_the_network(model):
    split = some_images(20)
    for flip in (False, True):
        plain = evaluate_view(model, CANVAS, View(flip=flip), split, CPU)
        torch.testing.assert_close(evaluate_view(model, CANVAS, View(flip=flip), split, CPU, stride=32), plain)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_dense_answers_of_a_finer_stride_hold_those_of_the_coarser(model, stride):
    image = torch.randn(2, 3, 64, 96)
    fine, coarse = (dense(model.network, each)[:-1].eval()(image) for each in (stride, 32))
    assert coarse.shape[2:] == (2, 3)
    assert fine.shape[2:] == (32 // stride + 1, 64 // stride + 1)
    every = 32 // stride
    torch.testing.assert_close(fine[..., ::every, ::every], coarse, rtol=1e-4, atol=1e-5)


def test_dense_view_resizes_the_whole_image_and_crops_nothing(model):
    graph = DenseView(model, CANVAS, View(size=40), 8).eval()
    split = some_images(3)
    resized = nn.functional.interpolate(
        split.images.permute(0, 3, 1, 2) / 255, (40, 40), mode="bilinear", antialias=True
    )
    answers = Normalized(dense(model.network, 8), model.mean.flatten(), model.std.flatten()).eval()(resized)
    torch.testing.assert_close(graph(split.images), answers, rtol=1e-3, atol=1e-4)
    assert dense(model.network, 8)[:-1].eval()(resized).shape[2:] == (2, 2)


def test_what_dense_evaluation_is_not_for_is_refused(model):
    split = some_images(2)
    other = Normalized(sequential_convnet(), torch.zeros(3), torch.ones(3))
    for classifier, view, stride, message in (
        (other, View(), 8, "expected a head"),
        (model.network, View(), 8, "VGG-style"),
        (model, View(), 7, "stride must be"),
        (model, View(size=20), 8, "smaller than the 32x32 canvas"),
        (model, View(size=20), None, "smaller than the 32x32 canvas"),
    ):
        with pytest.raises(ConfigError, match=message):
            evaluate_view(classifier, CANVAS, view, split, CPU, stride)
