"""Small data sets with texture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from traiNNer.utils.images import Pixels, write_image

MakeTexture = Callable[..., Pixels]
MakePairs = Callable[..., tuple[Path, Path]]


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the scan's cache out of the user's home."""
    home = tmp_path / "cache_home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("LOCALAPPDATA", str(home))
    return home


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    """(height, width, 3) uint8: smooth structure and noise, no two places alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def make_texture() -> MakeTexture:
    return texture


@pytest.fixture
def make_pairs(tmp_path: Path) -> MakePairs:
    """Folders of LQ images and their GT, in which each LQ pixel is repeated `scale` x `scale` times."""

    def make(
        sizes: list[tuple[int, int]] | int = 6, scale: int = 2, folder: str = "set", names: list[str] | None = None
    ) -> tuple[Path, Path]:
        heights_widths = [(40 + 2 * k, 44 - k) for k in range(sizes)] if isinstance(sizes, int) else sizes
        gt, lq = tmp_path / folder / "gt", tmp_path / folder / "lq"
        for number, (height, width) in enumerate(heights_widths):
            name = names[number] if names else f"{number:03d}.png"
            image = texture(height, width, seed=number)
            write_image(lq / name, image)
            write_image(gt / name, image.repeat(scale, 0).repeat(scale, 1))
        return gt, lq

    return make
