"""Read and write configs as YAML: plain data, without calling anything or resolving interpolations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from assay_research.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigError: the file is not readable YAML with a mapping at the top level.
    """
    try:
        config = OmegaConf.load(path)
        plain: Any = OmegaConf.to_container(config)
    except Exception as error:  # any error that YAML or OmegaConf raises for a damaged file
        raise ConfigError(f"'{path}' is not a readable config: {error}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError(f"'{path}' is not a readable config: expected a mapping")
    return {str(key): value for key, value in plain.items()}


def to_yaml(config: Mapping[str, Any]) -> str:
    """Return the YAML text of plain values, keys in their order."""
    return OmegaConf.to_yaml(dict(config))
