"""What names look like, when they are the same, and what results are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from traiNNer.utils.errors import DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.names import (
    cut,
    distinct,
    file_key,
    pairing_key,
    result_stems,
    same_everywhere,
    shortened,
    size_in_bytes,
    visible,
)

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Фото [b] 100% {x}.png", "Фото [b] 100% {x}.png"),
        (f"{FAMILY} ünï", f"{FAMILY} ünï"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("caf\udce9", "caf\\xe9"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\ud800", "\\ud800"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("a\\b", "a\\b"),
    ],
)
def test_what_no_terminal_shows_is_escaped(name: str, shown: str) -> None:
    assert visible(name) == shown
    assert visible(name).encode("utf-8")


def test_lines_of_a_message_may_stay() -> None:
    assert visible("a\n\tb\x07", keep="\n\t") == "a\n\tb\\x07"


def test_keys_of_names_that_a_file_system_takes_for_one() -> None:
    for same in ("É", "é", "e\u0301", "E\u0301", "é. ."):
        assert file_key(same) == file_key("é")
    assert file_key("Sub /A") == file_key("sub/a")
    assert file_key("a") != file_key("a_2")
    assert pairing_key("e\u0301") == "é"
    assert pairing_key("E") != pairing_key("e")


def test_numbers_never_make_a_name_that_is_there() -> None:
    assert distinct(["a", "A", "a_2", "b", "a"]) == ["a", "A_3", "a_2", "b", "a_4"]
    assert distinct(["x", "x"], first=[False, True]) == ["x_2", "x"]
    many = distinct(["a"] * 3000)
    assert len(set(many)) == 3000
    assert many[-1] == "a_3000"


def test_results_are_called_as_their_inputs() -> None:
    inputs = ["a.jpg", "a.png", "A.webp", "b.tar.png", "e\u0301.png", "é.png", "a_2.png"]
    assert result_stems(inputs, ".png") == [
        "a_3", "a", "A_4", "b.tar", "e\u0301", "é_2", "a_2"
    ]  # fmt: skip


@pytest.mark.parametrize("letter", ["a", "я", "\U0001f600", "\udce9"])
def test_long_names_are_shortened_and_stay_different(letter: str) -> None:
    size = size_in_bytes(letter)
    longest = letter * (251 // size)
    assert result_stems([f"{longest}.png"], ".png") == [longest]
    stems = [longest[:-1] + end for end in "xy"]
    results = result_stems([f"{stem}.jp" for stem in stems], ".png", room=12)
    assert len(set(results)) == 2
    for result in results:
        assert "~" in result
        assert size_in_bytes(f"{result}_12345678901.png") <= 255
    # Two of one long name: there has to be room for the number.
    for result in result_stems([f"{longest}.png", f"{longest}.jpg"], ".png"):
        assert size_in_bytes(f"{result}.png") <= 255


def test_a_name_is_cut_between_characters() -> None:
    assert cut("яяя", 5) == "яя"
    assert cut("abc", 5) == "abc"
    assert cut(FAMILY, 8) == "\U0001f468"
    assert shortened("abc", 250) == "abc"


def test_names_of_other_locales_are_the_same() -> None:
    assert same_everywhere("\udcc3\udcbc") == "ü"
    assert same_everywhere("caf\udce9") == "caf\udce9"
    assert same_everywhere("\ud800") == "\ud800"


@pytest.mark.parametrize("length", [1, 241, 242, 255])
def test_every_legal_name_can_be_written(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("n" * length)
    write_atomic(path, b"content")
    assert path.read_bytes() == b"content"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take UTF-8 alone")
def test_bytes_that_are_no_text_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\n" + b"\xe9" * 200)
    write_atomic(path, b"content")
    assert [os.fsencode(found) for found in tmp_path.iterdir()] == [os.fsencode(path)]


def test_what_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"File name too long.*choose a shorter name"):
        write_atomic(tmp_path / ("n" * 256), b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="move what has this name out of the way"):
        write_atomic(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take UTF-8 alone")
def test_names_are_utf8_in_a_plain_locale_too() -> None:
    """Also where the interpreter is told to stay with ASCII; once is enough, whatever it makes of
    that.
    """
    program = (
        "import sys; from traiNNer.utils.names import take_names_for_utf8; "
        "take_names_for_utf8(); print(ascii(sys.argv[1]))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    for flags, seen in ((), "\\xe4"), (("-X", "utf8=0"), "\\udcc3\\udca4"):
        shown = subprocess.check_output(
            [sys.executable, *flags, "-c", program, "ä"], env=os.environ | plain, text=True
        )
        assert shown.strip() == f"'{seen}'"
