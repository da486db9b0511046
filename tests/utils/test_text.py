from __future__ import annotations

import pytest

from traiNNer.utils.text import shortened, whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("5000", 5000)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "\u00b2\u00b3", "\u0663", "1_0", "x", "1" * 5000]
)
def test_whatever_else_is_none(text: str) -> None:
    assert whole_number(text) is None


def test_long_texts_are_cut() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abc..."
