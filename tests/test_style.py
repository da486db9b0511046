"""How dense the code is, and how much of it says why: limits that hold for all of it together."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.style_counters import Counts, count, count_file, replacing_lines
from tests.support import ROOT


@pytest.fixture(scope="module")
def counts() -> Counts:
    return count(ROOT)


def test_one_assignment_a_line(counts: Counts) -> None:
    assert counts.per_thousand(counts.packed) <= 4


def test_no_long_lines(counts: Counts) -> None:
    assert counts.long_lines == 0


def test_no_nested_ternaries(counts: Counts) -> None:
    assert counts.nested_ternaries == 0


def test_comments_say_why(counts: Counts) -> None:
    assert counts.per_thousand(counts.comments) >= 30


def test_no_class_does_everything(counts: Counts) -> None:
    assert counts.large_classes == ()


def test_what_a_test_needs_is_handed_in() -> None:
    assert replacing_lines(ROOT) <= 30


def test_each_thing_is_counted_once(tmp_path: Path) -> None:
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(16))
    path = tmp_path / "sample.py"
    path.write_text(
        "a, b = 1, 2  # a reason\n"
        "(c, d), e = (1, 2), 3  # noqa: E501\n"
        "f, g = h()\n"
        "i = 1 if a else 2 if b else 3\n"
        "j = [[k for k in l] for l in m]\n"
        f"n = '{'x' * 100}'\n"
        f"class Large:\n{methods}"
        "class Small:\n    @property\n    def m(self): ...\n"
        "    @m.setter\n    def m(self, v): ...\n"
    )
    assert count_file(path, tmp_path) == Counts(
        lines=28,
        packed=2,
        long_lines=1,
        nested_ternaries=1,
        nested_comprehensions=1,
        comments=1,
        large_classes=("sample.py:7 Large (16)",),
    )
