"""Time our best recipe from its first step to its last, beside the public CIFAR-10 speed-run script airbench.

    python -m benchmarks.speedrun --data FOLDER [--airbench airbench94_muon.py] [--runs 10] [key=value ...]

All work but loading and compiling is on the clock. The script of K. Jordan's cifar10-airbench is the user's to get; it
is run as it is, in a process and a folder of its own, on the pictures of ``--data``, and ended after as many runs.
"""

import argparse
import copy
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from assay_research.classification import Trainer
from assay_research.data import ClassificationData, Split
from assay_research.device import keep_memory
from assay_research.errors import AssayError, ConfigError, DeviceError
from assay_research.evaluation import predict, top1
from assay_research.experiment import make_trainer
from assay_research.overrides import compose, explain
from assay_research.run import build_model, read_views
from assay_research.views import Views
from benchmarks import report
from benchmarks.environment import describe
from benchmarks.interleave import WARM_UP
from benchmarks.roofline import now

TAIL = 15
"""Last lines of a script that failed, which its error quotes."""

OUR_NOTE = (
    "trains on all training pictures but one of each class, which the loop looks at after every epoch (on the clock) "
    "and chooses nothing by; the channel statistics are computed while loading"
)
THEIR_NOTE = (
    "as published, ended after its runs; trains on all training pictures. It scores the test pictures after every "
    "epoch (off the clock) and chooses nothing by that; its channel statistics are constants. Its settings were found "
    "for CIFAR-10"
)


@dataclass(frozen=True)
class Finish:
    """One run.

    Attributes:
        top1: of the last weights on the test pictures, over all views.
        seconds: from the first to the last training step.
        scored: the same, and the scoring of the test pictures.
    """

    top1: float
    seconds: float
    scored: float


def train_data(folder: Path) -> list[str]:
    """The overrides that train on all pictures of ``train/`` but one of each class."""
    classes = sum(path.is_dir() for path in (folder / "train").iterdir())
    pictures = sum(path.is_file() for path in (folder / "train").rglob("*"))
    return ["data=image_folder", f"data.root='{folder}'", f"data.val_fraction={classes / max(pictures, 1)}"]


def race(config: DictConfig, trainer: Trainer, runs: int) -> Iterator[Finish]:
    """Train anew with seeds 0, 1, 2, ...; all share what was compiled and loaded.

    Args:
        config: of the training.
        trainer: made of it, and new.
        runs: how many.
    """
    device = trainer.device
    test = trainer.data.test.to(device)
    views = Views(trainer.result, trainer.data.canvas, read_views(config)).to(device)
    fresh = copy.deepcopy(trainer.state_dict())

    def score() -> float:
        return top1(predict(views, test, device, trainer.dtype), test.labels)

    trainer.model.train()
    for _ in range(WARM_UP):
        trainer.train_batch(trainer.order()[: trainer.batch_size])
    score()
    for seed in range(runs):
        begin_anew(config, trainer, fresh, seed)
        start = now(device)
        reason = trainer.train(config.epochs)
        trained = now(device)
        accuracy = score()
        end = now(device)
        if trainer.epoch < config.epochs:
            raise ConfigError(f"the run of seed {seed} ended after epoch {trainer.epoch}: {reason}")
        yield Finish(accuracy, trained - start, end - start)


def begin_anew(config: DictConfig, trainer: Trainer, fresh: dict[str, Any], seed: int) -> None:
    """Take a trainer back to its beginning, with another seed; its weights stay where they lie, as compiled.

    Args:
        config: of the training.
        trainer: anywhere in its training.
        fresh: its state before the first step.
        seed: of the weights, the order of the pictures and their augmentation.
    """
    torch.manual_seed(seed)
    weights = build_model(config, len(trainer.data.classes)).state_dict()
    weights |= {name: fresh["model"][name] for name in ("mean", "std")}
    random = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
        "augment": torch.Generator(trainer.device).manual_seed(seed).get_state(),
    }
    ema = None if fresh["ema"] is None else weights
    trainer.load_state_dict({**fresh, "model": weights, "ema": ema, "random": random})
    trainer.seed = seed


def run_airbench(script: Path, data: ClassificationData, runs: int) -> list[Finish]:
    """Run the script on these pictures until it has finished so many runs, then end it.

    Raises:
        ConfigError: the pictures are not of its size, or it ended early.
    """
    if len(data.classes) != 10 or (data.canvas.height, data.canvas.width) != (32, 32):
        raise ConfigError(
            f"'{script}' is written for 10 classes of 32x32 pictures, but '{data.name}' has {len(data.classes)} of "
            f"{data.canvas.height}x{data.canvas.width}"
        )
    tail: deque[str] = deque(maxlen=TAIL)

    def lines(output: Iterable[str]) -> Iterator[str]:
        for line in output:
            tail.append(line)
            yield line

    with tempfile.TemporaryDirectory() as folder:
        write_cache(data, Path(folder, "cifar10"))
        command = [sys.executable, "-u", script.resolve()]
        with subprocess.Popen(  # noqa: S603 - what the user named
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            finished: list[Finish] = []
            try:
                for finish in read_finishes(lines(process.stdout)):
                    finished.append(finish)
                    say("airbench", finish)
                    if len(finished) == runs:
                        return finished
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # it has nothing to save, and children that compile
    raise ConfigError(
        f"'{script}' ended with exit code {process.returncode} after {len(finished)} of {runs} runs:\n{''.join(tail)}"
    )


def write_cache(data: ClassificationData, folder: Path) -> None:
    """Write the pictures as the script caches torchvision's CIFAR-10: ``train.pt`` and ``test.pt``.

    Training pictures are put into one random order, as CIFAR-10's are: the script takes the first 5,000 for a sample.
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


def say(who: str, finish: Finish) -> None:
    """A run, in a line."""
    line = f"{who}: top-1 {finish.top1:.4f} in {finish.seconds:.3f} s, with scoring {finish.scored:.3f} s\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def contender(
    what: str, note: str, device: str, data: ClassificationData, pictures: int, target: float | None, runs: list[Finish]
) -> dict[str, Any]:
    """What a report says of one contender, ready for JSON."""
    return {
        "what": what,
        "note": note,
        "device": device,
        "dataset": data.name,
        "pictures": pictures,
        "target": target,
        "runs": [asdict(run) for run in runs],
    }


def compare(arguments: argparse.Namespace) -> report.Document:
    """Run all contenders.

    Raises:
        AssayError: the data, an override, the device or the script is not to be had.
    """
    script: Path | None = arguments.airbench
    if script and not script.is_file():
        raise ConfigError(f"--airbench: there is no file '{script}'; get airbench94_muon.py of cifar10-airbench")
    if script and not torch.cuda.is_available():
        raise DeviceError(
            "--airbench: the script runs on CUDA alone, and torch sees no CUDA device here; without it, our own runs "
            "are timed on the CPU"
        )
    if not all((arguments.data / part).is_dir() for part in ("train", "test")):
        raise ConfigError(f"--data '{arguments.data}' has no folders train/ and test/")
    environment = describe()
    config = compose([*arguments.overrides, *train_data(arguments.data)])
    trainer = make_trainer(config)
    data, device = trainer.data, trainer.device.type
    ours = []
    for finish in race(config, trainer, arguments.runs):
        ours.append(finish)
        say("ours", finish)
    theirs = run_airbench(script, data, arguments.runs) if script else []
    target = arguments.target
    if target is None and theirs:
        target = fmean(run.top1 for run in theirs)
    name = f"ours, {config.name}"
    races = [contender(name, OUR_NOTE, device, data, len(data.train), target, ours)]
    if script:
        pictures = len(data.train) + len(data.val)
        races.append(contender(script.name, THEIR_NOTE, device, data, pictures, target, theirs))
    said = {"recipe": " ".join(arguments.overrides), "epochs": str(config.epochs)}
    return report.document(environment, said, races=races)


def main(typed: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="train/<class>/ and test/<class>/")
    parser.add_argument("--airbench", type=Path, metavar="FILE", help="airbench94_muon.py; needs CUDA")
    parser.add_argument("--runs", type=int, default=10, help="of each; default 10")
    parser.add_argument("--target", type=float, help="accuracy to reach; airbench's mean, where it runs")
    parser.add_argument("--report", type=Path, default=Path("bench"), metavar="FOLDER", help="default bench")
    parser.add_argument("overrides", nargs="*", default=["experiment=speedrun"], metavar="key=value", help="our recipe")
    arguments = parser.parse_args(typed)
    if arguments.runs < 1:
        parser.error(f"--runs must be at least 1, got {arguments.runs}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us ends the script
    keep_memory()
    try:
        document = compare(arguments)
        sys.stdout.write(report.markdown(document))
        sys.stdout.writelines(f"{path}\n" for path in report.write(document, arguments.report))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"speedrun: {explain(error, arguments.overrides)}")
    except (AssayError, OSError) as error:
        sys.exit(f"speedrun: {error}")


if __name__ == "__main__":
    main()
