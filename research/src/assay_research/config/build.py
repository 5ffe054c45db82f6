"""Build objects from a config: model, data set and views; only builders of this package are called."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from typing import Any

import torch
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from assay_deploy.images.canvas import View
from assay_research.data.protocol import Data
from assay_research.errors import ConfigError, nearest
from assay_research.models.normalized import Normalized, Pretrained

PACKAGE = "assay_research"

RENAMED = {"pictures": "images"}
"""Renamed arguments of builders: name in the configs of older runs -> current name."""


def instantiate(config: Mapping[str, Any] | DictConfig | None, within: str, **given: Any) -> Any:
    """Call the builder that a config names, with the arguments in the config.

    Args:
        config: `_target_` (``assay_research.models.vgg.vgg``) and the builder's arguments.
        within: subpackage that the builder must be defined in, relative to `assay_research`: ``models``.
        **given: further arguments, which the config cannot set.

    Raises:
        ConfigError: the target is outside that subpackage, an argument is unknown or has a wrong type, or the builder
            rejects a value.
    """
    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{within}: expected a mapping with a _target_ and its arguments, got {plain!r}")
    named = {str(key): value for key, value in plain.items()}
    target = named.pop("_target_", None)
    builder = _locate(target, within)
    parameters = {k: p for k, p in inspect.signature(builder).parameters.items() if k not in given}
    arguments = {key if key in parameters else RENAMED.get(key, key): value for key, value in named.items()}
    schema = make_dataclass("Arguments", [(k, p.annotation, _field(p)) for k, p in parameters.items()])
    try:
        checked = OmegaConf.merge(OmegaConf.structured(schema), arguments)
        values: Any = OmegaConf.to_container(checked, throw_on_missing=True)
    except ConfigKeyError as error:
        unknown = next(iter(set(arguments) - set(parameters)))
        raise ConfigError(
            f"{target} has no argument '{unknown}'; {nearest(unknown, parameters)}. If the experiment's config sets "
            f"it, remove it with ~<group>.{unknown}"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{target}: {str(error).splitlines()[0]}") from error
    try:
        return builder(**values, **given)
    except ValueError as error:
        raise ConfigError(f"{target}: {error}") from error


def _field(parameter: inspect.Parameter) -> Any:
    """Return the dataclass field that types one argument of a builder."""
    default = MISSING if parameter.default is parameter.empty else parameter.default
    return field(default_factory=lambda: default)


def _locate(target: object, within: str) -> Callable[..., Any]:
    """Return the function or class named `target`, which must be defined in a module of ``assay_research.<within>``."""
    home = f"{PACKAGE}.{within}"
    refusal = f"_target_ {target!r} refused: only builders defined in {home} are allowed"
    if not isinstance(target, str) or not target.startswith(home + "."):
        raise ConfigError(refusal)
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{refusal}; there is no module {module_name}") from error
    public = {
        key: value
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module_name
    }
    if name not in public:
        raise ConfigError(f"{refusal}; {module_name} has no '{name}'; {nearest(name, public)}")
    builder: Callable[..., Any] = public[name]
    return builder


def load_data(described: Any) -> Data:
    """Load the data set described by the `data` section of a config."""
    data: Data = instantiate(described, "data")
    return data


def build_model(described: Any, classes: int, fresh: bool = False) -> Normalized:
    """Build the model described by the `model` section of a config; its channel statistics are 0 and 1.

    Args:
        described: `_target_` and the builder's arguments.
        classes: number of classes.
        fresh: load the pretrained weights that the config requests, if any.
    """
    network = instantiate(described, "models", classes=classes)
    if fresh and isinstance(network, Pretrained):
        network.load_pretrained()
    return Normalized(network, torch.zeros(3), torch.ones(3))


def read_views(described: Any) -> tuple[View, ...]:
    """Read the views described by the `views` section of a config.

    Args:
        described: one mapping per view: ``{size: 36, crop: center, flip: true}``.

    Raises:
        ConfigError: there is no view, or a view is invalid.
    """
    try:
        views = tuple(View(**{str(k): v for k, v in view.items()}) for view in described)
    except (TypeError, ValueError, AttributeError, OmegaConfBaseException) as error:
        raise ConfigError(f"views: {error}; expected views such as {{size: 36, crop: center, flip: true}}") from error
    if not views:
        raise ConfigError("views: expected at least one, the plain view first; [{}] is the unchanged canvas")
    return views
