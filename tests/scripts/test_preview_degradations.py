"""The sheet that shows what a recipe makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import load_script, small_options, texture, write_options
from traiNNer.utils.images import read_image, write_image

preview = load_script("scripts/data_preparation/preview_degradations.py")
Capture = pytest.CaptureFixture[str]


def test_sheet_and_table() -> None:
    for number in range(3):
        write_image(Path(f"gt/{number}.png"), texture(80, 90, number))
    options = small_options(Path())
    section = {"type": "SingleGtDataset", "dataroot_gt": "gt", "degradations": "realesrgan"}
    options["datasets"] = {"train": section | {"lq_size": 16}, "val": section}
    path = write_options(Path("o.yml"), options)
    assert preview.main(["-opt", str(path), "--rows", "3", "--columns", "2"]) == 0
    sheet = read_image(Path("preview.png"))
    assert sheet.shape == (3 * 32 + 2 * 4, 3 * 32 + 2 * 4, 3)
    assert (sheet[:32, 36:68] != sheet[:32, 72:104]).any(), "each LQ is drawn anew"
    lines = Path("preview.tsv").read_text().splitlines()
    assert len(lines) == 1 + 6
    assert "blur" in lines[1] or "sinc" in lines[1]
    assert "sigma" in "".join(lines)


def test_pairs_have_nothing_to_preview(capfd: Capture) -> None:
    for kind, side in (("gt", 64), ("lq", 32)):
        write_image(Path(f"{kind}/1.png"), texture(side, side, 0))
    path = write_options(Path("o.yml"), small_options(Path()))
    assert preview.main(["-opt", str(path)]) != 0
    assert "there is nothing to preview" in capfd.readouterr().err
