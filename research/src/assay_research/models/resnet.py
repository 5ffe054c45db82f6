"""Residual networks of any depth for 32x32 images."""

import torch.nn.functional as F
from torch import Tensor, nn


def resnet(blocks: list[int], channels: list[int], classes: int = 10) -> nn.Sequential:
    """Build a ResNet for CIFAR as described by He et al. (arXiv:1512.03385, section 4.2).

    The layers are a 3x3 convolution with BatchNorm and ReLU, the stages, global average pooling and one linear layer.
    Every stage but the first starts at half the resolution. With n blocks per stage at 16, 32 and 64 channels there
    are 6n + 2 layers: 3 make ResNet-20, 5 ResNet-32, 9 ResNet-56. Convolutions have the initial weights of
    arXiv:1502.01852, by fan-out; the linear layer has torch's.

    Args:
        blocks: number of blocks of each stage.
        channels: output channels of each stage; they must not decrease, since a shortcut can only add channels.
        classes: number of classes.

    Returns:
        A network from normalised float32 ``[batch, 3, height, width]`` to logits ``[batch, classes]``.

    Raises:
        ValueError: there is no stage, a stage has no blocks or channels, channels decrease, or the lists differ in
            length.
    """
    if not blocks or len(blocks) != len(channels):
        raise ValueError(
            f"blocks and channels must have the same length, at least one stage, got {blocks} and {channels}"
        )
    if min(blocks) < 1 or min(channels) < 1:
        raise ValueError(f"a stage needs at least one block and one channel, got {blocks} and {channels}")
    if channels != sorted(channels):
        raise ValueError(f"channels must not decrease from stage to stage, got {channels}")
    layers: list[nn.Module] = [_convolution(3, channels[0], stride=1), nn.BatchNorm2d(channels[0]), nn.ReLU(True)]
    width = channels[0]
    for stage, (number, out) in enumerate(zip(blocks, channels, strict=True)):
        for block in range(number):
            layers.append(Block(width, out, stride=2 if stage > 0 and block == 0 else 1))
            width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Block(nn.Module):
    """Residual block of two 3x3 convolutions with BatchNorm and a parameter-free shortcut (option A of the paper).

    With stride 2 the shortcut takes every second pixel; additional channels are filled with zeros.

    Args:
        inputs: number of input channels.
        out: number of output channels, at least `inputs`.
        stride: stride of the first convolution.

    Shape:
        - Input: ``[batch, inputs, height, width]``.
        - Output: ``[batch, out, height / stride, width / stride]``, rounded up.
    """

    def __init__(self, inputs: int, out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(inputs, out, stride),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            _convolution(out, out, stride=1),
            nn.BatchNorm2d(out),
        )
        self.stride = stride
        self.added = out - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the ReLU of residual plus shortcut."""
        residual = self.residual(x)
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            x = F.pad(x, (0, 0, 0, 0, 0, self.added))
        return F.relu(residual + x, inplace=True)


def _convolution(inputs: int, out: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, out, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
