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

# Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution"
# (ICCV 2021): blur twice, shrinking, noise and JPEG in any order, JPEG at the end. Their widths of
# the turned blur are variances.
_ABOVE_2 = list(range(3, 17))
_TWICE = [{"type": "resize", "down": [0.5, 1.0], "up": [1.0, 2.0], "shares": [0.5, 0.5, 0.0]}]
_BSRGAN: Recipe = [
    {
        "shuffle": [
            {"type": "blur", "sigma": [0.1, 2.4], "scales": [1, 2]},
            {"type": "blur", "sigma": [0.1, 2.8], "scales": _ABOVE_2},
            {"type": "blur", "isotropic": False, "sigma": [0.71, 2.45], "scales": [1, 2]},
            {"type": "blur", "isotropic": False, "sigma": [0.71, 2.83], "scales": _ABOVE_2},
            {
                "one_of": [
                    {"type": "to_lq", "modes": ["nearest", *_FILTERS], "weight": 3},
                    {"sequence": [*_TWICE, _SHRINK]},
                ]
            },
            {"type": "gaussian_noise", "sigma": [1, 25], "grey": 0.4},
            {**_JPEG, "prob": 0.75},
            {"type": "sensor_noise", "prob": 0.25},
        ]
    },
    _JPEG,
]

# Drawn pictures: no camera, but software that scales, sharpens and compresses.
_ANIME: Recipe = [
    {"type": "blur", "sigma": [0.2, 1.2], "prob": 0.4},
    {"type": "resize", "down": [0.5, 1.0], "up": [1.0, 1.5], "prob": 0.3, "antialias": 0.5},
    {"type": "sharpen", "amount": [0.3, 1.5], "sigma": [0.5, 2.0], "prob": 0.2},
    {"type": "to_lq", "modes": ["bilinear", "bicubic", "lanczos"], "antialias": 0.7},
    {"type": "sinc", "cutoff": [0.4, 1.0], "side": [7, 15], "prob": 0.2},
    {"type": "quantize", "levels": [32, 128], "prob": 0.1},
    {
        "one_of": [
            {"type": "jpeg", "quality": [40, 95], "shifted": 0.5, "weight": 3},
            {"type": "webp", "quality": [40, 95], "shifted": 0.5},
            {"type": "h264", "crf": [18, 32], "shifted": 0.5},
        ],
        "prob": 0.9,
    },
]

# A film on a DVD: softened, edges enhanced, MPEG-2.
_DVD: Recipe = [
    {"type": "blur", "sigma": [0.3, 1.5], "prob": 0.5},
    {"type": "film_grain", "strength": [2, 12], "prob": 0.5},
    {"type": "to_lq", "modes": ["bilinear", "bicubic", "lanczos"], "antialias": 1.0},
    {"type": "sharpen", "amount": [0.3, 1.5], "sigma": [0.7, 1.5], "prob": 0.5},
    {"type": "tape", "chroma_blur": [0.5, 2.0], "luma_blur": [0.1, 0.7], "jitter": 0, "prob": 0.2},
    {"type": "interlace", "prob": 0.05},
    {"type": "mpeg2", "quantizer": [2, 12], "shifted": 0.5},
]

# A film from the net: compressed by a codec of today, sometimes twice.
_STREAM: Recipe = [
    {"type": "blur", "sigma": [0.2, 1.0], "prob": 0.4},
    {"type": "film_grain", "strength": [2, 10], "prob": 0.3},
    {"type": "to_lq", "modes": ["bilinear", "bicubic", "lanczos"], "antialias": 1.0},
    {"type": "sharpen", "amount": [0.2, 1.0], "sigma": [0.5, 1.5], "prob": 0.2},
    {
        "one_of": [
            {"type": "h264", "crf": [18, 34], "shifted": 0.5, "weight": 3},
            {"type": "h265", "crf": [20, 38], "shifted": 0.5},
            {"type": "vp9", "crf": [25, 50], "shifted": 0.5},
            {"type": "av1", "crf": [25, 55], "shifted": 0.5},
        ],
        "repeat": [1, 2],
    },
]

# Good photographs: a little soft, a little noise, JPEG of a camera.
_PHOTO_LIGHT: Recipe = [
    {"type": "blur", "sigma": [0.2, 1.0], "prob": 0.6},
    {"type": "to_lq", "modes": ["bilinear", "bicubic", "box"], "antialias": 1.0},
    {"type": "sensor_noise", "shot": [0.0001, 0.002], "read": [0.0005, 0.006], "prob": 0.6},
    {"type": "sharpen", "amount": [0.2, 0.8], "sigma": [0.5, 1.2], "prob": 0.3},
    {"type": "jpeg", "quality": [70, 98], "subsampling": ["420", "444"], "shifted": 0.5},
]

NAMED_RECIPES: dict[str, Recipe] = {
    "realesrgan": _REALESRGAN,
    "bsrgan": _BSRGAN,
    "anime": _ANIME,
    "dvd": _DVD,
    "stream": _STREAM,
    "photo_light": _PHOTO_LIGHT,
}
