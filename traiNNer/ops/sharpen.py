"""Pictures made sharper, as targets of losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# As Real-ESRGAN sharpens GT: what a wide blur takes away is added by half, where it is strong.
AMOUNT = 0.5
# Pixels of the blur to each side, and its standard deviation, which OpenCV takes for such a width.
RADIUS = 25
SIGMA = 8.0
# Differences to the blurred picture from which on something is an edge: noise stays as it is.
THRESHOLD = 10 / 255


@torch.no_grad()
def sharpened(pictures: Tensor) -> Tensor:
    """Unsharp masking of edges (Wang et al., Real-ESRGAN, ICCVW 2021).

    Args:
        pictures: `(B, C, H, W)` in [0, 1], float32, with sides above `RADIUS`.

    Returns:
        The same shape, in [0, 1].
    """
    detail = pictures - _blurred(pictures)
    edges = _blurred((detail.abs() > THRESHOLD).to(pictures.dtype))
    sharp = (pictures + AMOUNT * detail).clamp(0, 1)
    return torch.lerp(pictures, sharp, edges)


def _blurred(pictures: Tensor) -> Tensor:
    places = torch.arange(-RADIUS, RADIUS + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-((places / SIGMA) ** 2) / 2)
    kernel = kernel / kernel.sum()
    planes = pictures.flatten(0, 1).unsqueeze(1)
    padded = functional.pad(planes, (RADIUS,) * 4, mode="reflect")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1)).view_as(pictures)
