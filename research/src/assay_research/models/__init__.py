"""The zoo: plain modules and builder functions, one YAML each in `conf/model`."""

from torch import Tensor, nn


class Normalized(nn.Module):
    """A network that takes pictures in [0, 1] and normalises them by its training set's own statistics.

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

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and run the network."""
        output: Tensor = self.network((images - self.mean) / self.std)
        return output
