"""Objects become dataclasses to the letter, and only what is marked optional may be left out."""

from dataclasses import dataclass, field

import pytest

from assay_deploy.bundle.strict_json import OPTIONAL, encode, parse


@dataclass(frozen=True)
class Inner:
    name: str
    size: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    shape: tuple[int | str, ...]
    numbers: dict[str, float]
    more: tuple[Inner, ...] = field(default=(), metadata=OPTIONAL)


WHOLE = {"inner": {"name": "a", "size": 3}, "shape": ["batch", 2], "numbers": {"x": 0.5}}


def test_what_is_optional_is_left_out_where_it_is_the_default() -> None:
    parsed = parse(Outer, WHOLE, "outer")
    assert parsed == Outer(Inner("a", 3), ("batch", 2), {"x": 0.5})
    assert encode(parsed) == WHOLE


def test_what_is_optional_is_read_and_written_where_it_is_there() -> None:
    document = {**WHOLE, "more": [{"name": "b", "size": None}]}
    parsed = parse(Outer, document, "outer")
    assert parsed.more == (Inner("b"),)
    assert encode(parsed) == document
    with pytest.raises(ValueError, match=r"outer\.more\[0\]: unknown key 'nam'"):
        parse(Outer, {**WHOLE, "more": [{"nam": "b"}]}, "outer")


def test_a_default_alone_makes_nothing_optional() -> None:
    with pytest.raises(ValueError, match=r"outer\.inner: 'size' is missing"):
        parse(Outer, {**WHOLE, "inner": {"name": "a"}}, "outer")
