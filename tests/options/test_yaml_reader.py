from __future__ import annotations

from pathlib import Path

import pytest

from traiNNer.options.yaml_reader import apply_override, parse_scalar, read_yaml
from traiNNer.utils.errors import OptionsError


def read(tmp_path: Path, text: str, name: str = "a.yml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("2.5e-4", 2.5e-4), ("5e5", 500_000), ("1_000", 1000), ("010", 10),
        ("0x10", 16), (".5", 0.5),
        ("-3", -3), ("2024-01-02", "2024-01-02"), ("true", True), ("~", None),
        ("[1, 2.0]", [1, 2.0]), ("1.", 1.0),
        ("e5", "e5"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_people_mean_them(text: str, value: object) -> None:
    got = parse_scalar(text)
    assert got == value
    assert type(got) is type(value)


def test_positions_are_lines_of_keys_and_items(tmp_path: Path) -> None:
    raw = read(tmp_path, "a: 1\nb:\n  c: 2\n  d:\n    - x\n    - {e: 3}\n")
    assert raw.position(("b", "c")).line == 3
    assert raw.position(("b", "d", 1, "e")).line == 6
    assert raw.position(("b", "missing")).line == 2  # the nearest parent


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"a\.yml:3: 'a\.b' appears twice \(first in line 2\)"):
        read(tmp_path, "a:\n  b: 1\n  b: 2\n")


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    raw = read(tmp_path, "base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\n")
    assert raw.values["other"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", r"a\.yml:\d: not valid YAML"),
        ("", r"a\.yml: the file is empty"),
        ("- 1\n", r"a\.yml:1: expected `key: value` lines"),
        ("a: !!python/object/apply:os.system ['true']\n", r"a\.yml:1: not valid YAML"),
        ("a:\n\t- 1\n", r"a\.yml:2: not valid YAML"),
    ],
)
def test_what_is_no_options_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        read(tmp_path, text)


def test_a_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "demo.yml").write_text("a: 1")
    with pytest.raises(
        OptionsError, match=r"there is no options file .*none\.yml; in .* there are: demo\.yml"
    ):
        read_yaml(tmp_path / "none.yml")


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    read(tmp_path, "a: {x: 1, y: 2}\nlist: [1, 2]\nnet: {type: span, nf: 48}\n", "base.yml")
    raw = read(tmp_path, "extends: base.yml\na: {y: 3}\nlist: [4]\nnet: {type: compact}\n")
    assert raw.values == {"a": {"x": 1, "y": 3}, "list": [4], "net": {"type": "compact"}}
    assert raw.position(("a", "x")).file.endswith("base.yml")
    assert raw.position(("a", "y")).file.endswith("a.yml")


def test_extends_keeps_parameters_of_the_same_type(tmp_path: Path) -> None:
    read(tmp_path, "net: {type: SPAN, nf: 48}\n", "base.yml")
    raw = read(tmp_path, "extends: [base.yml]\nnet: {type: span, k: 1}\n")
    assert raw.values["net"] == {"type": "span", "nf": 48, "k": 1}


def test_extends_in_a_circle_and_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("extends: a.yml\n")
    with pytest.raises(OptionsError, match=r"goes in a circle: a\.yml -> b\.yml -> a\.yml"):
        read(tmp_path, "extends: b.yml\n")
    with pytest.raises(OptionsError, match=r"a\.yml:2: extends: there is no file .*nowhere\.yml"):
        read(tmp_path, "x: 1\nextends: nowhere.yml\n")


def test_overrides(tmp_path: Path) -> None:
    raw = read(tmp_path, "a: {b: 1}\nlosses: [{type: l1}]\n")
    for assignment in ("a.b=2e-4", "a.c.d=true", "losses.0.w=[1, 2]", "name=x=y"):
        apply_override(raw, assignment)
    assert raw.values == {
        "a": {"b": 2e-4, "c": {"d": True}}, "losses": [{"type": "l1", "w": [1, 2]}], "name": "x=y",
    }  # fmt: skip
    assert str(raw.position(("a", "b"))) == "--set"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a", "expected KEY=VALUE"),
        ("losses.3.w=1", r"'losses' is a list with items 0 to 0, not '3'"),
        ("a.b.c=1", r"'a\.b' is a plain value and has no 'c'"),
        ("a=[", "is not a YAML value"),
    ],
)
def test_overrides_that_cannot_be(tmp_path: Path, assignment: str, message: str) -> None:
    raw = read(tmp_path, "a: {b: 1}\nlosses: [{type: l1}]\n")
    with pytest.raises(OptionsError, match=message):
        apply_override(raw, assignment)
