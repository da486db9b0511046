"""Antialiased resizing of tensors with the kernels that Matlab's `imresize` and Pillow use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

ResizeMode = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
# Half the width of a kernel in pixels of the input, where the size stays the same.
_SUPPORT = {"box": 0.5, "lanczos": 3.0}


def resize(
    image: Tensor, size: tuple[int, int], mode: ResizeMode = "bicubic", *, antialias: bool = True
) -> Tensor:
    """Resize with a kernel that widens when shrinking (antialiasing).

    "bicubic" is the cubic convolution of Keys (IEEE TASSP 1981) with a = -0.5, in both directions,
    as in Matlab's `imresize` and Pillow's `BICUBIC`. It may overshoot the input's range; clamping
    is the caller's job. "nearest" takes the pixel whose area holds the centre of the new one, "box"
    the mean of the pixels below it, and "lanczos" is a sinc in a window of three lobes, as Pillow's
    `LANCZOS`.

    Args:
        image: (..., C, H, W), floating point; half precision is computed in float32.
        size: height and width of the result, in pixels.
        mode: kernel.
        antialias: widen the kernel when shrinking; else details too small for the result turn into
            patterns that are not in the image.

    Returns:
        (..., C, size[0], size[1]) in the image's dtype.

    Raises:
        TypeError: if the image is not floating point.
        ValueError: if it has fewer than three dimensions, or the size is not positive.
    """
    if not image.is_floating_point():
        raise TypeError(
            f"resize needs a floating point image, got {image.dtype}; convert to [0, 1] first"
        )
    if image.ndim < 3:
        raise ValueError(f"resize needs an image (..., C, H, W), got shape {tuple(image.shape)}")
    if min(size) < 1:
        raise ValueError(
            f"cannot resize {_size_text(image)} to {size[0]}x{size[1]}; both sides must be at "
            "least 1"
        )
    # The kernels would return the same pixels up to rounding.
    if tuple(image.shape[-2:]) == tuple(size):
        return image.clone()
    # The kernels take exactly four dimensions.
    pixels = image.reshape(-1, *image.shape[-3:])
    if pixels.dtype not in (torch.float32, torch.float64):
        pixels = pixels.float()
    if mode == "nearest":
        # Plain "nearest" is off by half a pixel: it takes the one at the corner.
        pixels = F.interpolate(pixels, size=size, mode="nearest-exact")
    elif mode in _SUPPORT:
        pixels = _resample(pixels, size[0], 2, mode, antialias)
        pixels = _resample(pixels, size[1], 3, mode, antialias)
    else:
        pixels = F.interpolate(
            pixels, size=size, mode=mode, align_corners=False, antialias=antialias
        )
    return pixels.to(image.dtype).reshape(*image.shape[:-2], *size)


def scale_by(image: Tensor, factor: float, mode: ResizeMode = "bicubic") -> Tensor:
    """`resize` by a factor; each side is rounded to the nearest pixel and is at least 1.

    Args:
        image: (..., C, H, W), floating point.
        factor: above 1 enlarges, below 1 shrinks; 0.25 makes the LQ image of scale 4.
        mode: kernel.

    Raises:
        ValueError: if the factor is not positive.
    """
    if factor <= 0:
        raise ValueError(
            f"cannot scale {_size_text(image)} by {factor}; the factor must be positive"
        )
    height, width = (max(1, round(side * factor)) for side in image.shape[-2:])
    return resize(image, (height, width), mode)


def _resample(pixels: Tensor, size: int, dim: int, mode: str, antialias: bool) -> Tensor:
    """One side of `pixels` to `size`, with a kernel that torch does not have."""
    old = pixels.shape[dim]
    if old == size:
        return pixels
    ratio = old / size
    width = max(ratio, 1.0) if antialias else 1.0
    support = _SUPPORT[mode] * width
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * ratio
    # The pixels whose centres lie below the kernel, as Pillow counts them.
    first = (centres - support + 0.5).floor().clamp(min=0)
    last = (centres + support + 0.5).floor().clamp(max=old)
    taps = int((last - first).max())
    places = first[:, None] + torch.arange(taps, dtype=torch.float64)
    weights = _KERNELS[mode]((places + 0.5 - centres[:, None]) / width)
    weights = torch.where(places < last[:, None], weights, 0)
    # What lies beyond the edge has no say.
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(pixels)
    indices = places.clamp(max=old - 1).long().to(pixels.device)
    shape = [1] * pixels.ndim
    shape[dim] = size
    result = torch.zeros((), dtype=pixels.dtype, device=pixels.device)
    # Tap by tap: all of them at once would take many times the image's memory.
    for tap in range(taps):
        taken = pixels.index_select(dim, indices[:, tap])
        result = result + taken * weights[:, tap].reshape(shape)
    return result


def _box(x: Tensor) -> Tensor:
    """1 from -1/2 (left out) to 1/2."""
    return ((x > -0.5) & (x <= 0.5)).to(x.dtype)


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0)


_KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"box": _box, "lanczos": _lanczos}


def _size_text(image: Tensor) -> str:
    """Height x width, for messages."""
    return "x".join(str(side) for side in image.shape[-2:])
