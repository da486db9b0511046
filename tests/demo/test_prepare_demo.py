"""The demos' data are made when they are asked for, and only those that are needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from traiNNer.demo import demo_root, prepare_demo
from traiNNer.demo.photographs import find_photographs
from traiNNer.utils.errors import DataError

GT = Path("datasets/demo/train/gt")
LQ = Path("datasets/demo/val/lq_x2")
CLIPS = Path("datasets/demo_video/train/gt")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two of the photographs, so that little has to be made."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("rocket.jpg", "astronaut.png"):
        shutil.copy(find_photographs() / name, folder)
    return folder


def test_demo_root() -> None:
    assert demo_root(GT) == Path("datasets/demo")
    assert demo_root(Path("./datasets/demo/val/gt")) == Path("datasets/demo")
    assert demo_root(CLIPS) == Path("datasets/demo_video")
    for other in ("datasets/demo", "datasets/demons/gt", "datasets/mine/gt", "/datasets/demo/gt"):
        assert demo_root(Path(other)) is None


def test_what_is_missing_is_made_once(photographs: Path) -> None:
    assert prepare_demo([GT, LQ, Path("mine/gt")], photographs=photographs) == [
        Path("datasets/demo")
    ]
    assert (GT / "rocket_00.png").is_file()
    assert (LQ / "astronaut.png").is_file()
    assert not Path("datasets/demo_video").exists()
    assert prepare_demo([GT, LQ], photographs=photographs) == []


def test_another_folder_leaves_the_working_folder_alone(tmp_path: Path, photographs: Path) -> None:
    pytest.importorskip("av")
    there = tmp_path / "there"
    new = prepare_demo([CLIPS, GT], into=there, photographs=photographs)
    assert new == [there / "datasets/demo", there / "datasets/demo_video"]
    assert len(list((there / CLIPS / "rocket").iterdir())) == 20
    assert (there / GT / "rocket_00.png").is_file()
    assert not Path("datasets").exists()


def test_nothing_is_made_for_other_data(tmp_path: Path) -> None:
    assert prepare_demo([Path("mine/gt"), Path("datasets/demo")], photographs=tmp_path) == []


def test_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="reinstall scikit-image"):
        prepare_demo([GT], photographs=tmp_path)
    assert not Path("datasets").exists()
