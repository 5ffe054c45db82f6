"""The zoo's networks are the published ones: their layers, their initial weights, a signal that gets through."""

import importlib
import inspect
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor, nn

import assay_research
from assay_deploy.images.canvas import Canvas, View
from assay_export.formats import onnx_graph
from assay_research.config.build import instantiate
from assay_research.errors import ConfigError
from assay_research.models import cs231n
from assay_research.models.normalized import Normalized
from assay_research.models.resnet import resnet
from assay_research.models.tinyvggcifar10 import tinyvggcifar10
from assay_research.models.vgg import dense, vgg
from assay_research.tasks.classification.views import Views

ZOO = {path.stem: path for path in sorted((Path(assay_research.__file__).parent / "conf" / "model").glob("*.yaml"))}
NAMES = list(ZOO)
CLASSIFIERS = [name for name in NAMES if ".detectors." not in ZOO[name].read_text()]

# Table 1 of the VGG paper at 1/8 width, written out: (channels, kernel), "M" a pool.
a, b, c, d, e = (8, 3), (16, 3), (32, 3), (64, 3), (64, 3)
TINYVGG = {
    "A": [a, "M", b, "M", c, c, "M", d, d, "M", e, e, "M"],
    "B": [a, a, "M", b, b, "M", c, c, "M", d, d, "M", e, e, "M"],
    "C": [a, a, "M", b, b, "M", c, c, (32, 1), "M", d, d, (64, 1), "M", e, e, (64, 1), "M"],
    "D": [a, a, "M", b, b, "M", c, c, c, "M", d, d, d, "M", e, e, e, "M"],
    "E": [a, a, "M", b, b, "M", c, c, c, c, "M", d, d, d, d, "M", e, e, e, e, "M"],
}


def load(name: str, **changes: Any) -> Any:
    return instantiate({**yaml.safe_load(ZOO[name].read_text()), **changes}, "models", classes=10)


def tinyvgg(config: str, **changes: Any) -> nn.Sequential:
    network = load(f"tinyvgg_{config.lower()}", **changes)
    assert isinstance(network, nn.Sequential)
    return network


def some_images(batch: int, size: int = 32) -> Tensor:
    """Smooth noise of unit variance: neighbours are alike, as in photographs."""
    coarse = torch.randn(batch, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return smooth / smooth.std()


def layers(network: nn.Module) -> list[Any]:
    """Convolutions as (channels, kernel), pools as "M"."""
    found = (module for module in network.modules() if isinstance(module, nn.Conv2d | nn.MaxPool2d))
    return ["M" if isinstance(each, nn.MaxPool2d) else (each.out_channels, each.kernel_size[0]) for each in found]


def perturb_norms(network: nn.Module) -> None:
    """Give every BatchNorm statistics and weights of its own, as training does."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.running_mean, module.bias):
                nn.init.uniform_(tensor, -0.5, 0.5)


# The folder


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_zoo_names_all_arguments_of_its_builder(name: str) -> None:
    config = yaml.safe_load(ZOO[name].read_text())
    module, _, builder = config.pop("_target_").rpartition(".")
    arguments = inspect.signature(getattr(importlib.import_module(module), builder)).parameters
    assert set(config) == set(arguments) - {"classes"}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_file_of_a_classifier_builds_one(name: str) -> None:
    with torch.device("meta"):
        network = instantiate(yaml.safe_load(ZOO[name].read_text()), "models", classes=7)
        assert network(torch.empty(3, 3, 32, 32)).shape == (3, 7)


@pytest.mark.parametrize("config", "abcde")
def test_bn_files_differ_in_batchnorm_alone(config: str) -> None:
    plain, normed = (yaml.safe_load(ZOO[name].read_text()) for name in (f"vgg_{config}", f"vgg_{config}_bn"))
    assert not plain["norm"]
    assert normed == {**plain, "norm": True}


@pytest.mark.parametrize("name", ["tinyvgg_e", "tinyvggcifar10_v4", "resnet_4", "cs231n_barebones_convnet"])
def test_networks_train_in_bfloat16_with_channels_last(name: str) -> None:
    torch.manual_seed(0)
    network = load(name).to(memory_format=torch.channels_last)
    images = some_images(4).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert logits.dtype == torch.bfloat16
    gradients = [weight.grad for weight in network.parameters() if weight.ndim > 1]
    assert all(gradient is not None and gradient.norm() > 0 for gradient in gradients)


@pytest.mark.parametrize("builder", [lambda: resnet([1, 1], [4, 8]), cs231n.barebones_convnet], ids=["resnet", "bare"])
def test_every_exported_form_answers_as_the_network_does(builder: Callable[[], nn.Module]) -> None:
    """The shortcuts of ResNet and the weights in a list are the zoo's two forms that no plain sequence has."""
    torch.manual_seed(0)
    network = builder()
    perturb_norms(network)
    graph = Views(Normalized(network, torch.zeros(3), torch.ones(3)), Canvas(32, 32), [View()]).eval()
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    expected = graph(images).detach()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated")
        traced = torch.jit.trace(graph, images[:2])
    program = torch.export.export(graph, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    session = onnxruntime.InferenceSession(onnx_graph.export(graph, images[:2], ("logits",), {}))
    torch.testing.assert_close(traced(images), expected)
    torch.testing.assert_close(program(images), expected)
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, rtol=1e-3, atol=1e-4)


# VGG


@pytest.mark.parametrize("config", TINYVGG)
def test_tinyvgg_is_vgg_at_an_eighth_of_its_width(config: str) -> None:
    tiny = tinyvgg(config)
    assert layers(tiny) == TINYVGG[config]
    with torch.device("meta"):
        full = load(f"vgg_{config.lower()}")
    assert layers(full) == [each if each == "M" else (8 * each[0], each[1]) for each in TINYVGG[config]]
    for network, hidden in ((tiny, 64), (full, 4096)):
        linear = [layer.out_features for layer in network if isinstance(layer, nn.Linear)]
        assert linear == [hidden, hidden, 10]


@pytest.mark.parametrize("config", TINYVGG)
def test_convolutions_keep_the_size_of_the_map(config: str) -> None:
    convolutions = [layer for layer in tinyvgg(config) if isinstance(layer, nn.Conv2d)]
    assert all(layer.padding == ((1, 1) if layer.kernel_size == (3, 3) else (0, 0)) for layer in convolutions)
    assert sum(layer.kernel_size == (1, 1) for layer in convolutions) == (3 if config == "C" else 0)


def test_a_lrn_is_a_with_local_response_normalisation_after_the_first_relu() -> None:
    plain, normed = list(vgg("A", width=0.125, hidden=64)), list(vgg("A-LRN", width=0.125, hidden=64))
    kinds = [type(layer) for layer in normed]
    assert kinds[:4] == [nn.Conv2d, nn.ReLU, nn.LocalResponseNorm, nn.MaxPool2d]
    assert kinds[:2] + kinds[3:] == [type(layer) for layer in plain]
    x = torch.rand(1, 8, 2, 2) * 50
    neighbours = torch.stack([x[:, max(0, i - 2) : i + 3].square().sum(1) for i in range(8)], 1)
    # Krizhevsky et al. sum over the neighbours; torch's alpha is divided by their number.
    torch.testing.assert_close(normed[2](x), x / (2 + 1e-4 / 5 * neighbours) ** 0.75)


@pytest.mark.parametrize("builder", [*(lambda norm, k=k: tinyvgg(k, norm=norm) for k in TINYVGG), tinyvggcifar10])
def test_batchnorm_stands_between_convolution_and_relu_where_asked_for(builder: Callable[..., nn.Sequential]) -> None:
    plain, normed = builder(norm=False), builder(norm=True)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain)
    trios = [normed[i : i + 3] for i, layer in enumerate(normed) if isinstance(layer, nn.Conv2d)]
    assert trios
    assert all([type(layer) for layer in trio] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] for trio in trios)
    assert all(trio[0].bias is None and trio[1].num_features == trio[0].out_channels for trio in trios)
    assert [type(layer) for layer in normed if not isinstance(layer, nn.BatchNorm2d)] == [type(x) for x in plain]


def test_kaiming_weights_have_his_spread_and_torchs_are_torchs() -> None:
    torch.manual_seed(0)
    for layer in vgg("D", width=0.5, hidden=512, init="kaiming"):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            inputs = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.1)
            assert not layer.bias.any()
    torch.manual_seed(0)
    first = vgg("A", width=0.125, hidden=64, init="torch")[0]
    torch.manual_seed(0)
    assert torch.equal(first.weight, nn.Conv2d(3, 8, 3).weight)


@pytest.mark.parametrize("config", TINYVGG)
def test_with_kaiming_weights_signal_and_gradient_reach_both_ends_without_norm(config: str) -> None:
    torch.manual_seed(0)
    network = tinyvgg(config)
    logits = network(some_images(64))
    assert 0.02 < logits.std(0).mean() < 3
    nn.functional.cross_entropy(logits, torch.arange(64) % 10).backward()
    assert min(weight.grad.norm() for weight in network.parameters() if weight.ndim > 1) > 0.01


def test_with_torchs_weights_the_signal_of_e_vanishes_without_norm() -> None:
    torch.manual_seed(0)
    plain, normed = (tinyvgg("E", norm=norm, init="torch")(some_images(64)).std(0).mean() for norm in (False, True))
    assert plain < normed / 1e5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": "F"}, "config must be one of A, A-LRN, B, C, D, E, got 'F'"),
        ({"init": "xavier"}, "init must be one of torch, kaiming, got 'xavier'"),
        ({"width": 0.001}, "width 0.001 leaves a stage without channels"),
        ({"width": -1.0}, "width -1.0 leaves a stage without channels"),
        ({"dropout": 1.5, "hidden": 8}, "dropout"),
    ],
)
def test_vgg_refuses_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vgg(**arguments)
    with pytest.raises(ConfigError, match=message):
        instantiate({"_target_": "assay_research.models.vgg.vgg", **arguments}, "models", classes=10)


def test_a_misspelt_argument_of_a_model_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dropout'"):
        load("tinyvgg_a", dropuot=0.5)


# VGG, dense


@pytest.mark.parametrize("config", [*TINYVGG, "A-LRN"])
@pytest.mark.parametrize("norm", [False, True])
def test_dense_at_stride_32_is_the_network_on_its_own_canvas(config: str, norm: bool) -> None:
    torch.manual_seed(0)
    network = vgg(config, width=0.125, hidden=64, norm=norm, init="kaiming").eval()
    perturb_norms(network)
    with torch.no_grad():
        torch.testing.assert_close(dense(network, 32)(some_images(4)), network(some_images(4)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["tinyvgg_c", "tinyvggcifar10_v4"])
def test_finer_strides_hold_the_answers_of_the_coarser(name: str) -> None:
    torch.manual_seed(0)
    network = load(name).eval()
    perturb_norms(network)
    images = some_images(2, size=64)
    with torch.no_grad():
        maps = {stride: dense(network, stride)[:-1](images) for stride in (1, 2, 4, 8, 16, 32)}
        averages = {stride: dense(network, stride)(images) for stride in maps}
    assert maps[32].shape == (2, 10, 2, 2)
    for (fine, fine_map), (coarse, coarse_map) in pairwise(maps.items()):
        assert coarse == 2 * fine
        torch.testing.assert_close(fine_map[:, :, ::2, ::2], coarse_map, atol=1e-4, rtol=1e-4)
        assert fine_map.std((2, 3)).min() > 0
    for stride, average in averages.items():
        torch.testing.assert_close(average, maps[stride].mean((2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stride", "answers"), [(32, 1), (8, 4), (4, 9)])
def test_a_image_of_40_pixels_has_as_many_answers_as_the_docstring_says(stride: int, answers: int) -> None:
    logits = dense(tinyvgg("A"), stride)[:-1](some_images(1, size=40))
    assert logits.shape[2] * logits.shape[3] == answers


def test_dense_shares_the_weights_and_trains_none() -> None:
    network = tinyvgg("A", norm=True).eval()
    sliding = dense(network, 8)
    before = sliding(some_images(2))
    with torch.no_grad():
        next(layer for layer in network if isinstance(layer, nn.Linear)).weight.mul_(2)
    assert not torch.equal(sliding(some_images(2)), before)
    ours, theirs = ([p for p in each.parameters() if p.ndim > 1] for each in (network, sliding))
    assert [weight.data_ptr() for weight in theirs] == [weight.data_ptr() for weight in ours]
    assert all(weight.requires_grad for weight in ours)


@pytest.mark.parametrize("stride", [0, 3, 64])
def test_dense_refuses_strides_that_no_pool_can_give(stride: int) -> None:
    with pytest.raises(ValueError, match="stride must be 1, 2, 4, 8, 16 or 32"):
        dense(tinyvgg("A"), stride)


def test_dense_refuses_a_head_over_more_than_one_pixel() -> None:
    with pytest.raises(ValueError, match="expected a head over 16 channels of one pixel, got 16384 inputs"):
        dense(cs231n.sequential_convnet())


# TinyVGGCIFAR10


def test_tinyvggcifar10_has_the_published_layers() -> None:
    network = tinyvggcifar10()
    assert layers(network) == [each for n in (16, 32, 64, 128, 256) for each in ((n, 3), (n, 3), "M")]
    assert [layer.out_features for layer in network if isinstance(layer, nn.Linear)] == [256, 256, 10]
    assert [layer.p for layer in network if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_plain_tinyvggcifar10_lets_the_signal_vanish() -> None:
    torch.manual_seed(0)
    plain, v4 = (tinyvggcifar10(norm=norm, dropout=0)(some_images(64)).std(0).mean() for norm in (False, True))
    assert plain < v4 / 1000


# Normalisation


def test_normalized_takes_out_mean_and_standard_deviation() -> None:
    images = some_images(64) * 0.2 + 0.5
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    x = Normalized(nn.Identity(), mean, std)(images)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3))
