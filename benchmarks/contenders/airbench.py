"""Run the public CIFAR-10 speed-run script airbench94_muon.py, as it is, on any images of CIFAR-10's size.

The script (K. Jordan's cifar10-airbench) is the user's to get. It reads ``cifar10/train.pt`` and ``cifar10/test.pt``
where it is started, prints a row an epoch, and trains 200 times.
"""

import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from assay_research.data.classification import ClassificationData, Split
from assay_research.errors import ConfigError

TAIL = 15
"""Last lines of a script that failed, which its error quotes."""


@dataclass(frozen=True)
class Finish:
    """One run.

    Attributes:
        top1: of the last weights on the test images, over all views.
        seconds: from the first to the last training step.
        scored: the same, and the scoring of the test images.
    """

    top1: float
    seconds: float
    scored: float


def run(script: Path, data: ClassificationData, runs: int, say: Callable[[Finish], object]) -> list[Finish]:
    """Run the script on these images until it has finished so many runs, then end it.

    Args:
        script: of the user; it is not changed.
        data: all images but the test images are its training images.
        runs: how many.
        say: is told of each run at once.

    Raises:
        ConfigError: the images are not of its size, or it ended early.
    """
    if len(data.classes) != 10 or (data.canvas.height, data.canvas.width) != (32, 32):
        raise ConfigError(
            f"'{script}' is written for 10 classes of 32x32 images, but '{data.name}' has {len(data.classes)} of "
            f"{data.canvas.height}x{data.canvas.width}"
        )
    tail: deque[str] = deque(maxlen=TAIL)

    def lines(output: Iterable[str]) -> Iterator[str]:
        for line in output:
            tail.append(line)
            yield line

    with tempfile.TemporaryDirectory() as folder:
        write_cache(data, Path(folder, "cifar10"))
        command: list[str | Path] = [sys.executable, "-u", script.resolve()]
        with subprocess.Popen(  # noqa: S603 - what the user named
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            finished: list[Finish] = []
            try:
                for finish in read_finishes(lines(process.stdout)):
                    finished.append(finish)
                    say(finish)
                    if len(finished) == runs:
                        return finished
                process.wait()
            finally:
                process.kill()  # it has nothing to save
    raise ConfigError(
        f"'{script}' ended with exit code {process.returncode} after {len(finished)} of {runs} runs:\n{''.join(tail)}"
    )


def write_cache(data: ClassificationData, folder: Path) -> None:
    """Write the images as the script caches torchvision's CIFAR-10: ``train.pt`` and ``test.pt``.

    Training images are put into one random order, as CIFAR-10's are: the script takes the first 5,000 for a sample.
    """
    folder.mkdir()
    train = [torch.cat(parts) for parts in zip(*(_tensors(split) for split in (data.train, data.val)), strict=True)]
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))
    for name, (images, labels) in {"train": [each[order] for each in train], "test": _tensors(data.test)}.items():
        content = {"images": images, "labels": labels, "classes": list(data.classes)}
        torch.save(content, folder / f"{name}.pt")


def _tensors(split: Split) -> list[torch.Tensor]:
    return [split.images, split.labels]


def read_finishes(lines: Iterable[str]) -> Iterator[Finish]:
    """Read the script's table as it is printed: a row an epoch, then one of the evaluation, which ends a run.

    Its columns are run, epoch, train_acc, val_acc, tta_val_acc and time_seconds; a run's number stands in its first
    row alone. The first run warms up, and does not count.
    """
    run, trained = "", 0.0
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 6 or cells[0] == "run":
            continue
        run = cells[0] or run
        if cells[1] != "eval":
            trained = float(cells[5])
        elif run != "warmup":
            yield Finish(top1=float(cells[4]), seconds=trained, scored=float(cells[5]))
