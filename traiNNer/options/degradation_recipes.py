"""Recipes of degradations that have a name, as an options file would write them."""

from __future__ import annotations

from typing import Any

Recipe = list[dict[str, Any]]


def _kernels(sigma: list[float]) -> dict[str, Any]:
    """The blurs of Real-ESRGAN with their weights: sinc in a tenth, and bells of six kinds."""
    gaussian = {"type": "blur", "sigma": sigma, "side": [7, 21]}
    generalized = {**gaussian, "shape": "generalized", "beta": [0.5, 4.0]}
    plateau = {**gaussian, "shape": "plateau", "beta": [1.0, 2.0]}
    return {
        "one_of": [
            {"type": "sinc", "cutoff": [1 / 3, 1.0], "side": [7, 21], "weight": 0.1},
            {**gaussian, "isotropic": True, "weight": 0.9 * 0.45},
            {**gaussian, "isotropic": False, "weight": 0.9 * 0.25},
            {**generalized, "isotropic": True, "weight": 0.9 * 0.12},
            {**generalized, "isotropic": False, "weight": 0.9 * 0.03},
            {**plateau, "isotropic": True, "weight": 0.9 * 0.12},
            {**plateau, "isotropic": False, "weight": 0.9 * 0.03},
        ]
    }


def _noise(sigma: list[float], scale: list[float]) -> dict[str, Any]:
    return {
        "one_of": [
            {"type": "gaussian_noise", "sigma": sigma, "grey": 0.4},
            {"type": "poisson_noise", "scale": scale, "grey": 0.4},
        ]
    }


_FILTERS = ["box", "bilinear", "bicubic"]
_JPEG = {"type": "jpeg", "quality": [30, 95]}
_SHRINK = {"type": "to_lq", "modes": _FILTERS}
_FINAL_SINC = {"type": "sinc", "cutoff": [1 / 3, 1.0], "side": [7, 21], "prob": 0.8}

# Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data"
# (ICCVW 2021): blur, resize, noise, JPEG, twice, the ranges as published with its code.
_REALESRGAN: Recipe = [
    _kernels([0.2, 3.0]),
    {
        "type": "resize",
        "shares": [0.2, 0.7, 0.1],
        "up": [1.0, 1.5],
        "down": [0.15, 1.0],
        "modes": _FILTERS,
    },
    _noise([1, 30], [0.05, 3.0]),
    _JPEG,
    {"sequence": [_kernels([0.2, 1.5])], "prob": 0.8},
    {
        "type": "resize",
        "shares": [0.3, 0.4, 0.3],
        "up": [1.0, 1.2],
        "down": [0.3, 1.0],
        "modes": _FILTERS,
        "relative_to": "lq",
    },
    _noise([1, 25], [0.05, 2.5]),
    {
        "one_of": [
            {"sequence": [_SHRINK, _FINAL_SINC, _JPEG]},
            {"sequence": [_JPEG, _SHRINK, _FINAL_SINC]},
        ]
    },
]

NAMED_RECIPES: dict[str, Recipe] = {"realesrgan": _REALESRGAN}
