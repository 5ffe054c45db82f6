"""What of an answer is shown: what was asked for, else the default of text or JSON."""

from collections.abc import Callable
from typing import Any

import pytest

from assay_deploy.tasks.options import Option, fraction, option_values, positive

OPTIONS = (Option("top", "K", positive, "", in_text=1, in_json=5), Option("score", "S", fraction, "", 0.5, 0.25))


def test_what_is_not_given_is_the_default() -> None:
    assert option_values(OPTIONS, {}, as_json=False) == {"top": 1, "score": 0.5}
    assert option_values(OPTIONS, {"top": None}, as_json=True) == {"top": 5, "score": 0.25}
    assert option_values(OPTIONS, {"top": 3, "score": 0.0, "other": 1}, as_json=True) == {"top": 3, "score": 0.0}


@pytest.mark.parametrize(("parse", "text", "value"), [(positive, "12", 12), (fraction, "0", 0.0), (fraction, "1", 1.0)])
def test_a_value_is_read_from_text(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        *((positive, text, "expected a whole number of at least 1, got") for text in ("0", "-1", "1.5", "", "x")),
        *((fraction, text, "expected a number from 0 to 1, got") for text in ("-0.1", "1.1", "nan", "", "x")),
    ],
)
def test_what_is_no_value_is_refused(parse: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
