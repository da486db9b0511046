"""Keys of degradations as Real-ESRGAN and its relatives have them, turned into a recipe of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The kernels of Real-ESRGAN and their shares, as its options name them.
_KERNELS = {
    "iso": {"isotropic": True},
    "aniso": {"isotropic": False},
    "generalized_iso": {"shape": "generalized", "isotropic": True},
    "generalized_aniso": {"shape": "generalized", "isotropic": False},
    "plateau_iso": {"shape": "plateau", "isotropic": True},
    "plateau_aniso": {"shape": "plateau", "isotropic": False},
}
_SHARES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
_MODES = {
    "area": "box",
    "box": "box",
    "bilinear": "bilinear",
    "linear": "bilinear",
    "bicubic": "bicubic",
    "cubic": "bicubic",
    "lanczos": "lanczos",
    "lanczos4": "lanczos",
    "nearest": "nearest",
    "nearest-exact": "nearest",
}


def degradations_of(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The recipe that keys of Real-ESRGAN's kind give; what is missing has its published ranges.

    Args:
        keys: such as resize_prob, noise_range2 and final_sinc_prob.
    """
    steps: list[dict[str, Any]] = [
        *_blurs(keys, "", float(keys.get("blur_prob", 1.0)), [0.2, 3.0]),
        _resized(keys, "", [0.2, 0.7, 0.1], [0.15, 1.5]),
        *_noises(keys, "", [1, 30], [0.05, 3.0]),
        *_jpegs(keys, ""),
    ]
    second = float(keys.get("second_blur_prob", keys.get("blur_prob2", 0.8)))
    steps += _blurs(keys, "2", second, [0.2, 1.5])
    steps.append(
        _resized(keys, "2", [0.3, 0.4, 0.3], [0.3, 1.2]) | {"relative_to": "lq"},
    )
    steps += _noises(keys, "2", [1, 25], [0.05, 2.5])
    shrunk = {"type": "to_lq", "modes": _modes(keys.get("resize_mode_list3"))}
    sinc = {"type": "sinc", "cutoff": [0.33, 1.0], "side": [7, 21]}
    sinc["prob"] = float(keys.get("final_sinc_prob", 0.8))
    packed = _jpegs(keys, "2")
    steps.append(
        {"one_of": [{"sequence": [shrunk, sinc, *packed]}, {"sequence": [*packed, shrunk, sinc]}]}
    )
    if keys.get("lq_usm"):
        steps.append({"type": "sharpen", "amount": 0.5, "sigma": [0.5, 2.0]})
    return steps


def _range(value: Any, default: list[Any]) -> list[Any]:
    if isinstance(value, list) and len(value) == 2:
        return sorted(value)
    return default


def _blurs(
    keys: Mapping[str, Any], order: str, prob: float, sigma: list[float]
) -> list[dict[str, Any]]:
    names = keys.get(f"kernel_list{order}")
    shares = keys.get(f"kernel_prob{order}")
    if not isinstance(names, list) or not isinstance(shares, list) or len(names) != len(shares):
        names, shares = list(_KERNELS), _SHARES
    side = keys.get(f"blur_kernel_size{order}", 21)
    # A step of 3 px is the least, and kernels are odd.
    largest = max(3, side if isinstance(side, int) else 21)
    common = {"type": "blur", "sigma": _range(keys.get(f"blur_sigma{order}"), sigma)}
    common["side"] = [min(7, largest), largest]
    sinc_share = float(keys.get(f"sinc_prob{order}", 0.1))
    parts: list[dict[str, Any]] = []
    if sinc_share > 0:
        cut = {"type": "sinc", "cutoff": [0.33, 1.0], "side": common["side"]}
        parts.append(cut | {"weight": sinc_share})
    for name, share in zip(names, shares, strict=True):
        weight = round(float(share) * (1 - sinc_share), 4)
        if name not in _KERNELS or weight <= 0:
            continue
        step = common | _KERNELS[name] | {"weight": weight}
        if "generalized" in name:
            step["beta"] = _range(keys.get(f"betag_range{order}"), [0.5, 4.0])
        if "plateau" in name:
            step["beta"] = _range(keys.get(f"betap_range{order}"), [1.0, 2.0])
        parts.append(step)
    return [{"one_of": parts, "prob": prob}] if parts and prob > 0 else []


def _modes(value: Any) -> list[str]:
    names = value if isinstance(value, list) else []
    known = [_MODES[str(name).lower()] for name in names if str(name).lower() in _MODES]
    return list(dict.fromkeys(known)) or ["box", "bilinear", "bicubic"]


def _resized(
    keys: Mapping[str, Any], order: str, shares: list[float], factors: list[float]
) -> dict[str, Any]:
    given = keys.get(f"resize_prob{order}")
    if isinstance(given, list) and len(given) == 3 and abs(sum(given) - 1) < 0.01:
        shares = given
    least, most = _range(keys.get(f"resize_range{order}"), factors)
    return {
        "type": "resize",
        "shares": shares,
        "down": [min(1.0, least), 1.0],
        "up": [1.0, max(1.0, most)],
        "modes": _modes(keys.get(f"resize_mode_list{order}", keys.get("resize_mode_list"))),
    }


def _noises(
    keys: Mapping[str, Any], order: str, sigma: list[float], scale: list[float]
) -> list[dict[str, Any]]:
    share = float(keys.get(f"gaussian_noise_prob{order}", 0.5))
    grey = float(keys.get(f"gray_noise_prob{order}", 0.4))
    white = {"type": "gaussian_noise", "sigma": _range(keys.get(f"noise_range{order}"), sigma)}
    counts = _range(keys.get(f"poisson_scale_range{order}"), scale)
    counted = {"type": "poisson_noise", "scale": counts}
    parts = [(white, share), (counted, 1 - share)]
    one_of = [
        part | {"grey": grey, "weight": round(weight, 4)} for part, weight in parts if weight > 0
    ]
    return [{"one_of": one_of}]


def _jpegs(keys: Mapping[str, Any], order: str) -> list[dict[str, Any]]:
    quality = [round(end) for end in _range(keys.get(f"jpeg_range{order}"), [30, 95])]
    prob = float(keys.get(f"jpeg_prob{order}", 1.0))
    return [{"type": "jpeg", "quality": quality, "prob": prob}] if prob > 0 else []
