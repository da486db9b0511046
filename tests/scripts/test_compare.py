"""Checkpoints beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import load_script, make_pairs, save_checkpoint
from traiNNer.engine.report import CROP, MARGIN, ZOOM
from traiNNer.utils.images import read_image

Capture = pytest.CaptureFixture[str]
main = load_script("scripts/compare.py").main


def columns(sheet: Path) -> float:
    return (read_image(sheet).shape[1] - MARGIN) / (CROP * ZOOM + MARGIN)


def test_two_networks_on_pairs(tmp_path: Path, capfd: Capture) -> None:
    data = make_pairs(tmp_path / "data")
    files = [str(save_checkpoint(tmp_path / f"n{seed}.safetensors", seed)) for seed in (0, 1)]
    folders = ["--lq", str(data / "lq"), "--gt", str(data / "gt")]
    assert main([*files, *folders, "-o", "out/sheet.png", "--tile", "20"]) == 0
    told = capfd.readouterr().out
    for word in (
        "bicubic, n0, n1 on lq",
        "000",
        "003",
        "mean",
        "comparison sheet: out/sheet",
    ):
        assert word in told
    assert columns(Path("out/sheet.png")) == 5


def test_gt_alone_and_lq_alone(tmp_path: Path, capfd: Capture) -> None:
    data = make_pairs(tmp_path / "data")
    file = str(save_checkpoint(tmp_path / "n.safetensors", 0))
    assert main([file, "--gt", str(data / "gt")]) == 0
    assert "psnr gain (dB)" in " ".join(capfd.readouterr().out.split())
    assert columns(Path("comparison.png")) == 4
    assert main([file, "--lq", str(data / "lq"), "--rows", "1"]) == 0
    assert "psnr" not in capfd.readouterr().out
    assert columns(Path("comparison.png")) == 3


def test_a_broken_picture_does_not_end_it(tmp_path: Path, capfd: Capture) -> None:
    data = make_pairs(tmp_path / "data")
    broken = data / "lq/001.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    file = str(save_checkpoint(tmp_path / "n.safetensors", 0))
    assert main([file, "--lq", str(data / "lq"), "--gt", str(data / "gt")]) == 2
    told = capfd.readouterr()
    assert "001.png" in told.err
    assert "003" in told.out
    assert Path("comparison.png").exists()


def test_what_does_not_go_together_is_said(tmp_path: Path, capfd: Capture) -> None:
    data = make_pairs(tmp_path / "data")
    file = str(save_checkpoint(tmp_path / "n.safetensors", 0))
    other = str(save_checkpoint(tmp_path / "other.safetensors", 0, scale=4))
    lq = ["--lq", str(data / "lq")]
    for arguments, message in (
        ([file], "--lq FOLDER or --gt FOLDER"),
        ([file, other, *lq], "n enlarges 2 times and other 4 times"),
        ([file, file, *lq], "given twice"),
        ([file, *lq, "-o", "sheet.jpg"], "expected a name that ends in .png"),
        ([file, *lq, "--rows", "0"], "expected at least 1"),
        (["nowhere.pth", *lq], "nowhere.pth"),
        ([file, "--lq", "nowhere"], "nowhere"),
    ):
        assert main(arguments) == 2
        told = capfd.readouterr().err
        assert message in told
        assert "Traceback" not in told


def test_files_of_one_name_are_called_after_their_folders(tmp_path: Path) -> None:
    short_names = load_script("scripts/compare.py").short_names
    paths = [tmp_path / run / "models/net_g_best.safetensors" for run in ("first", "second")]
    assert short_names(paths) == ["first", "second"]
    assert short_names([*paths, Path("x.pth")])[-1].endswith("x")
