"""LQ out of GT: every picture, once, and nothing that is somebody else's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.support import load_script, texture
from traiNNer.data.pairing import pair_folders
from traiNNer.ops.color import to_uint8
from traiNNer.ops.resize import resize
from traiNNer.utils.images import read_image, write_image

make_lq = load_script("scripts/data_preparation/make_lq.py")

GT = Path("gt")
LQ = Path("lq")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pictures() -> list[str]:
    """Names of GT, with one of 16 bit, a JPEG, a sub-folder, and bytes that are no UTF-8."""
    write_image(GT / "a [b].png", texture(16, 24, 0))
    write_image(GT / "deep.png", texture(12, 12, 1).astype(np.uint16) * 257 - 100)
    (GT / "sub").mkdir()
    jpeg = cv2.imencode(".jpg", texture(20, 12, 2))[1].tobytes()
    names = ["sub/b.JPG", os.fsdecode(b"sub/caf\xe9\n.jpg")]
    for name in names:
        (GT / name).write_bytes(jpeg)
    return ["a [b].png", "deep.png", *names]


def run(*arguments: str, scale: int = 2, lq: Path = LQ) -> int:
    """LQ alone, of GT that stays where it is."""
    places = [str(GT), "-o", str(lq), "--lq_only"]
    return make_lq.main([*places, "--scale", str(scale), "--jobs", "2", *arguments])


def stamps(folder: Path) -> dict[str, int]:
    """Each file and when it was written."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.png")
    }


def test_lq_pairs_with_gt_and_is_what_resize_makes(pictures: list[str], capfd: Capture) -> None:
    (GT / "film.gif").write_text("")
    assert run() == 0
    assert "left out: 1 .gif" in capfd.readouterr().err
    pairs = pair_folders([GT], [LQ], 2)
    assert sorted(pair.gt.name for pair in pairs) == sorted(pictures)
    gt = torch.from_numpy(texture(16, 24, 0)).permute(2, 0, 1).float() / 255
    expected = to_uint8(resize(gt, (8, 12))).permute(1, 2, 0).numpy()
    assert np.array_equal(read_image(LQ / "a [b].png"), expected)
    deep = read_image(LQ / "deep.png")
    assert deep.dtype == np.uint16
    # The last 8 of the 16 bits are there too.
    assert len(np.unique(deep % 257)) > 10


def test_filters_differ_and_antialiasing_can_be_left_out(pictures: list[str]) -> None:
    results: list[bytes] = []
    for number, arguments in enumerate((("--filter", "box"), ("--filter", "lanczos"), (),
                                        ("--no-antialias",))):  # fmt: skip
        assert run(*arguments, lq=Path(f"lq{number}")) == 0
        results.append(read_image(Path(f"lq{number}") / "a [b].png").tobytes())
    assert len(set(results)) == 4


def test_it_goes_on_where_it_was_stopped(pictures: list[str], capfd: Capture) -> None:
    assert run() == 0
    before = stamps(LQ)
    assert run() == 0
    assert stamps(LQ) == before
    (LQ / "deep.png").unlink()
    (LQ / "sub/b.png").write_bytes(b"cut short")
    write_image(GT / "a [b].png", texture(16, 24, 9))
    os.utime(GT / "a [b].png", ns=(1, 1))
    # A kill in the midst of a line.
    with (LQ / make_lq.LEDGER).open("ab") as file:
        file.write(b'["a [b].p')
    capfd.readouterr()
    assert run() == 0
    assert "3 made, 1 were there already" in capfd.readouterr().err
    assert len(pair_folders([GT], [LQ], 2)) == 4
    (GT / "deep.png").unlink()
    assert run() == 0
    assert "1 picture whose GT is gone, deep.png" in capfd.readouterr().err
    assert (LQ / "deep.png").is_file()


def test_what_is_somebody_else_s_stays(pictures: list[str], capfd: Capture) -> None:
    write_image(LQ / "deep.png", texture(4, 4, 0))
    before = stamps(LQ)
    assert run() == 2
    assert "lq holds files that this script has not made" in capfd.readouterr().err
    assert stamps(LQ) == before
    other = Path("other")
    assert run(lq=other) == 0
    assert run("--filter", "box", lq=other) == 2
    message = capfd.readouterr().err
    assert "other was made with other settings (scale 2, filter bicubic, antialias on;" in message
    write_image(GT / "new.png", texture(8, 8, 0))
    write_image(other / "new.png", texture(4, 4, 5))
    assert run(lq=other) == 2
    assert "new.png was not made by this script; move it out" in capfd.readouterr().err
    assert np.array_equal(read_image(other / "new.png"), texture(4, 4, 5))


def test_gt_that_is_no_multiple_is_refused_or_cropped(pictures: list[str], capfd: Capture) -> None:
    assert run(scale=3) == 2
    message = capfd.readouterr().err
    assert "the sides are no multiples of 3; without --lq_only GT is written too" in message
    assert "gt/a [b].png is 24x16" in message
    assert "deep.png" not in message
    assert not LQ.exists()
    whole = [str(GT), "-o", "set", "--scale", "3"]
    assert make_lq.main(whole) == 0
    assert "set/gt: 4 pictures, 3 of them cropped to multiples of 3" in capfd.readouterr().err
    cropped = Path("set/gt")
    assert len(pair_folders([cropped], [Path("set/lq")], 3)) == 4
    assert np.array_equal(read_image(cropped / "a [b].png"), texture(16, 24, 0)[:15])
    assert (cropped / "deep.png").read_bytes() == (GT / "deep.png").read_bytes()
    before = stamps(Path("set"))
    assert make_lq.main(whole) == 0
    assert stamps(Path("set")) == before


def parts_of(folder: Path) -> dict[str, set[str]]:
    """The stems for training and for validation."""
    return {
        part: {
            pair.gt.stem for pair in pair_folders([folder / part / "gt"], [folder / part / "lq"], 2)
        }
        for part in ("train", "val")
    }


def test_pictures_for_validation_remain_so(pictures: list[str], capfd: Capture) -> None:
    for number in range(8):
        write_image(GT / f"more/{number}.png", texture(9, 8, number))
    arguments = [str(GT), "-o", "set", "--scale", "2", "--val", "5"]
    assert make_lq.main(arguments) == 0
    first = parts_of(Path("set"))
    assert (len(first["train"]), len(first["val"])) == (7, 5)
    assert not first["train"] & first["val"]
    # Not those of one folder alone.
    assert {stem.rpartition("/")[0] for stem in first["val"]} != {"more"}
    for number in range(8, 30):
        write_image(GT / f"more/{number}.png", texture(8, 8, number))
    assert make_lq.main(arguments) == 0
    second = parts_of(Path("set"))
    assert second["val"] == first["val"]
    assert len(second["train"]) == 29
    capfd.readouterr()
    assert make_lq.main([*arguments, "--val", "6"]) == 2
    assert "made with other settings" in capfd.readouterr().err
    assert parts_of(Path("set")) == second


def test_what_cannot_be_used_is_named_and_the_others_are_made(
    pictures: list[str], capfd: Capture
) -> None:
    write_image(GT / "dot.png", texture(1, 1, 0))
    (GT / "empty.jpg").write_bytes(b"")
    (GT / "deep.bmp").write_bytes(cv2.imencode(".bmp", texture(8, 8, 0))[1].tobytes())
    assert make_lq.main([str(GT), "-o", "set", "--scale", "2"]) == 2
    message = capfd.readouterr().err
    assert "all is done but 3 things:" in message
    assert "gt/dot.png is 1x1, smaller than 2x2 pixels" in message
    assert "gt/empty.jpg" in message
    assert "gt/deep.png and deep.bmp would have one LQ; rename one of them" in message
    assert "set/lq: 4 pictures" in message
    assert len(pair_folders([Path("set/gt")], [Path("set/lq")], 2)) == 4


def test_a_picture_that_breaks_does_not_end_the_others(pictures: list[str], capfd: Capture) -> None:
    content = bytearray((GT / "deep.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (GT / "deep.png").write_bytes(content)
    assert run() == 2
    message = capfd.readouterr().err
    assert "all is done but 1 thing:\n    gt/deep.png: the PNG is damaged" in message
    assert "Traceback" not in message
    assert len(stamps(LQ)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gt", "-o", "gt/lq"], "gt/lq/gt is in gt, where it would be found"),
        (["gt", "-o", "."], "gt is in gt, where"),
        (["gt", "-o", "gt", "--lq_only"], "gt is in gt, where"),
        (["gt/sub", "-o", "."], "gt/sub is in gt, which is to be written"),
        (["gt", "--scale", "1"], "--scale 1: expected 2 or more"),
        (["gt", "--jobs", "0"], "--jobs 0: expected 1 or more"),
        (["gt", "--val", "-1"], "--val -1: expected 0 or more"),
        (["gt", "--val", "4"], "--val 4 leaves nothing to train on: there are 4 pictures"),
        (["gt", "--val", "1", "--lq_only"], "leave out --val or --lq_only"),
        (["gt", "--scale", "99"], "smaller than 99x99 pixels"),
        (["nowhere"], "the folder does not exist"),
    ],
)
def test_mistakes_are_one_sentence(
    pictures: list[str], arguments: list[str], words: str, capfd: Capture
) -> None:
    assert make_lq.main(["-o", "set", "--scale", "2", *arguments]) == 2
    message = capfd.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not Path("set").exists()
    assert not LQ.exists()


def test_a_damaged_ledger_is_refused(pictures: list[str], capfd: Capture) -> None:
    assert run() == 0
    for content in (b"", b"{", b"[1]", json.dumps({"scale": 4}).encode()):
        (LQ / make_lq.LEDGER).write_bytes(content)
        assert run() == 2
        message = capfd.readouterr().err
        assert "name a new folder" in message or "made with other settings" in message


def test_a_recipe_makes_the_same_whatever_is_beside(pictures: list[str]) -> None:
    Path("mine.yml").write_text("- {type: jpeg, quality: [10, 60]}\n- photo_light\n")
    assert run("--degradations", "mine.yml") == 0
    made = {path.name: path.read_bytes() for path in LQ.rglob("*.png")}
    assert len(made) == len(pictures)
    (GT / "deep.png").unlink()
    assert run("--degradations", "mine.yml", "--jobs", "1", lq=Path("again")) == 0
    for path in Path("again").rglob("*.png"):
        assert path.read_bytes() == made[path.name]
    assert run("--degradations", "mine.yml", "--seed", "1", lq=Path("other")) == 0
    others = {path.name: path.read_bytes() for path in Path("other").rglob("*.png")}
    assert all(others[name] != made[name] for name in others)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("nothing", "there is no such recipe"),
        ("gone.yml", "cannot be read"),
        ("wrong.yml", "0.quality: the range is the wrong way round"),
    ],
)
def test_wrong_recipes_are_refused(
    pictures: list[str], capfd: Capture, recipe: str, words: str
) -> None:
    Path("wrong.yml").write_text("- {type: jpeg, quality: [60, 10]}\n")
    assert run("--degradations", recipe) != 0
    told = capfd.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert not LQ.exists()
