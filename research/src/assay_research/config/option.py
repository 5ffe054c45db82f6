"""Command-line keys as dataclass fields with a description for help, errors and completion."""

from dataclasses import Field, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Description:
    """Description of one command-line key.

    Attributes:
        text: help text, printed after the choices and before the default.
        default: value if the key is not given.
        key: name of the key if it cannot be the field's name: ``data.root``; "" for the field's name.
        example: an example value, for the help and for the error message of an invalid value.
        choices: all valid values; empty if other values are valid.
        common: values that completion offers.
        section: heading of the key in the help; "" for the first list.
        folder: True if completion offers folders.
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
    """Create a dataclass field that is a command-line key.

    Args:
        default: value if the key is not given; for a dataclass, a new instance of it; for a tuple, a new list.
        text: help text.
        **described: the other attributes of its `Description`.
    """
    metadata = {"description": Description(text, default, **described)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, tuple):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def keys_of(options: type) -> dict[str, tuple[Field[Any], Description]]:
    """Return key -> field and description, for the fields made by `option`."""
    described = [(each, each.metadata["description"]) for each in fields(options) if "description" in each.metadata]
    return {description.key or each.name: (each, description) for each, description in described}
