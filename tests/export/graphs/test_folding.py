"""A folded network is the network, without BatchNorm."""

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from assay_export.graphs.folding import fold_norms


def random_statistics(module: nn.Module) -> None:
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d | FrozenBatchNorm2d):
            for tensor in (each.weight.data, each.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (each.bias.data, each.running_mean):
                tensor.normal_()


class Network(nn.Module):
    """One normalisation after a convolution that runs twice, one after a layer with a bias, and two to be left."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.frozen = nn.ModuleDict({"a": nn.Conv2d(3, 4, 1), "b": FrozenBatchNorm2d(4, eps=0.0)})
        self.early = nn.BatchNorm2d(3)
        self.shared, self.sometimes = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.frozen["b"](self.frozen["a"](self.twice(self.twice(self.early(x)))))
        return self.sometimes(self.shared(x)) + self.shared(x)


def test_what_can_be_folded_is_and_the_output_stays() -> None:
    network = Network().eval()
    random_statistics(network)
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = network(x)
        fold_norms(network, torch.zeros_like(x))
        torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)
    left = {name for name, each in network.named_modules() if isinstance(each, nn.BatchNorm2d | FrozenBatchNorm2d)}
    assert left == {"early", "sometimes"}
