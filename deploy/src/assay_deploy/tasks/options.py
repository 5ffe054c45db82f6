"""Options of `assay-deploy predict` that belong to one task and select what is printed of a result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OptionValues = Mapping[str, Any]
"""Values of a task's options by name."""


@dataclass(frozen=True)
class Option:
    """Option of `assay-deploy predict` that belongs to one task.

    Attributes:
        name: name of the option; ``top`` is given as ``--top``.
        metavar: name of the value in the help, such as ``K``.
        parse: converts the argument's text to the value; raises ValueError with a message of what was expected.
        help: description of the value, without its defaults.
        in_text: default value for text output.
        in_json: default value for JSON output.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    in_text: Any
    in_json: Any

    @property
    def help_text(self) -> str:
        """Help text of the option, with its defaults."""
        in_json = "" if self.in_json == self.in_text else f", with --json {self.in_json}"
        return f"{self.help}, default {self.in_text}{in_json}"


def option_values(options: Sequence[Option], given: Mapping[str, Any], *, as_json: bool) -> OptionValues:
    """Return the value of each option: the given one, or its default if that is None or missing."""
    values = {option.name: option.in_json if as_json else option.in_text for option in options}
    return {name: default if given.get(name) is None else given[name] for name, default in values.items()}


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ValueError(f"expected a number from 0 to 1, got {text!r}")
    return value
