"""Fold BatchNorm into the weights of the convolution before it."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def fold_norms(model: nn.Module, *inputs: Tensor) -> None:
    """Fold every BatchNorm that directly follows a convolution into the convolution's weights, in place.

    Exporters also fold, but not in a graph that runs a layer twice, at two sizes of an image. The pairs are found by
    running the model once; a pair is not folded if one of its two layers also runs without the other.

    Args:
        model: module in eval mode.
        *inputs: inputs for running the model.
    """
    runs: Counter[nn.Module] = Counter()
    pairs: Counter[tuple[nn.Conv2d, Any]] = Counter()
    before: list[tuple[nn.Conv2d, Tensor]] = []

    def see(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        runs[module] += 1
        if isinstance(module, NORMS) and before and before[0][1] is given[0]:
            pairs[before[0][0], module] += 1
        before[:] = [(module, output)] if isinstance(module, nn.Conv2d) else []

    seen = [each for each in model.modules() if isinstance(each, (nn.Conv2d, *NORMS))]
    hooks = [each.register_forward_hook(see) for each in seen]
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    for (convolution, norm), times in pairs.items():
        if runs[convolution] == runs[norm] == times:
            _replace(model, convolution, fuse_conv_bn_eval(convolution, norm))
            _replace(model, norm, nn.Identity())


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
