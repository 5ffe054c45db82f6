"""Three spellings of one network are one network, and hand-written SGD is torch's."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay_research import optim
from assay_research.models import cs231n


def some_images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


SPELLINGS = {
    "fc": (cs231n.barebones_fc, cs231n.TwoLayerFC, cs231n.sequential_fc),
    "convnet": (cs231n.barebones_convnet, cs231n.ThreeLayerConvNet, cs231n.sequential_convnet),
}


def spelled(network: str) -> list[nn.Module]:
    """Barebones, module and sequential, with the weights of the first."""
    torch.manual_seed(0)
    first, *others = (builder() for builder in SPELLINGS[network])
    for other in others:
        with torch.no_grad():
            for ours, theirs in zip(other.parameters(), first.parameters(), strict=True):
                ours.copy_(theirs)
    return [first, *others]


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(some_images(10)), torch.arange(10))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("network", SPELLINGS)
@pytest.mark.parametrize("optimizer", ["by_hand", "sgd"])
def test_three_spellings_give_the_same_outputs_and_the_same_weights_after_the_same_steps(
    network: str, optimizer: str
) -> None:
    models = spelled(network)
    with torch.no_grad():
        expected, *outputs = (model(some_images(10)) for model in models)
    start = [weight.clone() for weight in models[0].parameters()]
    losses = [take_steps(model, getattr(optim, optimizer)(model, lr=0.003)) for model in models]
    assert losses[0][-1] < losses[0][0]
    assert all(not torch.equal(*pair) for pair in zip(start, models[0].parameters(), strict=True))
    for model, output, loss in zip(models[1:], outputs, losses[1:], strict=True):
        torch.testing.assert_close(output, expected)
        assert loss == pytest.approx(losses[0], rel=1e-5)
        for ours, theirs in zip(model.parameters(), models[0].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("network", SPELLINGS)
def test_sgd_written_by_hand_is_torchs_without_momentum(network: str) -> None:
    barebones = spelled(network)[0]
    reference = copy.deepcopy(barebones)
    take_steps(barebones, optim.by_hand(barebones, lr=0.003))
    take_steps(reference, torch.optim.SGD(reference.parameters(), lr=0.003))
    for ours, theirs in zip(barebones.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("builder", [builder for spellings in SPELLINGS.values() for builder in spellings[:2]])
def test_barebones_and_module_start_from_kaimings_weights_and_zero_biases(builder: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    weights = list(builder().parameters())
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.05)
        assert not bias.any()


def test_barebones_weights_are_saved_under_their_places_in_the_list() -> None:
    saved = cs231n.barebones_convnet().state_dict()
    assert list(saved) == [f"weights.{i}" for i in range(6)]
    restored = cs231n.barebones_convnet()
    restored.load_state_dict(saved)
    weights = [saved[f"weights.{i}"] for i in range(6)]
    assert torch.equal(restored(some_images(2)), cs231n.three_layer_convnet(some_images(2), weights))


def test_open_ended_network_is_the_published_one() -> None:
    network = cs231n.open_ended()
    found = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    assert [type(layer) for layer in found] == [nn.Conv2d, nn.MaxPool2d] * 2
    assert [(layer.out_channels, layer.kernel_size) for layer in found[::2]] == [(32, (3, 3)), (64, (3, 3))]
    assert [layer.out_features for layer in network if isinstance(layer, nn.Linear)] == [512, 10]
    drops = [(type(layer), layer.p) for layer in network if isinstance(layer, nn.Dropout | nn.Dropout2d)]
    assert drops == [(nn.Dropout2d, 0.2), (nn.Dropout, 0.5)]
