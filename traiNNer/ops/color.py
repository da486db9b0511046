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
        DataError: if the image does not have three channels.
    """
    if image.ndim < 3 or image.shape[-3] != 3:
        raise DataError(
            f"the Y channel needs an RGB image (..., 3, H, W), got shape {tuple(image.shape)}"
        )
    red, green, blue = image.unbind(-3)
    # ITU-R BT.601 for values of 0..1; Matlab's rgb2ycbcr, by which papers measure, is the same.
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


def to_float(pixels: Tensor) -> Tensor:
    """uint8 in 0 to 255, or floating point in [0, 1], to float32 in [0, 1].

    Args:
        pixels: any shape and device. A float32 tensor is returned itself, not copied.

    Returns:
        The same shape, float32, on the same device.
    """
    # In place: `float` has made a new tensor of the bytes, and a batch should not be there twice.
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()


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
    # Half precision has 11 bits, and so no exact place for many of the levels.
    precise = image if image.dtype == torch.float64 else image.float()
    return (precise.clamp(0.0, 1.0) * 255.0).round()
