"""Which LQ belongs to which GT, by their names alone."""

from __future__ import annotations

import pytest

from traiNNer.data.name_pairing import pair_names
from traiNNer.utils.errors import DataError

NUMBERS = [f"{number:04}" for number in range(1, 41)]


def named(pattern: str) -> list[str]:
    return [pattern.format(number) for number in NUMBERS]


def test_equal_names_are_pairs_and_nothing_is_said() -> None:
    found = pair_names(NUMBERS, NUMBERS[1:], None)
    assert found.pairs == {number: number for number in NUMBERS[1:]}
    assert found.rule == ""
    assert found.hint == ""
    assert pair_names([""], [""], None).pairs == {"": ""}


@pytest.mark.parametrize(
    ("gt", "lq"),
    [
        ("{}", "{}x2"),
        ("{}", "{}x4m"),
        ("{}", "X2/{}x2"),
        ("HR/{}", "LR_bicubic/X4/{}x4"),
        ("a/{}", "X2/a/{}x2"),
        ("{}", "{}_x8"),
        ("{}_HR", "{}_LR"),
        ("img_{}_SRF_4_HR", "img_{}_SRF_4_LR"),
        ("{}", "{}_LRBI_x3"),
        ("{}_gt", "{}"),
        ("{}", "{}-lq"),
        ("{}", "lr_{}"),
        ("HR_{}", "LR_{}"),
        ("{}", "{} bicubic"),
        ("{}", "{}.X2"),
        ("Img_{}", "IMG_{}"),
    ],
)
def test_a_mark_that_all_names_have_is_found(gt: str, lq: str) -> None:
    found = pair_names(named(gt), named(lq), None)
    assert found.pairs == dict(zip(named(gt), named(lq), strict=True))
    assert gt.format("0001") in found.rule
    assert lq.format("0001") in found.rule
    assert "\n" not in found.rule


def test_a_single_pair_and_a_few_strays() -> None:
    assert pair_names(["beach"], ["beachx4"], None).pairs == {"beach": "beachx4"}
    names = [*named("{}x2"), "cover"]
    assert pair_names([*NUMBERS, "title"], names, None).pairs == dict(
        zip(NUMBERS, named("{}x2"), strict=True)
    )
    # One name of forty is no reason to take the others for strangers.
    assert len(pair_names(NUMBERS, ["0001", *named("{}x2")[1:]], None).pairs) == 39


@pytest.mark.parametrize(
    ("gt", "lq"),
    [
        (["10", "20", "30"], ["1", "2", "3"]),
        (["a", "b"], ["c", "d"]),
        (["sea", "sky"], ["seaside", "skyside"]),
        (["1", "2"], ["X2/1x2", "X4/1x4", "X2/2x2", "X4/2x4"]),
    ],
)
def test_what_is_no_mark_is_not_guessed(gt: list[str], lq: list[str]) -> None:
    found = pair_names(gt, lq, None)
    assert found.pairs == {}
    assert found.hint


def test_two_ways_are_none() -> None:
    # The mark is `x2` or `_x2`, and there is a name of GT for either.
    found = pair_names(["a", "a_"], ["a_x2"], None)
    assert found.pairs == {}
    assert "more than one way" in found.hint
    assert pair_names(["a", "a_"], ["a_x2"], "{}_x2").pairs == {"a": "a_x2"}


def test_a_template_is_taken_at_its_word() -> None:
    assert pair_names(["s/0001", "2"], ["s/0001x4", "2"], "{}x4").pairs == {"s/0001": "s/0001x4"}
    assert pair_names(["a"], ["lr_a_small"], "lr_{}_small").pairs == {"a": "lr_a_small"}
    assert pair_names(NUMBERS, named("{}x2"), "{}").pairs == {}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", r"expected one \{\}"),
        ("x4", r"expected one \{\}"),
        ("{}{}", r"expected one \{\}"),
        ("{0}x4", r"expected one \{\}"),
        ("{}x{scale}", r"expected one \{\}"),
        ("X4/{}x4", "names a file, not a folder"),
        ("{}x4.png", "without the suffix"),
        ("{}\n", r"filename_tmpl: '\{\}\\n'"),
    ],
)
def test_what_is_no_template_is_refused(template: str, words: str) -> None:
    if template == "{}\n":
        # Odd, but a name of a file.
        assert pair_names(["a"], ["a\n"], template).pairs == {"a": "a\n"}
        return
    with pytest.raises(DataError, match=words):
        pair_names(["a"], ["a"], template)
