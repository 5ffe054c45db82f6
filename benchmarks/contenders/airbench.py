"""Run the unmodified CIFAR-10 speed-run script airbench94_muon.py on any images of CIFAR-10's size.

The user provides the script (of K. Jordan's cifar10-airbench). It reads ``cifar10/train.pt`` and ``cifar10/test.pt``
from its working directory, prints a row per epoch, and trains 200 times.
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
"""Number of last output lines of a failed script that the error quotes."""


@dataclass(frozen=True)
class RunResult:
    """Accuracy and duration of one training run.

    Attributes:
        top1: top-1 accuracy of the last weights on the test images, averaged over all views.
        seconds: seconds from the first to the last training step.
        scored: seconds including the scoring of the test images.
    """

    top1: float
    seconds: float
    scored: float


def run(script: Path, data: ClassificationData, runs: int, report: Callable[[RunResult], object]) -> list[RunResult]:
    """Run the script on a data set and stop it after a number of training runs.

    Args:
        script: path of the script.
        data: data set; the script trains on the training and validation images.
        runs: number of training runs.
        report: called with each result as soon as the run is finished.

    Raises:
        ConfigError: the data set does not have 10 classes of 32x32 images, or the script ended early.
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
        with subprocess.Popen(  # noqa: S603 - the script is the user's choice
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            finished: list[RunResult] = []
            try:
                for result in read_results(lines(process.stdout)):
                    finished.append(result)
                    report(result)
                    if len(finished) == runs:
                        return finished
                process.wait()
            finally:
                process.kill()  # it has nothing to save
    raise ConfigError(
        f"'{script}' ended with exit code {process.returncode} after {len(finished)} of {runs} runs:\n{''.join(tail)}"
    )


def write_cache(data: ClassificationData, folder: Path) -> None:
    """Write the images in the script's cache format of CIFAR-10: ``train.pt`` and ``test.pt``.

    The training images are shuffled, like CIFAR-10's: the script uses the first 5,000 as a sample.
    """
    folder.mkdir()
    train = [torch.cat(parts) for parts in zip(*(_tensors(split) for split in (data.train, data.val)), strict=True)]
    order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))
    for name, (images, labels) in {"train": [each[order] for each in train], "test": _tensors(data.test)}.items():
        content = {"images": images, "labels": labels, "classes": list(data.classes)}
        torch.save(content, folder / f"{name}.pt")


def _tensors(split: Split) -> list[torch.Tensor]:
    return [split.images, split.labels]


def read_results(lines: Iterable[str]) -> Iterator[RunResult]:
    """Parse the script's table as it is printed: a row per epoch, then an evaluation row that ends a run.

    The columns are run, epoch, train_acc, val_acc, tta_val_acc and time_seconds; only the first row of a run has its
    number. The first run is a warm-up and is skipped.
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
            yield RunResult(top1=float(cells[4]), seconds=trained, scored=float(cells[5]))
