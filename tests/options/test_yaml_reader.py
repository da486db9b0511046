from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pytest

from traiNNer.options.yaml_reader import MOST_BYTES, RawOptions, apply_override, read_yaml
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
    raw = RawOptions({})
    apply_override(raw, f"a={text}")
    got = raw.values["a"]
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
        ("a:\n\t- 1\n", r"a\.yml:2: not valid YAML: .*; indent with blanks, not with tabs"),
        ('a: 1\nb: "C:\\Users"\n', r"a\.yml:2: not valid YAML: .*Windows path in single quotes"),
        ('a: "D:\\data"\n', r"a\.yml:1: not valid YAML: .*Windows path in single quotes"),
        ('a: "C:\\table"\n', r"a\.yml:1: not valid YAML: .*Windows path in single quotes"),
        ('a: "C:\\New"\n', r"a\.yml:1: not valid YAML: .*Windows path in single quotes"),
        ("a: *.png\n", r"a\.yml:1: not valid YAML: .*begins with \*"),
        ("a: @home\n", r"a\.yml:1: not valid YAML: .*single quotes"),
        ("a: 1\nb: x: y\n", r"a\.yml:2: not valid YAML: .*check the indentation"),
        ("a: 1\nb: \x07\n", r"a\.yml:2: not valid YAML: the control sign U\+0007"),
        ("# for it\n[path]\nx = 1\n", r"a\.yml: `\[section\]` and `key = value` are TOML"),
        ('name = "x: y"\n', r"`key = value` are TOML"),
        ("model = dict(type='SRGAN')\n", r"`key = value` are TOML or Python"),
        ('{\n  "a": 1, // one\n  "b": 2\n}\n', r"a\.yml: this is JSON with comments"),
        ("// for it\n{}\n", r"a\.yml: this is JSON with comments"),
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
        ("a=[", r"--set a=\[: not valid YAML: .*a bracket"),
        ("losses.\u00b2.w=1", "'losses' is a list with items 0 to 0, not '\u00b2'"),
        (f"losses.{'1' * 5000}.w=1", "'losses' is a list with items 0 to 0"),
        ("a=x\udcff", r"--set a=x\\udcff: holds bytes that are no text"),
        ("\udcff=x", r"--set \\udcff=x: holds bytes that are no text"),
    ],
)
def test_overrides_that_cannot_be(tmp_path: Path, assignment: str, message: str) -> None:
    raw = read(tmp_path, "a: {b: 1}\nlosses: [{type: l1}]\n")
    with pytest.raises(OptionsError, match=message):
        apply_override(raw, assignment)


def test_texts_that_look_like_other_languages_are_yaml(tmp_path: Path) -> None:
    raw = read(tmp_path, "{a: //server/share, b: 'C:\\Users', c: \"x y\", d: '/* = */'}\n")
    assert raw.values == {"a": "//server/share", "b": "C:\\Users", "c": "x y", "d": "/* = */"}
    assert read(tmp_path, '{"a": [1, 2]}').values == {"a": [1, 2]}


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_told_with_its_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes("a: 1\nb: ä\n".encode(encoding))
    line = 1 if encoding == "utf-16" else 2
    with pytest.raises(
        OptionsError, match=rf"a\.yml:{line}: the file is not UTF-8; save it as UTF-8"
    ):
        read_yaml(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffa: 1\n").values == {"a": 1}


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yml")
    with pytest.raises(OptionsError, match=r"pipe\.yml are a pipe or a device"):
        read_yaml(tmp_path / "pipe.yml")
    with pytest.raises(OptionsError, match=r"are a folder; expected a YAML file"):
        read_yaml(tmp_path)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"a\.yml has more than 1 MiB, which no options file"):
        read(tmp_path, f"a: {'x' * MOST_BYTES}\n")


def levels(number: int) -> str:
    return "[" * number + "]" * number


def doubling(opening: str, repeat: str, closing: str) -> str:
    """An anchor in each of 30 lists, that holds the one before it twice: a billion items."""
    lists = [f"&a0 {opening}{closing}"]
    lists += [f"&a{n} {repeat.format(n - 1)}" for n in range(1, 30)]
    return f"[{', '.join(lists)}]"


BOMBS = {
    "deep list": (levels(1200), "nested too deeply"),
    "deep mapping": ("{a: " * 1200 + "}" * 1200, "nested too deeply"),
    "itself": ("&a [*a]", "nested too deeply"),
    "merges itself": ("&a {<<: *a}", "nested too deeply"),
    "aliases": (doubling("[1, ", "[*a{0}, *a{0}]", "]"), "more than 10,000 keys and items"),
    "long": (f"[{'1,' * 20_000}]", "more than 10,000 keys and items"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_depth_and_size_are_bounded(tmp_path: Path, name: str) -> None:
    text, message = BOMBS[name]
    with pytest.raises(OptionsError, match=rf"a\.yml.*{message}"):
        read(tmp_path, f"x: {text}\n")
    with pytest.raises(OptionsError, match=rf"--set x=.*{message}"):
        apply_override(RawOptions({}), f"x={text}")


def test_merges_of_merges_stay_small(tmp_path: Path) -> None:
    """Older versions of PyYAML keep every repetition of a key that is merged, younger ones one."""
    text = doubling("{x: ", "{{<<: [*a{0}, *a{0}]}}", "1}")
    last: object = None
    with contextlib.suppress(OptionsError):
        last = read(tmp_path, f"a: {text}\n").values["a"][-1]
    assert last in ({"x": 1}, None)


def test_what_is_within_the_bounds_is_read(tmp_path: Path) -> None:
    text = f"a: {levels(40)}\nb: &b [1, 2]\nc: [*b, *b]\n"
    assert read(tmp_path, text).values["c"] == [[1, 2], [1, 2]]


def test_the_bounds_hold_for_path_and_value_together() -> None:
    raw = RawOptions({})
    apply_override(raw, f"{'.'.join('a' * 30)}={levels(15)}")
    with pytest.raises(OptionsError, match="nested too deeply"):
        apply_override(raw, f"{'.'.join('b' * 30)}={levels(30)}")
    with pytest.raises(OptionsError, match="nested too deeply"):
        apply_override(raw, f"{'.'.join('c' * 1200)}=1")


def test_the_bounds_hold_for_all_assignments_together() -> None:
    raw = RawOptions({})
    apply_override(raw, f"a=[{'1,' * 6000}]")
    apply_override(raw, f"a=[{'1,' * 6000}]")  # instead of the first
    with pytest.raises(OptionsError, match="more than 10,000 keys and items"):
        apply_override(raw, f"b=[{'1,' * 6000}]")


def test_files_that_extend_files_many_times_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b0.yml").write_text("x: 1\n")
    for number in range(1, 12):
        below = f"b{number - 1}.yml"
        (tmp_path / f"b{number}.yml").write_text(f"extends: [{below}, {below}]\n")
    with pytest.raises(OptionsError, match=r"b11\.yml: it extends more than 100 files"):
        read_yaml(tmp_path / "b11.yml")


def test_an_override_changes_one_of_the_places_that_share_an_anchor(tmp_path: Path) -> None:
    raw = read(tmp_path, "a: &a {x: [1]}\nb: *a\n")
    apply_override(raw, "a.x.0=2")
    assert raw.values == {"a": {"x": [2]}, "b": {"x": [1]}}


def test_long_assignments_are_told_in_short(tmp_path: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        apply_override(RawOptions({}), f"a=[{'x' * 5000}")
    assert re.fullmatch(r"--set a=\[x{47,60}\.\.\.: not valid YAML: .*", str(caught.value))
