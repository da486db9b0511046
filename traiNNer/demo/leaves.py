"""Pictures of nothing: leaves of all sizes over each other, with the statistics of photographs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from traiNNer.utils.images import Pixels

# Leaves are drawn larger by that much and shrunk, so that their edges are soft as those of lenses.
_LARGER = 2
# The spectrum of photographs falls about like 1 / frequency; some textures are rougher, some
# smoother.
_FALL = (0.5, 1.8)
_TEXTURES = 3


def draw_leaves(side: int, seed: int) -> Pixels:
    """A picture (side, side, 3) of the dead leaves model.

    Source: Lee, Mumford and Huang, "Occlusion models for natural images", 2001.

    Args:
        side: in pixels.
        seed: decides everything.
    """
    draws = np.random.default_rng(seed)
    wide = side * _LARGER
    textures = [_texture(wide, draws) for _ in range(_TEXTURES)]
    palette = draws.uniform(30, 225, 3)
    spread = draws.uniform(20, 110)
    picture = np.tile(palette.astype(np.float32), (wide, wide, 1))
    for _ in range(int(draws.integers(60, 300))):
        color = palette + draws.normal(0, spread, 3)
        texture = None
        strength = 0.0
        if draws.random() < 0.5:
            texture = textures[int(draws.integers(_TEXTURES))]
            strength = float(draws.choice([5.0, 15.0, 30.0]))
        _add_leaf(picture, color, texture, strength, draws)
    if draws.random() < 0.4:
        picture = picture.mean(-1, keepdims=True).repeat(3, -1)
    shrunk = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk.round().clip(0, 255), np.uint8)


def _add_leaf(
    picture: NDArray[np.float32],
    color: NDArray[np.float64],
    texture: NDArray[np.float32] | None,
    strength: float,
    draws: np.random.Generator,
) -> None:
    """Lay a disk, an ellipse or a polygon over the picture.

    Args:
        picture: is changed.
        color: of the leaf, in levels of 255.
        texture: of the picture's sides, with the deviation 1; None is a smooth leaf.
        strength: deviation of its texture, in levels.
        draws: decide form, size and place.
    """
    wide = len(picture)
    # Areas of a leaf are distributed as a power, so that pictures look alike at any distance.
    radius = min(wide / 2, 0.01 * wide * float(1 - draws.random()) ** -0.8)
    x, y = draws.uniform(0, wide, 2)
    reach = int(radius * 1.5) + 2
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    right, bottom = min(wide, int(x) + reach), min(wide, int(y) + reach)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    middle = (int(x) - left, int(y) - top)
    kind = int(draws.integers(3))
    if kind < 2:
        flat = 1.0 if kind == 0 else float(draws.uniform(0.1, 1))
        axes = (max(1, int(radius)), max(1, int(radius * flat)))
        cv2.ellipse(mask, middle, axes, float(draws.uniform(0, 180)), 0, 360, 1, -1)
    else:
        angles = np.sort(draws.uniform(0, 2 * np.pi, int(draws.integers(3, 7))))
        lengths = radius * draws.uniform(0.5, 1.3, len(angles))
        corners = np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], 1)
        cv2.fillPoly(mask, [(corners + middle).round().astype(np.int32)], 1)
    inside = mask > 0
    window = picture[top:bottom, left:right]
    leaf = np.broadcast_to(color, window.shape)
    if texture is not None:
        leaf = leaf + texture[top:bottom, left:right, None] * np.float32(strength)
    window[inside] = leaf[inside].clip(0, 255)


def _texture(side: int, draws: np.random.Generator) -> NDArray[np.float32]:
    """Noise (side, side) of a spectrum that falls as a power, with the deviation 1."""
    rows = np.fft.fftfreq(side)[:, None]
    columns = np.fft.rfftfreq(side)[None, :]
    frequency = np.hypot(rows, columns) + 1 / side
    waves = draws.standard_normal((2, *frequency.shape))
    spectrum = (waves[0] + 1j * waves[1]) / frequency ** draws.uniform(*_FALL)
    texture = np.fft.irfft2(spectrum, s=(side, side))
    return ((texture - texture.mean()) / texture.std()).astype(np.float32)
