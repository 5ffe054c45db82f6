"""Go on with a run: what may change, and which run is meant."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config.schema import Stopping, TrainConfig
from assay_research.errors import ConfigError, nearest
from assay_research.training.stopping import reason_to_stop

if TYPE_CHECKING:
    from assay_research.runs.run import Run

MAY_CHANGE = (
    "data.root",
    "device",
    "epochs",
    "figures",
    "save_every",
    "stopping.min_delta",
    "stopping.patience",
)
"""What `resume=` lets one change: nothing that would make the run another experiment."""


AUTO = "auto"
"""As `resume=`: go on with the newest run of this very config, or begin one."""


def resumed_config(run: "Run", overrides: Sequence[str]) -> DictConfig:
    """The config of a run, with the few changes that going on with it allows; loggers are not its concern.

    Raises:
        ConfigError: a change that would make it another experiment, or of the wrong type.
    """
    overrides = [each.lstrip("+~") for each in overrides]
    overrides = [each for each in overrides if not each.startswith(("logger=", "logger."))]
    for override in overrides:
        key = override.partition("=")[0]
        if key not in MAY_CHANGE:
            raise ConfigError(
                f"resume= goes on with a run as it was, so '{key}' cannot change; {nearest(key, MAY_CHANGE)}"
            )
    try:
        config = OmegaConf.merge(OmegaConf.structured(TrainConfig), run.config(), OmegaConf.from_dotlist(overrides))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{run.folder}: {' '.join(str(error).splitlines()[:2])}") from error
    assert isinstance(config, DictConfig)
    return config


def _of_a_run(arguments: list[str]) -> list[str]:
    """Have Hydra take any key beside ``resume=<run>``: they are of the run's config, which it does not know."""
    resumed = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not resumed or resumed[-1] in (AUTO, "null"):
        return arguments
    return [
        "++" + argument
        if "." in argument.partition("=")[0] and not argument.startswith(("+", "~", "-", "hydra.", "logger."))
        else argument
        for argument in arguments
    ]


def latest(config: DictConfig) -> "Run | None":
    """The newest run of this very config, whatever `resume=` may change put aside."""
    from assay_research.runs.run import Run  # brings torch, which `assay-train --help` does without

    folders = sorted(Path(config.runs, config.name).glob("*/config.yaml"), reverse=True)
    wanted = _essence(config)
    return next((Run(path.parent) for path in folders if _essence(Run(path.parent).config()) == wanted), None)


def _is_finished(run: "Run", config: DictConfig) -> bool:
    """Whether the config would not train the run any longer: its epochs are done, or it stopped early for good."""
    from assay_research.runs.history import read_history

    summary = run.summary()
    history = [{key: math.nan if value is None else value for key, value in each.items()} for each in read_history(run)]
    if summary.get("epochs") != len(history):  # it was given more epochs, and interrupted
        return False
    stopping = Stopping(config.stopping.patience, config.stopping.min_delta)
    return len(history) == config.epochs or reason_to_stop(history, stopping) is not None


def _essence(config: DictConfig) -> DictConfig:
    plain = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(plain, DictConfig)
    for key in (*MAY_CHANGE, "logger", "runs", "resume"):
        OmegaConf.update(plain, key, None)
    return plain
