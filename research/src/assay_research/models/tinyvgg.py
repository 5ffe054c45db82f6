"""TinyVGG A to E: the VGG paper's five configurations at an eighth of its width, for 32x32 pictures."""

from torch import Tensor, nn

CONFIGURATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
"""Kernel sizes of the convolutions in each of the five stages; a stage ends with a 2x2 max-pool."""

CHANNELS = (8, 16, 32, 64, 64)
"""Of each stage."""

HIDDEN = 64
"""Width of the two hidden layers of the head."""


def tinyvgg(config: str = "A", classes: int = 10, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Build one of the five configurations of Simonyan and Zisserman (arXiv:1409.1556, table 1) at 1/8 width.

    Initial weights are Kaiming's (arXiv:1502.01852): with torch's own defaults and without BatchNorm the signal of
    E fades on its way through sixteen convolutions, and it stays at chance for its first epochs.

    Args:
        config: A, B, C, D or E.
        classes: width of the output.
        norm: put BatchNorm between each convolution and its ReLU; the published table has none.
        dropout: probability in the head's two hidden layers.

    Returns:
        From normalised float32 ``[batch, 3, 32, 32]`` to logits ``[batch, classes]``.

    Raises:
        ValueError: an unknown configuration.
    """
    if config not in CONFIGURATIONS:
        raise ValueError(f"config must be one of {', '.join(CONFIGURATIONS)}, got '{config}'")
    layers: list[nn.Module] = []
    width = 3
    for channels, kernels in zip(CHANNELS, CONFIGURATIONS[config], strict=True):
        for kernel in kernels:
            layers.append(nn.Conv2d(width, channels, kernel, padding=kernel // 2, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU(inplace=True))
            width = channels
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(width, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        width = HIDDEN
    layers.append(nn.Linear(width, classes))
    network = nn.Sequential(*layers)
    network.apply(_initialise)
    return network


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module.bias, Tensor):
            nn.init.zeros_(module.bias)
