"""Colour conversion, borders and the 8-bit grid of image tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from traiNNer.utils.errors import DataError


def rgb_to_y(image: Tensor) -> Tensor:
    """Luma of ITU-R BT.601 in studio swing: the Y on which super-resolution papers report PSNR and
    SSIM.

    Args:
        image: (..., 3, H, W), RGB, floating point, in [0, 1].

    Returns:
        (..., 1, H, W), in [16/255, 235/255].

    Raises:
        DataError: if the image has not three channels.
    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise DataError(
            f"the Y channel needs an RGB image (..., 3, H, W), got shape {tuple(image.shape)}"
        )
    red, green, blue = image.unbind(-3)
    return ((65.481 * red + 128.553 * green + 24.966 * blue + 16.0) / 255.0).unsqueeze(-3)


def crop_border(image: Tensor, border: int) -> Tensor:
    """A view of the image without `border` pixels on each of its four sides.

    Args:
        image: (..., H, W).
        border: pixels, 0 or more.

    Raises:
        ValueError: if the border is negative.
        DataError: if nothing is left.
    """
    if border < 0:
        raise ValueError(f"the border to crop must be 0 or more pixels, got {border}")
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * border:
        raise DataError(
            f"cropping {border} pixels on each side leaves nothing of a {height}x{width} image "
            "(height x width); use a larger image or a smaller crop_border"
        )
    return image[..., border : height - border, border : width - border]


def to_uint8(image: Tensor) -> Tensor:
    """[0, 1] to 0..255: clamped, rounded to the nearest level, halves to the even one.

    Args:
        image: any shape, floating point.

    Returns:
        The same shape, uint8.
    """
    return _levels(image).to(torch.uint8)


def quantize(image: Tensor) -> Tensor:
    """The values that `to_uint8` would store, as floats in [0, 1]: what is left of an image once it
    is saved.

    Args:
        image: any shape, floating point.

    Returns:
        The same shape; float64 stays, all else becomes float32, because half precision has no room
        for the grid.
    """
    return _levels(image) / 255.0


def _levels(image: Tensor) -> Tensor:
    """8-bit levels 0..255, still floating point."""
    precise = image if image.dtype == torch.float64 else image.float()
    return (precise.clamp(0.0, 1.0) * 255.0).round()
