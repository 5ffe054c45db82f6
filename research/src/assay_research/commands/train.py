"""Command `assay-train [key=value ...]`: train a model in a new run, or resume a run with `resume=<run>`."""

import os
import signal
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_deploy.errors import AssayError
from assay_research._version import __version__
from assay_research.commands import sweep
from assay_research.commands.resume import AUTO, allow_run_keys, is_finished, latest, resumed_config
from assay_research.config.commandline import Command
from assay_research.config.files import CONF
from assay_research.config.overrides import check_groups, compose, explain, register
from assay_research.config.schema import TrainConfig
from assay_research.errors import ConfigError, nearest
from assay_research.runs.run import Run
from assay_research.terminal import resilient, say

if TYPE_CHECKING:
    from assay_research.data.protocol import Data

# Torch takes seconds to import, and help, errors and completion do not need it: modules that need it are imported late.

PROBES = ("overfit_one_batch", "rate_range")


COMMAND = Command(
    "assay-train",
    __version__,
    TrainConfig,
    about="Train one model, a classifier or a detector.",
    examples=(
        ("assay-train", "the built-in digits, in a minute"),
        ("assay-train experiment=tinyvgg_table2/a_36", "an experiment on CIFAR-10 (downloads)"),
        ("assay-train experiment=tinyvgg_table2", "a study: all its experiments and one table"),
        ("assay-train experiment=everything", "all studies of classifiers"),
        ("assay-train experiment=tinyvgg_table2/a_36 data=image_folder data.root=photos", ""),
        ("assay-train resume=runs/digits/<time>", "resume a run"),
        ("assay-train resume=runs/digits/<time> epochs=60", "resume it with more epochs"),
        ("assay-train experiment=tinyvgg_table2 resume=auto", "resume a study: skip its finished runs"),
        ("assay-train --multirun seed=0,1,2", "a sweep"),
        ("assay-train probe=rate_range", "find a learning rate"),
        ("assay-train --cfg job", "show the config and exit"),
        ("torchrun --nproc-per-node=gpu --no-python assay-train ...", "all GPUs train one model together"),
    ),
    usage="[--multirun] [key=value ...]",
    groups={
        "experiment": "a model, data set and recipe; the name of a folder selects a study, all its experiments",
        "model": "the network",
        "data": "the data set",
        "augment": "augmentation of training images",
        "optim": "the optimizer",
        "schedule": "schedule of the learning rate",
        "finetune": "settings for fine-tuning a pretrained detector",
        "logger": "additional loggers of epochs; several as in 'logger=[csv,tensorboard]'",
    },
    compose=compose,
    flags={
        "--multirun": "train once for each combination of the comma-separated values",
        "--cfg job": "show the config with all keys that the key=value arguments result in, and exit",
        "--hydra-help": "show the help of Hydra, which reads these arguments",
    },
)


class StoppedError(Exception):
    """Training was stopped by a signal; its state was saved."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def train(config: DictConfig, run: Run | None = None, data: "Data | None" = None) -> Run | None:
    """Train as configured, in a new run or resuming an existing one.

    Args:
        config: config of the training.
        run: run to resume; None for a new run.
        data: the data set that the config describes, if it is already loaded.

    Returns:
        The run; None in all distributed processes except the first.

    Raises:
        AssayError: config, data, device or checkpoint are invalid or not available.
        StoppedError: training was stopped by SIGTERM or Ctrl-C; the run is saved.
    """
    from assay_research.config.schema import settings_of
    from assay_research.experiment.experiment import Experiment
    from assay_research.training.device import choose_device
    from assay_research.training.distributed import join
    from assay_research.training.loop import INTERRUPTED

    with resilient() as stop, join(choose_device(config.device)) as world:
        planned = config.epochs
        experiment = Experiment.build(settings_of(config), run, world, data)
        done = experiment.trainer.epoch
        if run is not None and done > planned:
            raise ConfigError(f"epochs={planned} is less than the {done} epochs that '{run.folder}' already has")
        reason = experiment.train(
            planned - done, interrupted=lambda: stop.signal is not None, progress=sys.stderr.isatty()
        )
        run = experiment.run
        if reason == INTERRUPTED:
            where = f"; resume with: assay-train resume={run.folder}" if run else ""
            raise StoppedError(
                f"stopped and saved in epoch {experiment.trainer.epoch + 1}{where}", stop.signal or signal.SIGTERM
            )
        if run is not None:
            experiment.finish(reason)
        world.wait()
    return run


def probe(config: DictConfig) -> None:
    """Run the probe that `probe=` names, without creating a run.

    Raises:
        ConfigError: the probe is unknown, there is more than one process, or the model cannot overfit one batch.
    """
    if config.probe not in PROBES:
        raise ConfigError(f"probe={config.probe}: there is no such probe; {nearest(config.probe, PROBES)}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"probe={config.probe} needs a single process; run it without torchrun")
    from assay_research.config.schema import settings_of
    from assay_research.experiment import probes
    from assay_research.experiment.trainers import make_trainer

    trainer = make_trainer(settings_of(config))
    if config.probe == "overfit_one_batch":
        learned = probes.overfit_one_batch(trainer)
        others = "".join(f", {name} {value:.3f}" for name, value in learned.others.items())
        measured = f"loss {learned.loss:.4f}{others} after {learned.steps} steps"
        if not learned.learned:
            raise ConfigError(
                f"the model did not overfit one batch of {trainer.batch_size} images: {measured}. Check the labels, "
                "try another optim.lr, and remove dropout; a network that fails here will not learn from all images"
            )
        say(f"the model overfits one batch of {trainer.batch_size} images: {measured}")
        return
    found = probes.rate_range(trainer)
    path = Path(config.runs) / "rate_range" / f"{config.name}_{datetime.now():%Y-%m-%d_%H-%M-%S}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    from assay_research.reports import figures  # matplotlib, which other commands do not need

    figures.rate_range(found.rates, found.losses, path, f"{config.name} on {trainer.data.name}")
    say(f"try optim.lr={found.suggested:.2g}, a tenth of the rate with the lowest loss: {path}")


def _begin(config: DictConfig, shared: bool = False) -> Run | None:
    """Run the probe, the training or the resumption that a config requests.

    Args:
        config: composed config.
        shared: use one loaded data set for all new trainings of this process.
    """
    if config.probe is not None:
        probe(config)
        return None
    if config.resume in (None, AUTO):
        found = latest(config) if config.resume == AUTO else None
        if found and is_finished(found, config):
            say(f"run {found.folder} is finished")
            return found
        return train(config, found, sweep.read_once(OmegaConf.to_yaml(config.data, resolve=True)) if shared else None)
    run = Run.open(Path(config.resume))
    overrides = [each for each in HydraConfig.get().overrides.task if not each.startswith("resume=")]
    resumed = resumed_config(run, overrides)
    if any(each.lstrip("+~").startswith(("logger=", "logger.")) for each in overrides):
        resumed.logger = config.logger
    return train(resumed, run)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def _app(config: DictConfig) -> None:
    from assay_research.training.device import keep_memory

    # Errors end the process here: outside this function, Hydra would add its own output.
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            _member(config)
        else:
            keep_memory()
            _begin(config)
    except StoppedError as stopped:
        say(str(stopped))
        sys.exit(128 + stopped.signal)
    except (AssayError, OSError) as error:
        sys.exit(f"assay-train: {error}")


def _member(config: DictConfig) -> None:
    """Run one training of a sweep and write its outcome; if it fails, the other trainings continue."""
    import torch

    from assay_research.training.device import keep_memory

    settings = HydraConfig.get()
    register()  # a launcher's process starts at `_app`
    keep_memory()
    if torch.cuda.is_available():
        torch.cuda.set_device(settings.job.num % torch.cuda.device_count())
    overrides = list(settings.overrides.task)
    say(f"-- {settings.job.num}: {' '.join(overrides)}")
    folder, error = None, None
    try:
        run = _begin(config, shared=True)
        folder = str(run.folder) if run else None
    except StoppedError:
        raise  # a signal stops the whole sweep
    except (AssayError, OSError) as failure:
        error = str(failure)
    except Exception as failure:  # such as out of memory: the other trainings continue
        traceback.print_exc()
        error = f"{type(failure).__name__}: {failure}".partition("\n")[0]
    if error:
        say(f"failed: {error}")
    sweep.SweepOutcome(overrides, folder, error).write(Path(settings.sweep.dir), settings.job.num)


def main() -> None:
    """Run the command `assay-train`."""
    typed, broken = sys.argv[1:], False
    if COMMAND.answer(typed):
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed by Hydra
    register()
    try:
        sys.argv[1:], folder = sweep.arguments(allow_run_keys(typed))
        if folder is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                "torchrun trains one model with several processes, but this is a sweep; to train several models at "
                "once, use hydra/launcher=gpus without torchrun"
            )
        check_groups([argument for argument in sys.argv[1:] if not argument.startswith("-")])
        _app()
    except AssayError as error:
        sys.exit(f"assay-train: {error}")
    except KeyboardInterrupt:  # before or after the epochs, in which the loop itself saves and ends
        sys.exit("assay-train: interrupted")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"assay-train: {explain(error, typed)}")
    except Exception as error:  # from a launcher, such as a killed member
        if folder is None:
            raise
        message = str(error).strip().partition("\n")[0]
        sys.stderr.write(f"assay-train: the sweep ended with {type(error).__name__}: {message}\n")
        broken = True
    if (
        folder is not None
        and folder.is_dir()
        and (sweep.report(folder, "figures=false" not in map(str.lower, typed)) or broken)
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
