from __future__ import annotations

import pytest

from traiNNer.utils.arithmetic import ceil_div, round_down, round_up
from traiNNer.utils.text import gib, plural


@pytest.mark.parametrize(
    ("number", "multiple", "down", "up"), [(0, 8, 0, 0), (1, 8, 0, 8), (8, 8, 8, 8), (9, 8, 8, 16)]
)
def test_rounding_to_a_grid(number: int, multiple: int, down: int, up: int) -> None:
    assert round_down(number, multiple) == down
    assert round_up(number, multiple) == up
    assert ceil_div(number, multiple) == up // multiple


def test_numbers_in_words() -> None:
    assert gib(3 * 2**29) == "1.50 GiB"
    assert [plural(number, "pair") for number in (0, 1, 2, 12_000)] == [
        "0 pairs",
        "1 pair",
        "2 pairs",
        "12,000 pairs",
    ]
