"""From what a user typed to a config, with an answer that helps where it was mistyped."""

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
    """Make known to Hydra what its files name: the schema, and the number of trainings that have a GPU each."""
    ConfigStore.instance().store("schema", TrainConfig)
    OmegaConf.register_new_resolver("gpus", _gpus, replace=True)


def _gpus() -> int:
    import torch  # takes seconds, and few configs ask

    return max(1, torch.cuda.device_count())


def compose(overrides: Sequence[str]) -> DictConfig:
    """The config of one training, as `assay-train` composes it.

    Args:
        overrides: ``experiment=tinyvgg_table2/a_36``, ``epochs=10``, ...

    Raises:
        ConfigError: one of them does not fit.
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: the same, in Hydra's words.
    """
    register()
    check_groups(overrides)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return hydra.compose("train", list(overrides))


def compose_settings(overrides: Sequence[str]) -> TrainConfig:
    """The settings of one training, typed and checked, of the overrides that `compose` takes.

    Raises:
        ConfigError: one of them does not fit, or together they are no training.
    """
    try:
        config = compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error
    return settings_of(config)


def check_groups(overrides: Sequence[str]) -> None:
    """Refuse a file of a group that is not there, which Hydra itself explains at length or not at all.

    Raises:
        ConfigError: there is no such file, or an override without a key.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if not key:
            raise ConfigError(f"expected key=value, got '{override}'")
        files = choices(key) if key.isidentifier() and (CONF / key).is_dir() else []
        named = value.strip("[]").split(",") if "(" not in value else []
        if files and value == "null":
            raise ConfigError(f"{key}=null: name one ({', '.join(files)}); for no logger, logger=[]")
        valid = values_of(key) if files else []
        for choice in named:
            if files and choice not in (*valid, ""):
                raise ConfigError(f"{key}={choice}: there is no such {key}; {nearest(choice, valid)}")


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """What is wrong with the overrides, with the nearest valid name where a key is misspelt."""
    groups = [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"]
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides if not override.startswith("-")]
    single = [f"{key}={value}" for key, value in pairs if key in groups and "," not in value and value not in studies()]
    config = compose(single)
    for key, _ in pairs:
        if key.startswith("hydra"):  # its own: a launcher that is not installed, say; Hydra says so itself
            continue
        for count, part in enumerate(key.split(".")):
            parent = ".".join(key.split(".")[:count])
            node = OmegaConf.select(config, parent) if parent else config
            if key in groups or not isinstance(node, DictConfig):
                break
            names = [*map(str, node), *(groups if not parent else ())]  # `in node` is False of what is still missing
            if part not in names:
                return f"there is no '{key}'; {nearest(part, names)}"
    if "Ambiguous value" in str(error):  # Hydra's own advice comes in further lines
        return f"{str(error).partition(chr(10))[0]}: commas make a sweep, which needs --multirun; a list is in [ ]"
    if isinstance(error, OverrideParseException):
        return (
            f"{str(error).partition(chr(10))[0]}: expected key=value. A value with other signs than letters, digits, "
            "spaces and /:.-+_ has quotes of its own within the shell's, as in \"data.root='~/my photos (1)'\""
        )
    said = [str(each).strip().partition("\n")[0] for each in (error, error.__cause__) if each]
    return ": ".join(line for line in said if line)
