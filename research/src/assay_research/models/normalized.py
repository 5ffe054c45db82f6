"""Network with built-in normalisation by the channel statistics of its training images."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Pretrained(Protocol):
    """Network that can load pretrained weights."""

    statistics: tuple[Tensor, Tensor] | None
    """Channel mean and standard deviation that the weights expect, float32 ``[3]`` each; None for any."""

    def load_pretrained(self) -> None:
        """Load the pretrained weights that the network was built for, if any.

        Raises:
            ConfigError: the weights are not available, or do not fit the network.
        """


class Normalized(nn.Module):
    """Network for images in [0, 1], which it normalises by the channel statistics of its training set.

    The statistics are buffers, so they are saved with the weights.

    Args:
        network: network for normalised float32 ``[batch, 3, height, width]``.
        mean: float32 ``[3]``, channel means.
        std: float32 ``[3]``, channel standard deviations.

    Shape:
        - Input: float32 ``[batch, 3, height, width]`` in [0, 1], RGB.
        - Output: the network's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the channel means and standard deviations, float32 ``[3]`` each."""
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(std[:, None, None])

    def forward(self, images: Tensor, *targets: Any) -> Any:
        """Normalise the images and run the network; with `targets` a detector returns its losses."""
        return self.network((images - self.mean) / self.std, *targets)
