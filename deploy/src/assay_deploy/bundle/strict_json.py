"""Strict conversion between JSON and frozen dataclasses; unknown keys and wrong types or values raise ValueError."""

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

OPTIONAL = {"optional": True}
"""Metadata of a dataclass field that JSON may omit; `encode` omits it if its value is the default. A default alone does
not make a field optional: other readers of the JSON would have to know the default."""


def decode(content: bytes) -> Any:
    """Decode JSON text.

    Raises:
        ValueError: the text is not JSON, or a key occurs twice in one object.
        RecursionError: the text is nested too deeply.
    """
    return json.loads(content, object_pairs_hook=_object_without_duplicates)


def parse(cls: type[T], value: Any, where: str) -> T:
    """Build the dataclass `cls` from decoded JSON.

    Args:
        cls: a dataclass of strings, numbers, booleans, tuples, dicts and dataclasses.
        value: the decoded object.
        where: name of the value in error messages.

    Raises:
        ValueError: a key is unknown, or missing and not `OPTIONAL`, or a value has the wrong type.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected an object, got {_kind(value)}")
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    unknown = sorted(set(value) - set(names))
    missing = [field.name for field in fields(cls) if field.name not in value and not field.metadata.get("optional")]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(names)}")
    if missing:
        raise ValueError(f"{where}: {missing[0]!r} is missing")
    return cls(**{name: _convert(hints[name], value[name], f"{where}.{name}") for name in names if name in value})


def encode(value: Any) -> Any:
    """Convert a dataclass to dicts, lists and plain values, ready for JSON; the inverse of `parse`."""
    if is_dataclass(value):
        written = (each for each in fields(value) if not _is_omitted(each, value))
        return {each.name: encode(getattr(value, each.name)) for each in written}
    if isinstance(value, Mapping):
        return {key: encode(each) for key, each in value.items()}
    return [encode(each) for each in value] if isinstance(value, tuple) else value


def _is_omitted(field: Field[Any], owner: Any) -> bool:
    return bool(field.metadata.get("optional") and getattr(owner, field.name) == field.default)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return parse(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, got {_kind(value)}")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, got {_kind(value)}")
        return {_convert(str, key, where): _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    choices = args if origin in (Union, UnionType) else (hint,)
    if float in choices and type(value) is int and abs(value) <= 1 << 53:
        return float(value)
    if type(value) not in choices:  # exact type, because True is an int
        expected = " or ".join("null" if choice is type(None) else choice.__name__ for choice in choices)
        raise ValueError(f"{where}: expected {expected}, got {_kind(value)}")
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"{where}: expected a number, got {value}")
    if type(value) is str and not value.isprintable() and {"Cc", "Cs"} & set(map(unicodedata.category, value)):
        raise ValueError(f"{where}: {value!r} contains a control character or half a surrogate pair")
    return value


def _kind(value: Any) -> str:
    text = json.dumps(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object's pairs; raise ValueError for a duplicate key, which readers treat differently."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError(f"a key occurs twice in the object with keys {', '.join(repr(name) for name, _ in pairs)}")
    return document
