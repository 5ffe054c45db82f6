"""A key of a command line is a dataclass field, and all that a user is told of it stands there."""

from dataclasses import Field, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Description:
    """What a user is told of one key.

    Attributes:
        text: of the help, behind the choices and before the default.
        default: where the key is not given.
        key: as typed, where the field's name cannot be the same: ``data.root``.
        example: a value, for the help and for the error where another cannot be read.
        choices: all values there are; empty where there are others.
        common: values that completion offers.
        section: heading under which the help lists it; "" for the first list.
        folder: completion offers folders.
    """

    text: str
    default: object = None
    key: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    section: str = ""
    folder: bool = False


def option(default: Any, text: str, **described: Any) -> Any:
    """A dataclass field that is a key of a command line.

    Args:
        default: its value where the key is not given; a dataclass or a tuple stands for a new one, or a new list.
        text: what a user is told of it.
        **described: the other attributes of its `Description`.
    """
    metadata = {"description": Description(text, default, **described)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, tuple):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def keys_of(options: type) -> dict[str, tuple[Field[Any], Description]]:
    """Key -> field and description, of the fields that `option` made."""
    described = [(each, each.metadata["description"]) for each in fields(options) if "description" in each.metadata]
    return {description.key or each.name: (each, description) for each, description in described}
