"""Several processes train one model: each takes its share of every batch, and all hold the same weights after it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from assay_research.errors import ConfigError


@dataclass(frozen=True)
class World:
    """Which of how many processes this is; the default is the only one.

    Attributes:
        rank: 0 is the one that writes and speaks.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, total: int) -> slice:
        """This process's part of `total` things in a row; the parts are equal."""
        assert total % self.size == 0
        each = total // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of every process's `values`, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process; all have to ask at the same point."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return self.sum(torch.tensor(float(flag), device=device)).item() > 0

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Meet the other processes that `torchrun` started, over NCCL on CUDA and Gloo on the CPU; leave them at the end.

    Without torchrun there are no others, and nothing is set up.

    Args:
        device: what the training runs on; with CUDA, each process takes the GPU of its local rank.

    Raises:
        ConfigError: more processes than GPUs on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"torchrun started process {local} on a machine with {torch.cuda.device_count()} GPUs: "
                "give it --nproc-per-node=gpu, or device=cpu"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
