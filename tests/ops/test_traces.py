"""Damage that was planted in photographs is found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import data

from traiNNer.ops.degradations.base import Draws, from_levels, to_levels
from traiNNer.ops.traces import find_blur, find_jpeg, find_noise, luma
from traiNNer.utils.registry import DEGRADATIONS

NAMES = ("astronaut", "coffee", "chelsea", "camera", "immunohistochemistry")

# Four seconds each to look for a grid; the others show it.
SLOW = ("astronaut", "camera")


def photo(name: str) -> np.ndarray:
    picture = getattr(data, name)()[20:340, 40:360]
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)


def damaged(name: str, step: str, **settings: Any) -> np.ndarray:
    frames = from_levels(photo(name))[None]
    return to_levels(DEGRADATIONS[step](**settings)(frames, Draws(7, (1, 1)))[0])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NAMES]
)
def test_jpeg(name: str) -> None:
    for quality in (12, 40, 75, 90):
        found = find_jpeg(luma(damaged(name, "jpeg", quality=quality))[3:, 6:])
        assert found is not None
        print(f"{name:<10} JPEG {quality}: {found.quality}, grid {found.grid}")  # noqa: T201
        assert abs(found.quality - quality) <= 5
        assert found.grid == (5, 2)
    # That of the microscope was compressed before it came here, at 75.
    if name != "immunohistochemistry":
        assert find_jpeg(luma(photo(name))) is None


@pytest.mark.parametrize("name", NAMES)
def test_noise(name: str) -> None:
    for sigma in (5, 10, 20, 30):
        noisy = damaged(name, "gaussian_noise", sigma=float(sigma), grey=0.0)
        found = find_noise(noisy[..., 1].astype(np.float64))
        print(f"{name:<10} noise {sigma}: {found:.2f}")  # noqa: T201
        assert abs(found - sigma) <= 0.15 * sigma


@pytest.mark.parametrize("name", NAMES)
def test_blur(name: str) -> None:
    for sigma in (1.5, 2.0, 3.0):
        found = find_blur(luma(damaged(name, "blur", sigma=sigma)))
        print(f"{name:<10} blur {sigma}: {found:.2f}")  # noqa: T201
        assert abs(found - sigma) <= 0.2 * sigma


def test_a_folder_tells_a_small_blur() -> None:
    found = [find_blur(luma(damaged(name, "blur", sigma=1.0))) for name in NAMES]
    assert abs(np.median(found) - 1.0) <= 0.2


def test_flat_pictures_tell_nothing() -> None:
    flat = np.full((96, 80), 90.0)
    assert find_jpeg(flat) is None
    assert find_noise(flat) == 0
    assert find_blur(flat) >= 0
