"""TinyVGGCIFAR10 v4: five blocks of two convolutions; also its variant without BatchNorm, which failed to train."""

from torch import nn

from assay_research.models.vgg import head, stages

CHANNELS = (16, 32, 64, 128, 256)
"""Output channels of each block; a block ends with a 2x2 max-pool."""

HIDDEN = 256


def tinyvggcifar10(classes: int = 10, norm: bool = True, dropout: float = 0.5) -> nn.Sequential:
    """Build TinyVGGCIFAR10 v4, or with ``norm=False`` its variant without BatchNorm; torch's default initial weights.

    Args:
        classes: number of classes.
        norm: add BatchNorm between each convolution and its ReLU.
        dropout: dropout probability in the head's two hidden layers.

    Returns:
        A network from normalised float32 ``[batch, 3, 32, 32]`` to logits ``[batch, classes]``.
    """
    kernels = [(3, 3)] * len(CHANNELS)
    return nn.Sequential(*stages(kernels, CHANNELS, norm), *head(CHANNELS[-1], HIDDEN, classes, dropout))
