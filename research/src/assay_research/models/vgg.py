"""VGG A to E of any width for 32x32 images, and their fully convolutional form for dense evaluation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

KERNELS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
"""Kernel sizes of the convolutions in each of the five stages; a stage ends with a 2x2 max-pool."""

CHANNELS = (64, 128, 256, 512, 512)
"""Output channels of each stage, at width 1."""

INITIALISERS = ("torch", "kaiming")


def vgg(
    config: str = "A",
    classes: int = 10,
    width: float = 1.0,
    hidden: int = 4096,
    norm: bool = False,
    dropout: float = 0.5,
    init: str = "torch",
) -> nn.Sequential:
    """Build one of the configurations of Simonyan and Zisserman (arXiv:1409.1556, table 1).

    Args:
        config: A, A-LRN, B, C, D or E. D is VGG-16, E is VGG-19; the 1x1 convolutions of C are not padded; A-LRN has
            local response normalisation, with the constants of Krizhevsky et al. (2012), after its first ReLU.
        classes: number of classes.
        width: factor on the paper's channels, 64 to 512; TinyVGG has 1/8.
        hidden: width of the two hidden layers of the head.
        norm: add BatchNorm between each convolution and its ReLU.
        dropout: dropout probability in the head's two hidden layers.
        init: ``torch`` for torch's defaults, or ``kaiming`` (arXiv:1502.01852). Without BatchNorm the defaults let the
            signal of E fade over sixteen convolutions, and its accuracy stays at chance for the first epochs.

    Returns:
        A network from normalised float32 ``[batch, 3, 32, 32]`` to logits ``[batch, classes]``.

    Raises:
        ValueError: an unknown configuration or initialiser, or a width that leaves a layer without channels.
    """
    if config not in KERNELS:
        raise ValueError(f"config must be one of {', '.join(KERNELS)}, got '{config}'")
    if init not in INITIALISERS:
        raise ValueError(f"init must be one of {', '.join(INITIALISERS)}, got '{init}'")
    channels = [round(each * width) for each in CHANNELS]
    if min(channels) < 1:
        raise ValueError(f"width {width} leaves a stage without channels; at least {1 / CHANNELS[0]:.3f} is needed")
    if hidden < 1:
        raise ValueError(f"hidden must be at least 1, got {hidden}")
    layers = stages(KERNELS[config], channels, norm)
    if config == "A-LRN":
        first_relu = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.ReLU))
        layers.insert(first_relu + 1, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0))
    network = nn.Sequential(*layers, *head(channels[-1], hidden, classes, dropout))
    if init == "kaiming":
        network.apply(_initialise)
    return network


def stages(kernels: Sequence[Sequence[int]], channels: Sequence[int], norm: bool) -> list[nn.Module]:
    """Build the stages: in each, convolutions with optional BatchNorm and ReLU, then a 2x2 max-pool.

    Args:
        kernels: kernel sizes of the convolutions of each stage; 3x3 is padded by 1, 1x1 by 0.
        channels: output channels of each stage.
        norm: add BatchNorm between each convolution and its ReLU.
    """
    layers: list[nn.Module] = []
    width = 3
    for stage, out in zip(kernels, channels, strict=True):
        for kernel in stage:
            layers.append(nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU(inplace=True))
            width = out
        layers.append(nn.MaxPool2d(2))
    return layers


def head(width: int, hidden: int, classes: int, dropout: float) -> list[nn.Module]:
    """Build the head, two hidden layers and the output layer, for a map of one pixel and `width` channels."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (width, hidden):
        layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return [*layers, nn.Linear(hidden, classes)]


def dense(network: nn.Sequential, stride: int = 32) -> nn.Sequential:
    """Convert a network to its fully convolutional form for images of any size; logits are averaged over the map.

    This is the dense evaluation of the paper's section 3.2, after OverFeat (arXiv:1312.6229). There is one output
    every `stride` pixels, so a 40x40 image has 1 at stride 32, 4 at stride 8 and 9 at stride 4. If `stride` is less
    than the network's 32, the last pools have stride 1 and the following layers are dilated. This is exact: the
    outputs at a coarser stride are a subset of those at a finer one.

    Args:
        network: a network made of `stages` and `head`; its weights are shared, not copied.
        stride: distance between two outputs: 1, 2, 4, 8, 16 or 32 pixels.

    Returns:
        A network from normalised float32 ``[batch, 3, height, width]``, each side at least 32, to logits
        ``[batch, classes]``.

    Raises:
        ValueError: the stride is another one, or the network has another form.
    """
    if stride not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"stride must be 1, 2, 4, 8, 16 or 32 pixels, got {stride}")
    layers: list[nn.Module] = []
    reached, dilation, width = 1, 1, 3
    for layer in network:
        if isinstance(layer, nn.MaxPool2d) and reached < stride:
            reached *= 2
            layers.append(layer)
        elif isinstance(layer, nn.MaxPool2d):
            layers.append(nn.MaxPool2d(2, stride=1, dilation=dilation))
            dilation *= 2
        elif isinstance(layer, nn.Conv2d):
            layers.append(_convolution(layer.weight, layer.bias, dilation))
            width = layer.out_channels
        elif isinstance(layer, nn.Linear):
            if layer.in_features != width:
                raise ValueError(f"expected a head over {width} channels of one pixel, got {layer.in_features} inputs")
            layers.append(_convolution(layer.weight[:, :, None, None], layer.bias, 1))
            width = layer.out_features
        elif isinstance(layer, nn.ReLU | nn.BatchNorm2d | nn.LocalResponseNorm | nn.Dropout):
            layers.append(layer)
        elif not isinstance(layer, nn.Flatten):
            raise ValueError(f"expected a network of `stages` and `head`, got one with a {type(layer).__name__}")
    return nn.Sequential(*layers, Average())


class Average(nn.Module):
    """Global average pooling: from ``[batch, channels, height, width]`` to ``[batch, channels]``."""

    def forward(self, maps: Tensor) -> Tensor:
        """Average each channel."""
        return maps.mean((2, 3))


def _convolution(weight: Tensor, bias: Tensor | None, dilation: int) -> nn.Conv2d:
    out, inputs, kernel, _ = weight.shape
    with torch.device("meta"):
        layer = nn.Conv2d(inputs, out, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module.bias, Tensor):
            nn.init.zeros_(module.bias)
