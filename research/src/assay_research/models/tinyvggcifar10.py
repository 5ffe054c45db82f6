"""TinyVGGCIFAR10 v4: five blocks of two convolutions, and the plain variant that failed to train without BatchNorm."""

from torch import nn

CHANNELS = (16, 32, 64, 128, 256)
"""Of each block; a block ends with a 2x2 max-pool."""


def tinyvggcifar10(classes: int = 10, norm: bool = True, dropout: float = 0.5) -> nn.Sequential:
    """Build v4, or with ``norm=False`` its plain variant; initial weights are torch's defaults, as there.

    Args:
        classes: width of the output.
        norm: put BatchNorm between each convolution and its ReLU.
        dropout: probability in the head's two hidden layers.

    Returns:
        From normalised float32 ``[batch, 3, 32, 32]`` to logits ``[batch, classes]``.
    """
    layers: list[nn.Module] = []
    width = 3
    for channels in CHANNELS:
        for _ in range(2):
            layers.append(nn.Conv2d(width, channels, 3, padding=1, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU(inplace=True))
            width = channels
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(width, 256), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        width = 256
    return nn.Sequential(*layers, nn.Linear(width, classes))
