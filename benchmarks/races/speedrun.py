"""Time our best recipe from its first step to its last, beside the public CIFAR-10 speed-run script airbench.

    python -m benchmarks.races.speedrun --data FOLDER [--airbench airbench94_muon.py] [--runs 10] [key=value ...]

All work but loading and compiling is on the clock. The script of K. Jordan's cifar10-airbench is the user's to get; it
is run as it is, in a process and a folder of its own, on the images of ``--data``, and ended after as many runs.
"""

import argparse
import copy
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch

from assay_deploy.errors import AssayError
from assay_research.config.build import build_model, read_views
from assay_research.config.overrides import compose_settings
from assay_research.config.schema import TrainConfig
from assay_research.data.classification import ClassificationData
from assay_research.errors import ConfigError, DeviceError
from assay_research.experiment.trainers import make_trainer
from assay_research.tasks.classification.metrics import top1
from assay_research.tasks.classification.predict import predict
from assay_research.tasks.classification.trainer import ClassifierTrainer
from assay_research.tasks.classification.views import Views
from assay_research.training.device import keep_memory
from benchmarks.contenders import airbench
from benchmarks.contenders.airbench import Finish
from benchmarks.measure.environment import describe
from benchmarks.measure.interleave import WARM_UP
from benchmarks.measure.roofline import now
from benchmarks.report import document as report

OUR_NOTE = (
    "trains on all training images but one of each class, which the loop looks at after every epoch (on the clock) "
    "and chooses nothing by; the channel statistics are computed while loading"
)
THEIR_NOTE = (
    "as published, ended after its runs; trains on all training images. It scores the test images after every "
    "epoch (off the clock) and chooses nothing by that; its channel statistics are constants. Its settings were found "
    "for CIFAR-10"
)


def train_data(folder: Path) -> list[str]:
    """The overrides that train on all images of ``train/`` but one of each class."""
    classes = sum(path.is_dir() for path in (folder / "train").iterdir())
    images = sum(path.is_file() for path in (folder / "train").rglob("*"))
    return ["data=image_folder", f"data.root='{folder}'", f"data.val_fraction={classes / max(images, 1)}"]


def race(settings: TrainConfig, trainer: ClassifierTrainer, runs: int) -> Iterator[Finish]:
    """Train anew with seeds 0, 1, 2, ...; all share what was compiled and loaded.

    Args:
        settings: of the training.
        trainer: made of it, and new.
        runs: how many.
    """
    device = trainer.device
    test = trainer.data.test.to(device)
    views = Views(trainer.result, trainer.data.canvas, read_views(settings.views)).to(device)
    fresh = copy.deepcopy(trainer.state_dict())

    def score() -> float:
        return top1(predict(views, test, device, trainer.dtype), test.labels)

    trainer.model.train()
    for _ in range(WARM_UP):
        trainer.train_batch(trainer.order()[: trainer.batch_size])
    score()
    for seed in range(runs):
        begin_anew(settings, trainer, fresh, seed)
        start = now(device)
        reason = trainer.train(settings.epochs)
        trained = now(device)
        accuracy = score()
        end = now(device)
        if trainer.epoch < settings.epochs:
            raise ConfigError(f"the run of seed {seed} ended after epoch {trainer.epoch}: {reason}")
        yield Finish(accuracy, trained - start, end - start)


def begin_anew(settings: TrainConfig, trainer: ClassifierTrainer, fresh: dict[str, Any], seed: int) -> None:
    """Take a trainer back to its beginning, with another seed; its weights stay where they lie, as compiled.

    Args:
        settings: of the training.
        trainer: anywhere in its training.
        fresh: its state before the first step.
        seed: of the weights, the order of the images and their augmentation.
    """
    torch.manual_seed(seed)
    weights = build_model(settings.model, len(trainer.data.classes)).state_dict()
    weights |= {name: fresh["model"][name] for name in ("mean", "std")}
    random = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
        "augment": torch.Generator(trainer.device).manual_seed(seed).get_state(),
    }
    trainer.load_state_dict({**fresh, "model": weights, "random": random})
    trainer.seed = seed


def say(who: str, finish: Finish) -> None:
    """A run, in a line."""
    line = f"{who}: top-1 {finish.top1:.4f} in {finish.seconds:.3f} s, with scoring {finish.scored:.3f} s\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def contender(
    what: str, note: str, device: str, data: ClassificationData, images: int, target: float | None, runs: list[Finish]
) -> dict[str, Any]:
    """What a report says of one contender, ready for JSON."""
    return {
        "what": what,
        "note": note,
        "device": device,
        "dataset": data.name,
        "images": images,
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
    settings = compose_settings([*arguments.overrides, *train_data(arguments.data)])
    trainer = cast("ClassifierTrainer", make_trainer(settings))  # folders of classes are a classifier's data
    data, device = trainer.data, trainer.device.type
    ours = []
    for finish in race(settings, trainer, arguments.runs):
        ours.append(finish)
        say("ours", finish)
    theirs = airbench.run(script, data, arguments.runs, partial(say, "airbench")) if script else []
    target = arguments.target
    if target is None and theirs:
        target = fmean(run.top1 for run in theirs)
    name = f"ours, {settings.name}"
    races = [contender(name, OUR_NOTE, device, data, len(data.train), target, ours)]
    if script:
        images = len(data.train) + len(data.val)
        races.append(contender(script.name, THEIR_NOTE, device, data, images, target, theirs))
    said = {"recipe": " ".join(arguments.overrides), "epochs": str(settings.epochs)}
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
    arguments = parser.parse_intermixed_args(typed)
    if arguments.runs < 1:
        parser.error(f"--runs must be at least 1, got {arguments.runs}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us ends the script
    keep_memory()
    try:
        document = compare(arguments)
        report.show(document, arguments.report)
    except (AssayError, OSError) as error:
        sys.exit(f"speedrun: {error}")
    except KeyboardInterrupt:
        sys.exit("speedrun: interrupted")


if __name__ == "__main__":
    main()
