"""JSON to frozen dataclasses and back, refusing every key, type and value that they do not describe."""

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

OPTIONAL = {"optional": True}
"""Metadata of a dataclass field that an object may leave out, and does leave out where it is the field's default. A
default alone does not make a field optional: another reader would have to know it."""


def decode(content: bytes) -> Any:
    """What the JSON text says.

    Raises:
        ValueError: it is not JSON, or a key occurs twice in one object.
        RecursionError: it is nested too deeply.
    """
    return json.loads(content, object_pairs_hook=_unique)


def parse(cls: type[T], value: Any, where: str) -> T:
    """Build the dataclass `cls` from decoded JSON.

    Args:
        cls: a dataclass of strings, numbers, booleans, tuples, dicts and dataclasses.
        value: the decoded object.
        where: what to call it in an error.

    Raises:
        ValueError: a key is unknown, or missing and not `OPTIONAL`, or a value is not of its type.
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
    """The dataclass as dicts, lists and plain values, ready for JSON; `parse` reads it back."""
    if is_dataclass(value):
        kept = (each for each in fields(value) if not _left_out(each, value))
        return {each.name: encode(getattr(value, each.name)) for each in kept}
    if isinstance(value, Mapping):
        return {key: encode(each) for key, each in value.items()}
    return [encode(each) for each in value] if isinstance(value, tuple) else value


def _left_out(field: Field[Any], owner: Any) -> bool:
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
    if type(value) not in choices:  # exact, for True is an int
        expected = " or ".join("null" if choice is type(None) else choice.__name__ for choice in choices)
        raise ValueError(f"{where}: expected {expected}, got {_kind(value)}")
    if type(value) is float and not math.isfinite(value):
        raise ValueError(f"{where}: expected a number, got {value}")
    if type(value) is str and not value.isprintable() and {"Cc", "Cs"} & set(map(unicodedata.category, value)):
        raise ValueError(f"{where}: {value!r} holds a control character or half a surrogate pair")
    return value


def _kind(value: Any) -> str:
    text = json.dumps(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the document; of two keys with one name another reader might take the other."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(repr(name) for name, _ in pairs)}")
    return document
