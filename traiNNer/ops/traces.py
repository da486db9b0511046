"""What a picture tells of how it was damaged: JPEG's quality and grid, noise, blur."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

Plane = NDArray[np.float64]

# JPEG's luma table at quality 50 (ITU-T T.81, table K.1).
_LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.float64,
)
_SIDE = 8
# Low frequencies, where coefficients are large; not the mean of a square, which always is.
_FREQUENCIES = [(u, v) for u in range(5) for v in range(5) if 0 < u + v < 6]
# Standard deviation of a coefficient after colours were rounded to 8 bits and mixed to luma again.
_ROUNDING = 0.45
# Squares that are looked at: a few for each of 64 grids, more for the best of them.
_FEW_SQUARES = 200
_MOST_SQUARES = 900
# Squares in which noise is measured: many are quieter than a whole picture, and 3,000 patches tell
# a variance to a few per cent. Of seven photographs the tenth quietest was nearest to the truth.
_TILE = 64
_MOST_TILES = 150
# Fewer patches than numbers in one have no covariance.
_LEAST_SIDE = 24
_QUIET = 0.1
_CLIPPED = 0.02
# Levels of noise above which gradients between neighbours are noise.
_NOISY = 4
# The share of a picture's edges that are weaker than those looked at: the rest is texture.
_STRONG = 0.95
# How far two pairs of scales may disagree about a step, as a share.
_AGREEMENT = 0.15
# The blur of a sharp photograph's edges, in pixels.
_SHARP = 0.5
# What a coefficient counts at most against a quality: some are of squares that were clipped.
_OUTLIER = 0.02
# Evidence for a quality, in natural logarithms a coefficient, below which there is none. On
# photographs that were never compressed it is below zero.
_LEAST_EVIDENCE = 0.25


@dataclass(frozen=True, slots=True)
class JpegTrace:
    """Quality as libjpeg counts it, the place (down, right) of the first square's corner, and how
    much speaks for it.
    """

    quality: int
    grid: tuple[int, int]
    evidence: float


def luma(picture: NDArray[np.uint8]) -> Plane:
    """(H, W, 3) RGB as (H, W), in levels of 255 (ITU-R BT.601)."""
    return picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


@functools.cache
def quantisers(quality: int) -> Plane:
    """The table (8, 8) of a quality from 1 to 100, as libjpeg scales it."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(np.floor((_LUMA_TABLE * percent + 50) / 100), 1, 255)


def find_jpeg(plane: Plane) -> JpegTrace | None:
    """The quality at which a picture was compressed, and its grid; None where there is no trace.

    A coefficient of a square that was quantised lies near a multiple of its quantiser. For each
    grid and quality this adds up the logarithm of how much likelier that makes the coefficients
    than a smooth distribution; those that became zero say nothing.

    Args:
        plane: luma (H, W), in levels of 255.
    """
    best: JpegTrace | None = None
    for down in range(_SIDE):
        for right in range(_SIDE):
            few = _coefficients(plane, down, right, _FEW_SQUARES)
            trace = _best_quality(few, (down, right))
            if trace is not None and (best is None or trace.evidence > best.evidence):
                best = trace
    if best is None:
        return None
    # The grid is found; more squares tell its quality better.
    best = _best_quality(_coefficients(plane, *best.grid, _MOST_SQUARES), best.grid)
    return best if best is not None and best.evidence > _LEAST_EVIDENCE else None


def _coefficients(plane: Plane, down: int, right: int, most: int) -> Plane:
    """DCT coefficients (N, F) at the low frequencies of some of the squares of a grid."""
    height = (plane.shape[0] - down) // _SIDE
    width = (plane.shape[1] - right) // _SIDE
    kept = plane[down : down + height * _SIDE, right : right + width * _SIDE] - 128
    squares = kept.reshape(height, _SIDE, width, _SIDE).swapaxes(1, 2).reshape(-1, _SIDE, _SIDE)
    lively = squares[np.ptp(squares, axis=(1, 2)) > 4]
    step = max(1, len(lively) // most)
    spectra = np.asarray(dctn(lively[::step], axes=(1, 2), norm="ortho"))
    return np.stack([spectra[:, u, v] for u, v in _FREQUENCIES], axis=1)


def _best_quality(found: Plane, grid: tuple[int, int]) -> JpegTrace | None:
    best: JpegTrace | None = None
    sizes = np.abs(found)
    for quality in range(1, 100):
        table = quantisers(quality)
        steps = np.array([table[place] for place in _FREQUENCIES])
        # Where the quantiser is no wider than the rounding, nothing is seen.
        says = (sizes > 0.6 * steps) & (steps > 3 * _ROUNDING)
        if says.sum() < 50:
            continue
        size = sizes[says]
        step = np.broadcast_to(steps, says.shape)[says]
        distance = size - np.round(size / step) * step
        near = np.exp(-((distance / _ROUNDING) ** 2) / 2) / (_ROUNDING * math.sqrt(2 * math.pi))
        evidence = float(np.log((1 - _OUTLIER) * step * near + _OUTLIER).mean())
        if best is None or evidence > best.evidence:
            best = JpegTrace(quality, grid, evidence)
    return best


def find_noise(plane: Plane) -> float:
    """The standard deviation of white noise, in levels of 255.

    It is the same everywhere, and what a picture has besides is not: so it is measured in squares,
    and one of the quietest counts. Squares with much black or white have lost some of it.

    Args:
        plane: one channel (H, W), in levels of 255, 24 pixels at least to each side.

    Raises:
        ValueError: if it is smaller.
    """
    height, width = plane.shape
    if min(height, width) < _LEAST_SIDE:
        raise ValueError(f"noise is not seen in {width}x{height} pixels")
    step = max(_TILE // 2, math.ceil(math.sqrt(height * width / _MOST_TILES)))
    tiles = [
        plane[top : top + _TILE, left : left + _TILE]
        for top in range(0, max(1, height - _TILE + 1), step)
        for left in range(0, max(1, width - _TILE + 1), step)
    ]
    whole = [tile for tile in tiles if np.mean((tile <= 1) | (tile >= 254)) < _CLIPPED]
    return float(np.quantile([_noise_of(tile) for tile in whole or tiles], _QUIET))


def _noise_of(tile: Plane) -> float:
    """By the eigenvalues of the covariance of small patches (Chen, Zhu and Heng, ICCV 2015): those
    of directions in which the picture has nothing are the noise's variance, whatever the others
    are, and they are found by leaving out the largest until mean and median agree.
    """
    windows = np.lib.stride_tricks.sliding_window_view(tile, (_SIDE, _SIDE))
    values = np.linalg.eigvalsh(np.cov(windows.reshape(-1, _SIDE * _SIDE), rowvar=False))
    count = len(values)
    while count > 1 and values[:count].mean() > np.median(values[:count]):
        count -= 1
    return math.sqrt(max(0.0, float(values[:count].mean())))


def find_blur(plane: Plane, noise: float = 0.0) -> float:
    """The standard deviation of the blur at the strongest edges, in pixels, beyond that of a sharp
    photograph.

    The gradient of a step that was blurred by s, at a scale t, is as 1 / sqrt(s^2 + t^2), so two
    scales tell s (after Zhuo and Sim, Pattern Recognition 2011). A third one tells steps from lines
    and texture, where the pairs disagree.

    Args:
        plane: luma (H, W), in levels of 255.
        noise: its standard deviation; the more, the coarser the scales.
    """
    finest = 0.7 if noise < _NOISY else 1.4
    scales = [finest, 1.5 * finest, 2.2 * finest]
    gradients = [_gradient(plane, scale) for scale in scales]
    border = math.ceil(4 * scales[-1])
    inside = np.zeros(plane.shape, dtype=bool)
    inside[border:-border, border:-border] = True
    # On ridges of the gradient alone: beside them it falls off.
    ridge = inside & (gradients[0] >= cv2.dilate(gradients[0], np.ones((3, 3))))
    if not ridge.any():
        return 0.0
    strong = ridge & (gradients[0] >= np.quantile(gradients[0][ridge], _STRONG))
    found = [gradient[strong] for gradient in gradients]
    inner = _widths(found[0], found[1], scales[0], scales[1])
    outer = _widths(found[1], found[2], scales[1], scales[2])
    widths = _widths(found[0], found[2], scales[0], scales[2])
    steps = np.abs(inner - outer) < _AGREEMENT * (widths + 0.2)
    width = float(np.median(widths[steps] if steps.any() else widths))
    return math.sqrt(max(0.0, width**2 - _SHARP**2))


def _widths(fine: Plane, coarse: Plane, fine_scale: float, coarse_scale: float) -> Plane:
    """The blur of steps whose gradients are these at two scales."""
    ratio = (fine / np.maximum(coarse, 1e-9)) ** 2
    squared = (coarse_scale**2 - ratio * fine_scale**2) / np.maximum(ratio - 1, 1e-3)
    return np.sqrt(np.clip(squared, 0, None))


def _gradient(plane: Plane, sigma: float) -> Plane:
    blurred = cv2.GaussianBlur(plane, (0, 0), sigma)
    down, right = np.gradient(blurred)
    return np.hypot(down, right)
