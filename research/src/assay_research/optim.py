"""Optimizers; weight decay applies only to parameters with more than one axis, and a step is one fused kernel."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def sgd(
    model: nn.Module,
    lr: float = 0.01,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    backbone_lr: float | None = None,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum.

    Args:
        model: model to train.
        lr: learning rate.
        momentum: momentum coefficient.
        nesterov: use Nesterov momentum.
        weight_decay: weight decay of parameters with more than one axis.
        backbone_lr: learning rate of a detector's backbone, feature pyramid included; None for `lr`.

    Raises:
        ValueError: `backbone_lr` is given but the model has no trainable backbone, or `weight_decay` is negative.
    """
    groups = _groups(model, weight_decay, backbone_lr)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)


def adam(model: nn.Module, lr: float = 0.001) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, arXiv:1412.6980)."""
    return torch.optim.Adam(_groups(model, 0.0), lr=lr, fused=True)


def adamw(
    model: nn.Module, lr: float = 0.001, weight_decay: float = 0.01, backbone_lr: float | None = None
) -> torch.optim.Optimizer:
    """AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101); arguments: see `sgd`."""
    return torch.optim.AdamW(_groups(model, weight_decay, backbone_lr), lr=lr, fused=True)


def muon(
    model: nn.Module,
    lr: float = 0.02,
    momentum: float = 0.95,
    weight_decay: float = 0.0,
    other_lr: float = 0.003,
) -> torch.optim.Optimizer:
    """Muon for kernels and hidden matrices; AdamW for biases, normalisation and the first and last layer.

    Args:
        model: model to train; its first and last layer are determined by the order of its parameters.
        lr: learning rate of Muon: the root mean square of an update's singular values, scaled as described at `Muon`.
        momentum: momentum coefficient of Muon.
        weight_decay: decoupled weight decay of parameters with more than one axis.
        other_lr: learning rate of AdamW.

    Raises:
        ValueError: a learning rate or the weight decay is negative.
    """
    if min(lr, other_lr) < 0:
        raise ValueError(f"lr and other_lr must be 0 or more, got {lr} and {other_lr}")
    decayed, plain = (group["params"] for group in _groups(model, weight_decay))
    ends = decayed[:1] + decayed[-1:] if len(decayed) > 1 else decayed
    hidden = decayed[1:-1]
    groups = [
        {"params": hidden, "lr": lr, "weight_decay": weight_decay, "orthogonal": True},
        {"params": ends, "lr": other_lr, "weight_decay": weight_decay, "orthogonal": False},
        {"params": plain, "lr": other_lr, "weight_decay": 0.0, "orthogonal": False},
    ]
    return Muon([group for group in groups if group["params"]], momentum=momentum)


def by_hand(model: nn.Module, lr: float = 0.003) -> torch.optim.Optimizer:
    """Plain gradient descent without momentum or weight decay; raises ValueError for a negative learning rate."""
    if lr < 0:
        raise ValueError(f"lr must be 0 or more, got {lr}")
    return ByHand(model.parameters(), {"lr": lr})


def _groups(model: nn.Module, weight_decay: float, backbone_lr: float | None = None) -> list[dict[str, Any]]:
    """Build parameter groups: weight decay applies to matrices and kernels, not to biases and normalisation scales.

    With `backbone_lr`, the backbone's groups come last.
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay must be 0 or more, got {weight_decay}")
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if backbone_lr is None:
        return _decayed([p for _, p in trained], weight_decay)
    backbone = [p for name, p in trained if "backbone" in name.split(".")]
    if not backbone:
        raise ValueError(f"backbone_lr={backbone_lr}, but the model has no trainable backbone; expected null")
    rest = _decayed([p for name, p in trained if "backbone" not in name.split(".")], weight_decay)
    return rest + [{**group, "lr": backbone_lr} for group in _decayed(backbone, weight_decay)]


def _decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class ByHand(torch.optim.Optimizer):
    """Gradient descent: ``weight -= lr * gradient``."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                weight -= group["lr"] * weight.grad


class Muon(torch.optim.Optimizer):
    """SGD with momentum and orthogonalised updates, after K. Jordan et al. (2024), kellerjordan.github.io/posts/muon.

    A kernel ``[out, in, height, width]`` is treated as the matrix ``[out, in * height * width]``. The update of an
    ``[out, in]`` matrix is scaled by ``sqrt(max(1, out / in))``, as there. Matrices of one shape are orthogonalised
    as one batch. Groups with ``orthogonal=False`` are updated by AdamW with betas 0.9 and 0.95.

    Args:
        groups: parameter groups, each with params, lr, weight_decay and orthogonal.
        momentum: Nesterov momentum of the orthogonalised groups.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step."""
        assert closure is None
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                self._orthogonal_step(weights, group)
            else:
                self._adam_step(weights, group)

    def _orthogonal_step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for weight in weights:
            assert weight.grad is not None
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            update = weight.grad.lerp(state["momentum"], group["momentum"])
            by_shape.setdefault(weight.shape, []).append((weight, update.flatten(1)))
        for shape, pairs in by_shape.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            scale = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
            for (weight, _), update in zip(pairs, updates, strict=True):
                weight.add_(update.view(shape), alpha=-group["lr"] * scale)

    def _adam_step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            assert weight.grad is not None
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
            state["step"] += 1
            step = state["step"].item()
            state["mean"].lerp_(weight.grad, 0.1)
            state["square"].lerp_(weight.grad.square(), 0.05)
            scale = (state["square"] / (1 - 0.95**step)).sqrt_().add_(1e-8)
            weight.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - 0.9**step))


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Orthogonalise matrices by a quintic Newton-Schulz iteration; their singular values end between 0.7 and 1.2.

    Args:
        matrices: float ``[batch, rows, columns]``.
        iterations: number of iterations.

    Returns:
        Tensor of the same shape and dtype; computed in bfloat16 on CUDA.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
