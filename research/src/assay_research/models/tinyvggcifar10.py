"""TinyVGGCIFAR10 v4: five blocks of two convolutions, and the plain variant that failed to train without BatchNorm."""

from torch import nn

from assay_research.models.vgg import head, stages

CHANNELS = (16, 32, 64, 128, 256)
"""Of each block; a block ends with a 2x2 max-pool."""

HIDDEN = 256


def tinyvggcifar10(classes: int = 10, norm: bool = True, dropout: float = 0.5) -> nn.Sequential:
    """Build v4, or with ``norm=False`` its plain variant; initial weights are torch's defaults, as there.

    Args:
        classes: width of the output.
        norm: put BatchNorm between each convolution and its ReLU.
        dropout: probability in the head's two hidden layers.

    Returns:
        From normalised float32 ``[batch, 3, 32, 32]`` to logits ``[batch, classes]``.
    """
    kernels = [(3, 3)] * len(CHANNELS)
    return nn.Sequential(*stages(kernels, CHANNELS, norm), *head(CHANNELS[-1], HIDDEN, classes, dropout))
