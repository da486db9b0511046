"""Small data sets with texture."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_sets import MakePairs, save, texture


@pytest.fixture
def make_pairs(tmp_path: Path) -> MakePairs:
    """Folders of LQ images and their GT, in which each LQ pixel is repeated `scale` x `scale`
    times.
    """

    def make(
        sizes: list[tuple[int, int]] | int = 6,
        scale: int = 2,
        folder: str = "set",
        names: list[str] | None = None,
    ) -> tuple[Path, Path]:
        heights_widths = (
            [(40 + 2 * k, 44 - k) for k in range(sizes)] if isinstance(sizes, int) else sizes
        )
        gt = tmp_path / folder / "gt"
        lq = tmp_path / folder / "lq"
        for number, (height, width) in enumerate(heights_widths):
            name = names[number] if names else f"{number:03d}.png"
            image = texture(height, width, seed=number)
            save(lq / name, image)
            save(gt / name, image.repeat(scale, 0).repeat(scale, 1))
        return gt, lq

    return make
