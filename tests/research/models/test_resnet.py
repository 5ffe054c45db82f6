"""ResNets of any depth are those of He et al. for CIFAR-10."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import assay_research
from assay_research.config.build import instantiate
from assay_research.errors import ConfigError
from assay_research.models.resnet import resnet

ZOO = Path(assay_research.__file__).parent / "conf" / "model"


def load(name: str, **changes: Any) -> Any:
    return instantiate({**yaml.safe_load((ZOO / f"{name}.yaml").read_text()), **changes}, "models", classes=10)


def some_images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "blocks"), [("resnet_4", 4), ("resnet_15", 15), ("resnet_20", 9), ("resnet_56", 27)])
def test_resnet_has_two_layers_a_block_and_two_more(name: str, blocks: int) -> None:
    network = load(name)
    layered = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layered) == 2 * blocks + 2
    strides = [module.stride for module in layered if isinstance(module, nn.Conv2d)]
    assert strides.count((2, 2)) == (1 if name == "resnet_4" else 2)


@pytest.mark.parametrize(("blocks", "millions"), [(3, 0.27), (5, 0.46), (9, 0.85)])
def test_resnet_20_32_and_56_have_the_papers_parameters(blocks: int, millions: float) -> None:
    network = resnet([blocks] * 3, [16, 32, 64])
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("size", [32, 33])
def test_without_its_residual_a_block_hands_on_every_second_pixel_and_zeros(size: int) -> None:
    block = resnet([1, 1], [4, 6])[4].eval()
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.rand(2, 4, size, size)
    y = block(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert y.shape[1] == 6
    assert not y[:, 4:].any()


def test_a_block_adds_its_residual_before_the_last_relu() -> None:
    torch.manual_seed(0)
    block = resnet([1], [4])[3].eval()
    for norm in (block.residual[1], block.residual[4]):  # statistics of its own, as training gives it
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    x = torch.randn(2, 4, 8, 8)
    conv1, norm1, _, conv2, norm2 = block.residual
    expected = torch.relu(norm2(conv2(torch.relu(norm1(conv1(x))))) + x)
    torch.testing.assert_close(block(x.clone()), expected)


def test_resnets_convolutions_have_kaimings_weights_by_fan_out() -> None:
    torch.manual_seed(0)
    for layer in resnet([2, 2], [32, 64]).modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.out_channels)) ** 0.5, rel=0.1)


def test_resnet_compiles_as_one_graph() -> None:
    network = resnet([1, 1], [4, 8]).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(some_images(2)), network(some_images(2)))


@pytest.mark.parametrize(
    ("blocks", "channels", "message"),
    [
        ([], [], "must have the same length"),
        ([2, 2], [16], "must have the same length"),
        ([2, 0], [16, 32], "at least one block"),
        ([2, 2], [0, 32], "at least one block and one channel"),
        ([2, 2], [32, 16], "must not decrease"),
    ],
)
def test_resnet_refuses_impossible_stages(blocks: list[int], channels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet(blocks, channels)
    with pytest.raises(ConfigError, match=message):
        load("resnet_4", blocks=blocks, channels=channels)
