"""The demo data set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from traiNNer.data import PairedImageDataset
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import read_image


def test_makes_pairs_once(tmp_path: Path) -> None:
    root = tmp_path / "datasets" / "demo"
    assert make_demo_dataset(root)
    assert not make_demo_dataset(root)
    assert [path.name for path in root.parent.iterdir()] == ["demo"]
    sets = {
        s: PairedImageDataset(2, str(root / s / "gt"), str(root / s / "lq_x2"))
        for s in ("train", "val")
    }
    sets["train"].require_lq_size(64)
    assert len(sets["train"]) >= 15
    assert len(sets["val"]) == 3
    stems = {s: {pair.gt.stem.split("_")[0] for pair in d.pairs} for s, d in sets.items()}
    assert not stems["train"] & stems["val"]
    headers = [pair.gt.header for d in sets.values() for pair in d.pairs]
    assert all(h.width % 4 == 0 and h.height % 4 == 0 for h in headers)
    assert all(
        max(pair.gt.header.width, pair.gt.header.height) <= 512 for pair in sets["train"].pairs
    )

    kept = root / "train" / "gt" / "camera.png"
    before = kept.read_bytes()
    (root / "val" / "lq_x2" / "coffee.png").unlink()
    kept.write_bytes(before + b"of the user")
    assert make_demo_dataset(root)
    assert (root / "val" / "lq_x2" / "coffee.png").is_file()
    assert kept.read_bytes() == before + b"of the user"
    assert not make_demo_dataset(root)


def test_lq_is_gt_shrunk(tmp_path: Path) -> None:
    make_demo_dataset(tmp_path / "demo")
    gt = read_image(tmp_path / "demo/val/gt/chelsea.png").astype(float)
    lq = read_image(tmp_path / "demo/val/lq_x2/chelsea.png").astype(float)
    boxes = gt.reshape(lq.shape[0], 2, lq.shape[1], 2, 3).mean((1, 3))
    assert np.abs(lq - boxes).mean() < 2
    assert abs((lq - boxes).mean()) < 0.05


def test_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"none of motorcycle_left\.png, .* is there; reinstall scikit-image"
    ):
        make_demo_dataset(tmp_path / "demo", photographs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_script(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "data_preparation" / "make_demo_dataset.py"
    command = [sys.executable, str(script), "--root", str(tmp_path / "demo")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"made {tmp_path / 'demo'}: ")
