"""Distributed training of one model: each process computes its share of every batch; all have the same weights."""

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
    """Rank of this process and number of processes; the default is a single process.

    Attributes:
        rank: index of this process; process 0 writes the run and prints.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, total: int) -> slice:
        """Return this process's part of the indices 0 to `total` - 1; all parts are equal in size."""
        assert total % self.size == 0
        each = total // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, values: Tensor) -> Tensor:
        """Sum `values` over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Return True if `flag` is True in any process; all processes must call this at the same point."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return self.sum(torch.tensor(float(flag), device=device)).item() > 0

    def wait(self) -> None:
        """Wait until all processes call this."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Join the process group of `torchrun`, with NCCL on CUDA and Gloo on the CPU; destroy it at the end.

    Without torchrun nothing is set up.

    Args:
        device: device of the training; with CUDA, each process uses the GPU of its local rank.

    Raises:
        ConfigError: there are more processes than GPUs on this machine.
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
                "use --nproc-per-node=gpu, or device=cpu"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
