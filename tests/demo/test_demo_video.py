"""The demo's video, of a few photographs; the whole of it is made by the test of its script."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from traiNNer.demo.photographs import find_photographs
from traiNNer.demo.video import make_demo_video
from traiNNer.utils.errors import DataError

pytest.importorskip("av")


def test_what_is_there_stays(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("motorcycle_left.png", "rocket.jpg", "astronaut.png"):
        shutil.copy(find_photographs() / name, photographs)
    root = tmp_path / "demo"
    assert make_demo_video(root, photographs=photographs)
    lost = root / "val" / "lq_x2" / "astronaut" / "00007.png"
    kept = root / "train" / "gt" / "rocket" / "00000.png"
    before = lost.read_bytes()
    original = kept.read_bytes()
    lost.unlink()
    kept.write_bytes(b"of the user")
    assert make_demo_video(root, photographs=photographs)
    assert lost.read_bytes() == before
    assert kept.read_bytes() == b"of the user"
    assert not make_demo_video(root, photographs=photographs)
    assert make_demo_video(root, photographs=photographs, overwrite=True)
    assert kept.read_bytes() == original


def test_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="no photograph for the train part of the demo video is there"
    ):
        make_demo_video(tmp_path / "demo", photographs=tmp_path)
    assert list(tmp_path.iterdir()) == []
