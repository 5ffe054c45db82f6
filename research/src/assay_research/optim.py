"""Optimizers by name, with weight decay on weights alone and one fused kernel a step."""

import torch
from torch import nn


def sgd(
    model: nn.Module,
    lr: float = 0.01,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(_groups(model, weight_decay), lr=lr, momentum=momentum, nesterov=nesterov, fused=True)


def adam(model: nn.Module, lr: float = 0.001, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101), which without weight decay is Adam."""
    return torch.optim.AdamW(_groups(model, weight_decay), lr=lr, fused=True)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices and kernels; leave biases and normalisation scales, which have one axis, alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
