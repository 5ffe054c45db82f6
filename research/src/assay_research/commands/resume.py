"""Resuming of runs: the settings that may change, and the run that ``resume=auto`` selects."""

import math
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config.schema import Stopping, TrainConfig
from assay_research.errors import ConfigError, nearest
from assay_research.runs.history import read_history
from assay_research.runs.run import Run
from assay_research.training.stopping import reason_to_stop

MAY_CHANGE = (
    "data.root",
    "device",
    "epochs",
    "figures",
    "save_every",
    "stopping.min_delta",
    "stopping.patience",
)
"""Settings that may change when a run is resumed: none that would make it another experiment."""


AUTO = "auto"
"""Value of `resume=` to resume the newest run with the same config, or to start one if there is none."""


def resumed_config(run: Run, overrides: Sequence[str]) -> DictConfig:
    """Return the config of a run with the changes that resuming allows; overrides of loggers are ignored.

    Raises:
        ConfigError: a setting may not change, or its value has the wrong type.
    """
    overrides = [each.lstrip("+~") for each in overrides]
    overrides = [each for each in overrides if not each.startswith(("logger=", "logger."))]
    for override in overrides:
        key = override.partition("=")[0]
        if key not in MAY_CHANGE:
            raise ConfigError(f"'{key}' cannot be changed when a run is resumed; {nearest(key, MAY_CHANGE)}")
    try:
        config = OmegaConf.merge(OmegaConf.structured(TrainConfig), run.config(), OmegaConf.from_dotlist(overrides))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{run.folder}: {' '.join(str(error).splitlines()[:2])}") from error
    assert isinstance(config, DictConfig)
    return config


def allow_run_keys(arguments: list[str]) -> list[str]:
    """Prefix keys with ``++`` if there is a ``resume=<run>``: they belong to the run's config, unknown to Hydra."""
    resumed = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not resumed or resumed[-1] in (AUTO, "null"):
        return arguments
    return [
        "++" + argument
        if "." in argument.partition("=")[0] and not argument.startswith(("+", "~", "-", "hydra.", "logger."))
        else argument
        for argument in arguments
    ]


def latest(config: DictConfig) -> Run | None:
    """Find the newest run with the same config, except for the settings in `MAY_CHANGE`; None if there is none."""
    folders = sorted(Path(config.runs, config.name).glob("*/config.yaml"), reverse=True)
    wanted = _unchangeable(config)
    runs = (Run(path.parent) for path in folders)
    return next((run for run in runs if _unchangeable(OmegaConf.create(run.config())) == wanted), None)


def is_finished(run: Run, config: DictConfig) -> bool:
    """Return True if the config would not train the run further: all epochs are done, or it stopped early."""
    summary = run.summary()
    history = [{key: math.nan if value is None else value for key, value in each.items()} for each in read_history(run)]
    if summary.get("epochs") != len(history):  # it was resumed with more epochs, and interrupted
        return False
    stopping = Stopping(config.stopping.patience, config.stopping.min_delta)
    return len(history) == config.epochs or reason_to_stop(history, stopping) is not None


def _unchangeable(config: DictConfig) -> DictConfig:
    """Return a copy of the config in which the settings that may change are None."""
    plain = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(plain, DictConfig)
    for key in (*MAY_CHANGE, "logger", "runs", "resume"):
        OmegaConf.update(plain, key, None)
    return plain
