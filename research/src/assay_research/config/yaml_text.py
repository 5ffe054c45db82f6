"""A config as YAML, as files hold it: plain data, in which nothing is called and no interpolation is resolved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from assay_research.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a file holds.

    Raises:
        ConfigError: it is not readable YAML with a mapping at the top.
    """
    try:
        config = OmegaConf.load(path)
        plain: Any = OmegaConf.to_container(config)
    except Exception as error:  # whatever YAML or OmegaConf makes of a damaged file
        raise ConfigError(f"'{path}' is not a readable config: {error}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError(f"'{path}' is not a readable config: expected a mapping")
    return {str(key): value for key, value in plain.items()}


def to_yaml(config: Mapping[str, Any]) -> str:
    """YAML text of plain values, keys in their order."""
    return OmegaConf.to_yaml(dict(config))
