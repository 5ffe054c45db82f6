"""A network with the channel statistics of its training images."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Pretrained(Protocol):
    """A network that can begin with weights that were trained before."""

    statistics: tuple[Tensor, Tensor] | None
    """Mean and standard deviation of the channels those weights expect, float32 ``[3]`` each; None where any do."""

    def load_pretrained(self) -> None:
        """Load them, if it was built to have any.

        Raises:
            ConfigError: they are not to be had, or do not fit.
        """


class Normalized(nn.Module):
    """A network that takes images in [0, 1] and normalises them by its training set's own statistics.

    The statistics are buffers, so they travel with the weights and exist once.

    Args:
        network: from normalised float32 ``[batch, 3, height, width]`` to its output.
        mean: float32 ``[3]``.
        std: float32 ``[3]``.

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
        """Normalise by these from now on, float32 ``[3]`` each."""
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(std[:, None, None])

    def forward(self, images: Tensor, *targets: Any) -> Any:
        """Normalise and run the network; a detector is given `targets` where its losses are asked for."""
        return self.network((images - self.mean) / self.std, *targets)
