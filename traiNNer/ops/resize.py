"""Antialiased resizing of tensors with the kernels that Matlab's `imresize` and Pillow use."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

ResizeMode = Literal["nearest", "bilinear", "bicubic"]


def resize(image: Tensor, size: tuple[int, int], mode: ResizeMode = "bicubic") -> Tensor:
    """Resize with a kernel that widens when shrinking (antialiasing).

    "bicubic" is the cubic convolution of Keys (IEEE TASSP 1981) with a = -0.5, in both directions,
    as in Matlab's `imresize` and Pillow's `BICUBIC`. It may overshoot the input's range; clamping
    is the caller's job. "nearest" takes the pixel whose area holds the centre of the new one.

    Args:
        image: (..., C, H, W), floating point; half precision is computed in float32.
        size: height and width of the result, in pixels.
        mode: kernel.

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
    else:
        pixels = F.interpolate(pixels, size=size, mode=mode, align_corners=False, antialias=True)
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


def _size_text(image: Tensor) -> str:
    """Height x width, for messages."""
    return "x".join(str(side) for side in image.shape[-2:])
