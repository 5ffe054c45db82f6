"""What of an answer is shown: options that one task has and another has not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shown = Mapping[str, Any]
"""A value for each option of a task."""


@dataclass(frozen=True)
class Option:
    """An option of `assay-deploy predict` that belongs to a task.

    Attributes:
        name: ``top`` is given as ``--top``.
        metavar: what the help calls its value.
        parse: makes the value of its text, or raises ValueError that says what was expected.
        help: what the value is; its defaults are said behind it.
        in_text: its value for text where none is given.
        in_json: its value for JSON where none is given.
    """

    name: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    in_text: Any
    in_json: Any

    @property
    def described(self) -> str:
        """The option's help, with its defaults."""
        in_json = "" if self.in_json == self.in_text else f", with --json {self.in_json}"
        return f"{self.help}, default {self.in_text}{in_json}"


def shown(options: Sequence[Option], given: Mapping[str, Any], *, as_json: bool) -> Shown:
    """The value of each option: the given one, or its default where that is None or missing."""
    values = {option.name: option.in_json if as_json else option.in_text for option in options}
    return {name: default if given.get(name) is None else given[name] for name, default in values.items()}


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ValueError(f"expected a number from 0 to 1, got {text!r}")
    return value
