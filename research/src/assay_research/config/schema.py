"""A run's configuration is data: a typed schema, and builders that only ever come from this package."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from assay_research.errors import ConfigError

PACKAGE = "assay_research"


@dataclass
class Stopping:
    """Stop when validation loss has not fallen by `min_delta` for `patience` epochs; patience 0 never stops early."""

    patience: int = 0
    min_delta: float = 0.001


@dataclass
class TrainConfig:
    """Everything a training is made of; `conf/train.yaml` and the groups beside it fill it in.

    `model`, `data`, `augment`, `optim` and `schedule` hold a `_target_`, the builder's dotted name, and its arguments.
    """

    name: str = MISSING
    model: dict[str, Any] = MISSING
    data: dict[str, Any] = MISSING
    optim: dict[str, Any] = MISSING
    schedule: dict[str, Any] = MISSING
    augment: dict[str, Any] = MISSING
    stopping: Stopping = field(default_factory=Stopping)
    views: list[dict[str, Any]] = MISSING
    epochs: int = MISSING
    batch_size: int = 128
    accumulate: int = 1
    sync_batchnorm: bool = False
    compile: str | None = None
    label_smoothing: float = 0.0
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    logger: dict[str, Any] = field(default_factory=dict)
    probe: str | None = None
    save_every: int = 0
    figures: bool = True
    runs: str = "runs"
    resume: str | None = None


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a name that is not valid: the nearest one that is, then all of them."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}valid here: {', '.join(valid)}"


def instantiate(config: Mapping[str, Any] | DictConfig | None, within: str, **given: Any) -> Any:
    """Call the builder a config names, with the arguments it holds.

    Args:
        config: `_target_` (``assay_research.models.vgg.vgg``) and the builder's arguments.
        within: the subpackage builders may come from, relative to `assay_research`: ``models``.
        **given: arguments the config has no say in.

    Raises:
        ConfigError: a target outside that subpackage, an argument the builder does not take, a wrong type or a
            value the builder refuses.
    """
    plain = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{within}: expected a mapping with a _target_ and its arguments, got {plain!r}")
    arguments = {str(key): value for key, value in plain.items()}
    target = arguments.pop("_target_", None)
    builder = _locate(target, within)
    parameters = {k: p for k, p in inspect.signature(builder).parameters.items() if k not in given}
    schema = make_dataclass("Arguments", [(k, p.annotation, _field(p)) for k, p in parameters.items()])
    try:
        checked = OmegaConf.merge(OmegaConf.structured(schema), arguments)
        values: Any = OmegaConf.to_container(checked, throw_on_missing=True)
    except ConfigKeyError as error:
        unknown = next(iter(set(arguments) - set(parameters)))
        raise ConfigError(
            f"{target} has no argument '{unknown}'; {nearest(unknown, parameters)}. Where an experiment set it for "
            f"another choice than yours, ~<group>.{unknown} leaves it out"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{target}: {str(error).splitlines()[0]}") from error
    try:
        return builder(**values, **given)
    except ValueError as error:
        raise ConfigError(f"{target}: {error}") from error


def _field(parameter: inspect.Parameter) -> Any:
    """The dataclass field that types one argument of a builder."""
    default = MISSING if parameter.default is parameter.empty else parameter.default
    return field(default_factory=lambda: default)


def _locate(target: object, within: str) -> Callable[..., Any]:
    """The function or class `target` names, if it is defined in a module of ``assay_research.<within>``."""
    home = f"{PACKAGE}.{within}"
    refusal = f"_target_ {target!r} refused: only builders defined in {home} are ever called"
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
