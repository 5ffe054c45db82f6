"""Compose the config of a training from command-line overrides, with helpful messages for mistyped ones."""

from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config.files import CONF, choices, studies, values_of
from assay_research.config.schema import TrainConfig, settings_of
from assay_research.errors import ConfigError, nearest


def register() -> None:
    """Register the schema and the resolver ``gpus`` (number of GPUs, at least 1) with Hydra."""
    ConfigStore.instance().store("schema", TrainConfig)
    OmegaConf.register_new_resolver("gpus", _gpus, replace=True)


def _gpus() -> int:
    import torch  # takes seconds, and few configs need it

    return max(1, torch.cuda.device_count())


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the config of one training as `assay-train` does.

    Args:
        overrides: ``experiment=tinyvgg_table2/a_36``, ``epochs=10``, ...

    Raises:
        ConfigError: an override names a file that does not exist, or has no key.
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: an override is invalid otherwise.
    """
    register()
    check_groups(overrides)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return hydra.compose("train", list(overrides))


def compose_settings(overrides: Sequence[str]) -> TrainConfig:
    """Compose the typed and checked settings of one training; takes the same overrides as `compose`.

    Raises:
        ConfigError: an override is invalid, or the resulting settings are.
    """
    try:
        config = compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error
    return settings_of(config)


def check_groups(overrides: Sequence[str]) -> None:
    """Check that the files named by ``group=file`` overrides exist, since Hydra's own messages are hard to read.

    Raises:
        ConfigError: a file does not exist, or an override has no key.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if not key:
            raise ConfigError(f"expected key=value, got '{override}'")
        files = choices(key) if key.isidentifier() and (CONF / key).is_dir() else []
        named = value.strip("[]").split(",") if "(" not in value else []
        if files and value == "null":
            raise ConfigError(f"{key}=null: expected one of {', '.join(files)}; for no logger, use logger=[]")
        valid = values_of(key) if files else []
        for choice in named:
            if files and choice not in (*valid, ""):
                raise ConfigError(f"{key}={choice}: there is no such {key}; {nearest(choice, valid)}")


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Explain an error of Hydra in the overrides; for a misspelt key, with the most similar valid name."""
    groups = [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"]
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides if not override.startswith("-")]
    single = [f"{key}={value}" for key, value in pairs if key in groups and "," not in value and value not in studies()]
    config = compose(single)
    for key, _ in pairs:
        if key.startswith("hydra"):  # Hydra's own settings, such as a missing launcher: Hydra's message is clear
            continue
        for count, part in enumerate(key.split(".")):
            parent = ".".join(key.split(".")[:count])
            node = OmegaConf.select(config, parent) if parent else config
            if key in groups or not isinstance(node, DictConfig):
                break
            # `in node` is False for missing values. At the top a group is a key too, and is listed once.
            names = list(dict.fromkeys([*map(str, node), *(groups if not parent else ())]))
            if part not in names:
                return f"there is no '{key}'; {nearest(part, names)}"
    if "Ambiguous value" in str(error):  # Hydra's own advice comes in further lines
        return (
            f"{str(error).partition(chr(10))[0]}: values with commas make a sweep, which needs --multirun; write a "
            "list in [ ]"
        )
    if isinstance(error, OverrideParseException):
        return (
            f"{str(error).partition(chr(10))[0]}: expected key=value. A value with characters other than letters, "
            "digits, spaces and /:.-+_ needs quotes inside the shell's quotes, as in "
            "\"data.root='~/my photos (1)'\""
        )
    messages = [str(each).strip().partition("\n")[0] for each in (error, error.__cause__) if each]
    return ": ".join(line for line in messages if line)
