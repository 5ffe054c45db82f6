"""Muon orthogonalises, and the optimizers are told apart by what they decay."""

import pytest
import torch
from torch import nn

from assay_research.optim import adam, adamw, by_hand, muon, orthogonalise, sgd


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 64, 8), (1, 10, 10)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.logspace(-3, 3, shape[0])[:, None, None]
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.max() < 1.3
    assert values.quantile(0.1) > 0.3
    assert values.median() > 0.6


def test_an_orthogonalised_matrix_keeps_its_singular_vectors():
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(6, 6))
    v, _ = torch.linalg.qr(torch.randn(9, 9))
    matrix = u @ torch.diag(torch.linspace(1, 2, 6)) @ v[:6]
    diagonal = u.T @ orthogonalise(matrix[None])[0] @ v[:6].T
    assert (diagonal - torch.diag(diagonal.diagonal())).abs().max() < 1e-5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    )


def test_muon_orthogonalises_all_but_the_ends_and_what_has_one_axis():
    model = network()
    kinds = {id(parameter): group["orthogonal"] for group in muon(model).param_groups for parameter in group["params"]}
    assert [kinds[id(parameter)] for parameter in model.parameters()] == [
        *(False, False, False, False),  # the first convolution, BatchNorm
        *(True, False),  # the second convolution
        *(False, False),  # the last layer
    ]


@pytest.mark.parametrize("builder", [sgd, adam, adamw, muon, by_hand])
def test_every_optimizer_lowers_the_loss_and_none_decays_biases(builder):
    model = network()
    optimizer = builder(model)
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 4
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for group in optimizer.param_groups:
        if group.get("weight_decay"):
            assert all(parameter.ndim > 1 for parameter in group["params"])


def test_muon_goes_on_from_its_state_to_the_bit():
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()

    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, first, second = network(), network(), network()
    steps(whole, muon(whole), 4)
    optimizer = muon(first)
    steps(first, optimizer, 2)
    second.load_state_dict(first.state_dict())
    resumed = muon(second)
    resumed.load_state_dict(optimizer.state_dict())
    steps(second, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("builder", [sgd, adamw])
def test_a_backbone_may_have_a_rate_of_its_own(builder):
    model = nn.ModuleDict({"backbone": network(), "head": network()})
    optimizer = builder(model, lr=0.01, weight_decay=0.1, backbone_lr=0.0001)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.0001 if name.startswith("backbone") else 0.01
        assert found[id(parameter)] == (expected, 0.1 if parameter.ndim > 1 else 0.0)
    assert optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("builder", [sgd, adamw])
def test_a_rate_for_a_backbone_that_is_not_trained_is_refused(builder):
    model = nn.ModuleDict({"backbone": network().requires_grad_(False), "head": network()})
    for each in (model, network()):
        with pytest.raises(ValueError, match="no trainable backbone; expected null"):
            builder(each, backbone_lr=0.0001)
