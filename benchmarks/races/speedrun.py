"""Compare the training time of the best recipe with the public CIFAR-10 speed-run script airbench.

    python -m benchmarks.races.speedrun --data FOLDER [--airbench airbench94_muon.py] [--runs 10] [key=value ...]

The time includes all work except loading and compiling. The user provides the script of K. Jordan's cifar10-airbench.
It runs unmodified, in its own process and folder, on the images of ``--data``, and is stopped after the same number of
runs.
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
from benchmarks.contenders.airbench import RunResult
from benchmarks.measure.environment import describe
from benchmarks.measure.interleave import WARM_UP
from benchmarks.measure.roofline import now
from benchmarks.report import document as report

OUR_NOTE = (
    "trains on all training images except one of each class; these are evaluated after every epoch (included in the "
    "time), but not used to choose a checkpoint. The channel statistics are computed while loading"
)
THEIR_NOTE = (
    "as published, stopped after its runs; trains on all training images. It evaluates the test images after every "
    "epoch (not included in the time), but does not use the scores. Its channel statistics are constants. Its settings "
    "were tuned for CIFAR-10"
)


def train_data(folder: Path) -> list[str]:
    """Overrides of `assay-train` for training on all images of ``train/`` except one of each class."""
    classes = sum(path.is_dir() for path in (folder / "train").iterdir())
    images = sum(path.is_file() for path in (folder / "train").rglob("*"))
    return ["data=image_folder", f"data.root='{folder}'", f"data.val_fraction={classes / max(images, 1)}"]


def race(settings: TrainConfig, trainer: ClassifierTrainer, runs: int) -> Iterator[RunResult]:
    """Train several times, with seeds 0, 1, 2, ..., sharing the loaded data and compiled code.

    Args:
        settings: configuration of the training.
        trainer: new trainer made from the configuration.
        runs: number of runs.

    Yields:
        The result of each run.
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
        reset(settings, trainer, fresh, seed)
        start = now(device)
        reason = trainer.train(settings.epochs)
        trained = now(device)
        accuracy = score()
        end = now(device)
        if trainer.epoch < settings.epochs:
            raise ConfigError(f"the run of seed {seed} ended after epoch {trainer.epoch}: {reason}")
        yield RunResult(accuracy, trained - start, end - start)


def reset(settings: TrainConfig, trainer: ClassifierTrainer, fresh: dict[str, Any], seed: int) -> None:
    """Reset a trainer to its initial state with another seed, keeping its weights in the same memory, as compiled.

    Args:
        settings: configuration of the training.
        trainer: trainer in any state.
        fresh: state of the trainer before the first step.
        seed: seed of the weights, the order of the images and their augmentation.
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


def print_result(name: str, result: RunResult) -> None:
    """Print the result of a run in one line."""
    line = f"{name}: top-1 {result.top1:.4f} in {result.seconds:.3f} s, with scoring {result.scored:.3f} s\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def contender(
    what: str,
    note: str,
    device: str,
    data: ClassificationData,
    images: int,
    target: float | None,
    runs: list[RunResult],
) -> dict[str, Any]:
    """Return the report's entry for one contender, ready for JSON."""
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
    """Run all contenders and return the report.

    Raises:
        AssayError: the data, an override, the device or the script is missing or invalid.
    """
    script: Path | None = arguments.airbench
    if script and not script.is_file():
        raise ConfigError(f"--airbench: there is no file '{script}'; download airbench94_muon.py of cifar10-airbench")
    if script and not torch.cuda.is_available():
        raise DeviceError(
            "--airbench: the script needs CUDA, but torch finds no CUDA device; without --airbench, only our own runs "
            "are timed, on the CPU"
        )
    if not all((arguments.data / part).is_dir() for part in ("train", "test")):
        raise ConfigError(f"--data '{arguments.data}' has no folders train/ and test/")
    environment = describe()
    settings = compose_settings([*arguments.overrides, *train_data(arguments.data)])
    trainer = cast("ClassifierTrainer", make_trainer(settings))  # class folders are data of a classifier
    data, device = trainer.data, trainer.device.type
    ours = []
    for result in race(settings, trainer, arguments.runs):
        ours.append(result)
        print_result("ours", result)
    theirs = airbench.run(script, data, arguments.runs, partial(print_result, "airbench")) if script else []
    target = arguments.target
    if target is None and theirs:
        target = fmean(run.top1 for run in theirs)
    name = f"ours, {settings.name}"
    races = [contender(name, OUR_NOTE, device, data, len(data.train), target, ours)]
    if script:
        images = len(data.train) + len(data.val)
        races.append(contender(script.name, THEIR_NOTE, device, data, images, target, theirs))
    subject = {"recipe": " ".join(arguments.overrides), "epochs": str(settings.epochs)}
    return report.document(environment, subject, races=races)


def main(typed: Sequence[str] | None = None) -> None:
    """Run the command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="images in train/<class>/ and test/<class>/"
    )
    parser.add_argument(
        "--airbench", type=Path, metavar="FILE", help="script airbench94_muon.py to compare with; needs CUDA"
    )
    parser.add_argument("--runs", type=int, default=10, help="training runs of each contender; default 10")
    parser.add_argument("--target", type=float, help="accuracy to reach; default: the mean of airbench, if it runs")
    parser.add_argument(
        "--report", type=Path, default=Path("bench"), metavar="FOLDER", help="folder of the report; default bench"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=["experiment=speedrun"],
        metavar="key=value",
        help="recipe to time; default experiment=speedrun",
    )
    arguments = parser.parse_intermixed_args(typed)
    if arguments.runs < 1:
        parser.error(f"--runs must be at least 1, got {arguments.runs}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ending this process also ends the script
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
