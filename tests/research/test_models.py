"""The zoo's networks are the published ones: their layers, their sizes, and a signal that gets through."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import assay_research
from assay_research.config import instantiate
from assay_research.errors import ConfigError
from assay_research.models import Normalized
from assay_research.models.tinyvgg import tinyvgg
from assay_research.models.tinyvggcifar10 import tinyvggcifar10

ZOO = sorted((Path(assay_research.__file__).parent / "conf" / "model").glob("*.yaml"))

# Weights and biases by hand: convolutions (in x out x k x k + out), then 64x64+64 twice and 64x10+10.
TINYVGG = {
    "A": 224 + 1168 + (4640 + 9248) + (18496 + 36928) + 2 * 36928 + 8970,
    "B": (224 + 584) + (1168 + 2320) + (4640 + 9248) + (18496 + 36928) + 2 * 36928 + 8970,
    "C": (224 + 584) + (1168 + 2320) + (4640 + 9248 + 1056) + (18496 + 36928 + 4160) + (2 * 36928 + 4160) + 8970,
    "D": (224 + 584) + (1168 + 2320) + (4640 + 2 * 9248) + (18496 + 2 * 36928) + 3 * 36928 + 8970,
    "E": (224 + 584) + (1168 + 2320) + (4640 + 3 * 9248) + (18496 + 3 * 36928) + 4 * 36928 + 8970,
}
DEPTH = {"A": 10, "B": 12, "C": 15, "D": 15, "E": 18}
# The same for 3-16-32-64-128-256, two convolutions each; 256x256+256 twice and 256x10+10.
KERNELS = 432 + 2304 + 4608 + 9216 + 18432 + 36864 + 73728 + 147456 + 294912 + 589824
CHANNELS = 2 * (16 + 32 + 64 + 128 + 256)
TINYVGGCIFAR10 = {True: KERNELS + 2 * CHANNELS + 134154, False: KERNELS + CHANNELS + 134154}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count(model: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def pictures(batch: int) -> torch.Tensor:
    """Smooth noise of unit variance: neighbours are alike, as in photographs."""
    coarse = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return smooth / smooth.std()


@pytest.mark.parametrize("config", TINYVGG)
def test_tinyvgg_has_the_tables_layers(config: str) -> None:
    model = tinyvgg(config)
    assert parameters(model) == TINYVGG[config]
    assert count(model, (nn.Conv2d, nn.Linear)) - 1 == DEPTH[config]
    assert count(model, nn.BatchNorm2d) == 0
    assert count(model, nn.MaxPool2d) == 5


def test_only_c_has_1x1_convolutions_and_they_are_not_padded() -> None:
    for config in TINYVGG:
        kernels = [module for module in tinyvgg(config).modules() if isinstance(module, nn.Conv2d)]
        ones = [conv for conv in kernels if conv.kernel_size == (1, 1)]
        assert len(ones) == (3 if config == "C" else 0)
        assert all(conv.padding == (0, 0) for conv in ones)
        assert all(conv.padding == (1, 1) for conv in kernels if conv not in ones)


@pytest.mark.parametrize("norm", [True, False])
def test_tinyvggcifar10_has_the_published_layers(norm: bool) -> None:
    model = tinyvggcifar10(norm=norm)
    assert parameters(model) == TINYVGGCIFAR10[norm]
    assert count(model, nn.Conv2d) == 10
    assert count(model, nn.BatchNorm2d) == (10 if norm else 0)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("builder", [tinyvgg, tinyvggcifar10])
def test_norm_follows_every_convolution(builder) -> None:
    layers = list(builder(norm=True).children())
    pairs = [(layer, after) for layer, after in pairwise(layers) if isinstance(layer, nn.Conv2d)]
    assert len(pairs) == count(builder(), nn.Conv2d)
    assert all(isinstance(after, nn.BatchNorm2d) and layer.bias is None for layer, after in pairs)


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_every_file_of_the_zoo_builds_a_classifier_and_names_all_its_arguments(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    model = instantiate(config, "models", classes=7).eval()
    assert model(pictures(3)).shape == (3, 7)
    defaults = {"tinyvgg": {"config", "norm", "dropout"}, "tinyvggcifar10": {"norm", "dropout"}}
    assert set(config) - {"_target_"} == defaults[config["_target_"].rpartition(".")[2]]


@pytest.mark.parametrize("config", TINYVGG)
def test_signal_and_gradient_reach_both_ends_without_norm(config: str) -> None:
    """With torch's default initial weights the logits of E differ by 4e-9 between pictures."""
    torch.manual_seed(0)
    model = tinyvgg(config)
    logits = model(pictures(64))
    assert 0.02 < logits.std(0).mean() < 3
    nn.functional.cross_entropy(logits, torch.arange(64) % 10).backward()
    gradients = [parameter.grad.norm() for parameter in model.parameters() if parameter.ndim > 1]
    assert min(gradients) > 0.01


def test_plain_tinyvggcifar10_lets_the_signal_vanish() -> None:
    torch.manual_seed(0)
    plain, v4 = (tinyvggcifar10(norm=norm, dropout=0)(pictures(64)).std(0).mean() for norm in (False, True))
    assert plain < v4 / 1000


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"config": "F"}, "config must be one of A, B, C, D, E, got 'F'"),
        ({"dropout": 1.5}, "dropout"),
        ({"dropuot": 0.5}, "did you mean 'dropout'"),
    ],
)
def test_impossible_arguments_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        instantiate({"_target_": "assay_research.models.tinyvgg.tinyvgg", **config}, "models", classes=10)


def test_normalized_takes_out_mean_and_standard_deviation() -> None:
    images = pictures(64) * 0.2 + 0.5
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    x = Normalized(nn.Identity(), mean, std)(images)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3))
