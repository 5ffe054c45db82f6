"""Networks of an assignment of Stanford's CS231n: two networks in three programming styles, and an open-ended one.

The three versions of a network have their weights in the same order. The first two start from Kaiming's normal
weights (arXiv:1502.01852) and zero biases, the third from torch's own. All map normalised float32
``[batch, 3, 32, 32]`` to logits ``[batch, classes]``.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = 32 * 32
HIDDEN = 4000
"""Hidden units of the two-layer network."""

CHANNELS = (32, 16)
"""Output channels of the three-layer network's convolutions."""


# Barebones: weights are tensors in a list, a network is a function of images and weights.


def two_layer_fc(images: Tensor, weights: list[Tensor]) -> Tensor:
    """Fully connected, ReLU, fully connected."""
    w1, b1, w2, b2 = weights
    x = F.relu(F.linear(images.flatten(1), w1, b1))
    return F.linear(x, w2, b2)


def three_layer_convnet(images: Tensor, weights: list[Tensor]) -> Tensor:
    """Convolution 5x5, ReLU, convolution 3x3, ReLU, fully connected."""
    w1, b1, w2, b2, w3, b3 = weights
    x = F.relu(F.conv2d(images, w1, b1, padding=2))
    x = F.relu(F.conv2d(x, w2, b2, padding=1))
    return F.linear(x.flatten(1), w3, b3)


def initial_weights(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Return, for each shape ``[out, in, ...]``, a weight and a bias ``[out]``."""
    weights = []
    for shape in shapes:
        weights += [torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:])), torch.zeros(shape[0])]
    return weights


class Barebones(nn.Module):
    """Module of a function and its list of weights, so that they are trained and saved as in any other network.

    Args:
        network: function from images and weights to logits.
        weights: weights in the order of the function's argument.
    """

    def __init__(self, network: Callable[[Tensor, list[Tensor]], Tensor], weights: list[Tensor]) -> None:
        super().__init__()
        self.network = network
        self.weights = nn.ParameterList(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Call the function."""
        return self.network(images, list(self.weights))


def barebones_fc(classes: int = 10) -> Barebones:
    """The two-layer network as a function."""
    return Barebones(two_layer_fc, initial_weights((HIDDEN, 3 * PIXELS), (classes, HIDDEN)))


def barebones_convnet(classes: int = 10) -> Barebones:
    """Build CS231n's three-layer convnet (conv, conv, fully connected) from bare weight tensors and a function."""
    first, second = CHANNELS
    shapes = (first, 3, 5, 5), (second, first, 3, 3), (classes, second * PIXELS)
    return Barebones(three_layer_convnet, initial_weights(*shapes))


# Module: a network is a class, its layers are attributes.


class TwoLayerFC(nn.Module):
    """The two-layer network as a module."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3 * PIXELS, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Fully connected, ReLU, fully connected."""
        x = F.relu(self.fc1(images.flatten(1)))
        logits: Tensor = self.fc2(x)
        return logits


class ThreeLayerConvNet(nn.Module):
    """The three-layer network as a module."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        first, second = CHANNELS
        self.conv1 = nn.Conv2d(3, first, 5, padding=2)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.fc = nn.Linear(second * PIXELS, classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Convolution 5x5, ReLU, convolution 3x3, ReLU, fully connected."""
        x = F.relu(self.conv1(images))
        x = F.relu(self.conv2(x))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


# Sequential: a network is a list of layers.


def sequential_fc(classes: int = 10) -> nn.Sequential:
    """The two-layer network as a sequence."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * PIXELS, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, classes),
    )


def sequential_convnet(classes: int = 10) -> nn.Sequential:
    """The three-layer network as a sequence."""
    first, second = CHANNELS
    return nn.Sequential(
        nn.Conv2d(3, first, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * PIXELS, classes),
    )


def open_ended(classes: int = 10, dropout2d: float = 0.2, dropout: float = 0.5) -> nn.Sequential:
    """The open-ended network: two convolutions, each with a pool, and two linear layers; torch's initial weights.

    Args:
        classes: number of classes.
        dropout2d: probability that a channel of the last map is dropped.
        dropout: dropout probability in the hidden layer.
    """
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout2d(dropout2d),
        nn.Flatten(),
        nn.Linear(64 * PIXELS // 16, 512),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(512, classes),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module.bias, Tensor):
            nn.init.zeros_(module.bias)
