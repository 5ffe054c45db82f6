"""Command lines of ``key=value`` arguments: parsing, ``--help`` and completion from one dataclass of options."""

import re
import shlex
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field
from typing import Any, Generic, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay_research.config import completion
from assay_research.config.files import choices, values_of
from assay_research.config.option import Description, keys_of
from assay_research.errors import ConfigError, nearest
from assay_research.terminal import say

T = TypeVar("T")

WIDTH = 100
"""Largest width of a help text in columns."""

EXAMPLE = 50
"""Width of an example's command line in columns, before its description."""


def split(argument: str, command: str, keys: Sequence[str]) -> tuple[str, str]:
    """Split an argument into its key and the text of its value.

    Raises:
        ConfigError: the argument is not ``key=value``, or has no value.
    """
    key, equals, text = argument.partition("=")
    if not equals:
        raise ConfigError(f"expected key=value, got '{argument}'; see {command} --help. Keys: {', '.join(keys)}")
    if not text:
        raise ConfigError(f"'{argument}' has no value; to use the default, leave out the argument")
    return key, text


def quoted(key: str, text: str) -> str:
    """Return a Hydra override that sets a key to a text literally, with special characters escaped."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)  # no interpolation
    return f"{key}='{escaped}'"


@dataclass(frozen=True)
class Command(Generic[T]):
    """Console command with ``key=value`` arguments.

    Attributes:
        name: name of the command.
        version: version of the distribution that it belongs to.
        options: dataclass of its keys, each made by `option`.
        about: description at the beginning of the help text.
        examples: pairs of a command line and its description.
        usage: synopsis of the arguments.
        groups: config group (folder of conf) -> its description; ``group=file`` selects a file of the group,
            ``group.setting=value`` changes a setting.
        compose: function from ``group=file`` arguments to the composed config, whose settings completion offers; None
            for no such completion.
        flags: flag -> its description, in addition to ``--help`` and ``--version``.
        notes: text at the end of the help.
    """

    name: str
    version: str
    options: type[T]
    about: str
    examples: Sequence[tuple[str, str]]
    usage: str = "[key=value ...]"
    groups: Mapping[str, str] = field(default_factory=dict)
    compose: Callable[[Sequence[str]], DictConfig] | None = None
    flags: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""

    def answer(self, arguments: Sequence[str]) -> bool:
        """Print help, version or completions if requested; return False if none of them is."""
        if {"--help", "-h"} & set(arguments):
            say(self.help(min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)))
            return True
        if "--version" in arguments:
            say(f"{self.name} {self.version}")
            return True
        return completion.answer(self.name, arguments, self.complete)

    def read(self, arguments: Sequence[str]) -> T:
        """Parse ``key=value`` arguments to options; the last argument of a key counts.

        Text such as paths is taken literally. All other values have the syntax of Hydra's overrides; a list of names
        may also be written without brackets: ``formats=onnx,torchscript``.

        Raises:
            ConfigError: an argument is not ``key=value``, its key is unknown, or its value is missing, of another type
                or not one of the choices.
        """
        keys = keys_of(self.options)
        given = {}
        for argument in arguments:
            key, text = split(argument, self.name, list(keys))
            if key not in keys:
                raise ConfigError(f"there is no '{key}'; {nearest(key, keys)}")
            chosen, description = keys[key]
            try:
                given[chosen.name] = self._value(chosen, description, text)
            except ValueError as error:
                summary = re.split(r"[;,:.]", description.text)[0]
                raise ConfigError(
                    f"{argument}: expected for example {key}={description.example} ({summary})"
                ) from error
        return self.options(**given)

    def _value(self, chosen: "Field[Any]", description: Description, text: str) -> Any:
        key, valid = description.key or chosen.name, description.choices
        if chosen.type == list[str]:
            names = list(dict.fromkeys(text.strip("[]").split(",")))
            for name in names:
                if valid and name not in valid:
                    raise ConfigError(f"{key}: '{name}' is not a valid value; {nearest(name, valid)}")
            return names
        if valid and text not in valid:
            raise ConfigError(f"{key} must be {_either(valid)}, got '{text}'")
        if chosen.type in (str, str | None):
            return text
        try:
            typed = OmegaConf.merge(OmegaConf.structured(self.options), {chosen.name: _parsed(chosen.name, text)})
        except OmegaConfBaseException as error:
            raise ValueError(str(error)) from error
        values: Any = OmegaConf.to_container(typed, resolve=True)
        return values[chosen.name]

    def help(self, width: int = WIDTH) -> str:
        """Return the help text, wrapped at `width` columns except for long words."""
        keys = {key: described for key, (_, described) in keys_of(self.options).items() if key not in self.groups}
        flags = {**self.flags, "--help": "print this text", "--version": "print the version of Assay"}
        script = _whole(f'eval "$({self.name} -sc install=bash)"')
        flags["-sc install=bash"] = f"print the script for completion of keys and values in bash: {script}"
        column = 2 + max(map(len, (*keys, *self.groups)))
        parts = [textwrap.fill(" ".join(self.about.split()), width), f"usage: {self.name} {self.usage}"]
        parts.append("\n".join(_entry(line, text, EXAMPLE, width) for line, text in self.examples))
        if self.groups:
            parts.append(
                "config groups: group=file selects a file of the group, group.setting=value changes a setting:"
            )
            parts.append("\n".join(_group(name, text, column, width) for name, text in self.groups.items()))
            parts.append("other keys:")
        for section in dict.fromkeys(described.section for described in keys.values()):
            parts += [f"{section}:"] if section else []
            listed = {key: described for key, described in keys.items() if described.section == section}
            parts.append("\n".join(_entry(key, _explained(key, each), column, width) for key, each in listed.items()))
        parts.append("\n".join(_entry(flag, text, 2 + max(map(len, flags)), width) for flag, text in flags.items()))
        parts += [textwrap.fill(" ".join(self.notes.split()), width)] if self.notes else []
        return "\n\n".join(parts)

    def complete(self, word: str, before: Sequence[str]) -> list[str]:
        """Return the completions of the last word of a command line.

        Args:
            word: the part of the word that is typed so far.
            before: the words before it, without the command's name.
        """
        if word.startswith("-"):
            return [*self.flags, "--help", "--version"]
        keys = keys_of(self.options)
        key, equals, value = word.partition("=")
        if not equals:
            names = [f"{each}=" for each in (*keys, *self.groups)] + [f"{each}." for each in self.groups]
            return names + self._settings(word, before)
        if key in self.groups:
            return [f"{key}={name}" for name in values_of(key)]
        if key not in keys:
            return self._settings(word, before)
        chosen, description = keys[key]
        values = [*description.choices, *description.common, *(completion.folders(value) if description.folder else ())]
        if chosen.type is bool and not values:
            values = ["true", "false"]
        start = value.rpartition(",")[0] + "," if "," in value and chosen.type == list[str] else ""
        return [f"{key}={start}{each}" for each in values]

    def _settings(self, word: str, before: Sequence[str]) -> list[str]:
        """Return the completions of a setting or its value, from the config that the words before it compose."""
        parent, dot, _ = word.partition("=")[0].rpartition(".")
        if not dot or self.compose is None:
            return []
        pairs = [each.partition("=") for each in before]
        chosen = [f"{group}={file}" for group, _, file in pairs if group in self.groups and file in choices(group)]
        from hydra.errors import HydraException  # which composing has imported anyway

        try:
            node = OmegaConf.select(self.compose(chosen), parent)
        except (HydraException, OmegaConfBaseException):
            return []
        if not isinstance(node, DictConfig):
            return []
        settings = OmegaConf.to_container(node)
        assert isinstance(settings, dict)
        return [
            f"{parent}.{name!s}" + ("." if isinstance(value, dict) else f"={_plain(value)}" if "=" in word else "=")
            for name, value in settings.items()
            if not str(name).startswith("_")
        ]


def _parsed(key: str, text: str) -> object:
    """The value that ``key=text`` gives as an override of Hydra's.

    Raises:
        ValueError: it is none.
    """
    # Imported here: it takes 0.1 s, which --help and completion would pay too.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException as error:
        raise ValueError(str(error)) from error


def _either(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _plain(value: object) -> str:
    """A value as a user would type it."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _explained(key: str, of: Description) -> str:
    """Return the help text of a key: choices, description, default and example."""
    text = of.text
    if isinstance(of.default, tuple):
        text = f"{', '.join(of.choices)}, with commas between them; by default {','.join(of.default)}. {text}"
    elif of.choices:
        text = f"{_either([each + ' (the default)' * (each == _plain(of.default)) for each in of.choices])}. {text}"
    elif isinstance(of.default, str | int | float) and of.default is not False and of.default != MISSING:
        text += f"; by default {_plain(of.default)}"
    return text + (f", as in {_whole(shlex.quote(f'{key}={of.example}'))}" if of.example else "")


def _whole(text: str) -> str:
    """Replace spaces by no-break spaces, so that `_entry` does not break the text."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _entry(name: str, text: str, column: int, width: int) -> str:
    """Format ``  name    text`` with aligned continuation lines; after a long name the text begins on a new line."""
    first, indent = f"  {name:{column}}", " " * (column + 2)
    filled = textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ).replace("\N{NO-BREAK SPACE}", " ")
    return first.rstrip() if not text else first + filled[len(first) :] if len(name) < column else f"{first}\n{filled}"


def _group(name: str, text: str, column: int, width: int) -> str:
    """Format a group's entry: its description and files, and one line for each of its folders."""
    inside: dict[str, list[str]] = {}
    for choice in choices(name):
        folder, _, file = choice.rpartition("/")
        inside.setdefault(folder, []).append(file)
    lines = [_entry(name, f"{text}: {', '.join(inside.pop('', []))}", column, width)]
    lines += [_entry("", f"{folder}/: {', '.join(files)}", column, width) for folder, files in inside.items()]
    return "\n".join(lines)
