"""How hard a sample is, by what is made of it or by its pixels alone."""

from __future__ import annotations

from torch import Tensor

from traiNNer.ops.color import rgb_to_y
from traiNNer.ops.resize import resize
from traiNNer.utils.registry import DIFFICULTIES

# Errors below a level of 255 are none.
LEVEL = 1 / 255
# Part of an LQ's contrast that bicubic's error counts up to: more than that it has only where LQ
# and GT do not belong together, which is not to be excused by it.
MOST_OF_CONTRAST = 0.5
# From the median of a normal variable's absolute values to its standard deviation.
MEDIAN_TO_SIGMA = 1.4826
# Standard deviation of a pixel's four neighbours' mean, less itself, in that of the noise.
LAPLACIAN_SIGMA = 1.25**0.5


@DIFFICULTIES.register("loss")
def loss(lq: Tensor, gt: Tensor, sr: Tensor) -> Tensor:
    """The mean absolute error, in that of bicubic enlargement: 1 is no better than bicubic. Where
    bicubic is further from GT than half of LQ's contrast, which is mostly a wrong pair, it is above
    1.

    Args:
        lq: `(B, 3, h, w)` in [0, 1].
        gt: `(B, 3, H, W)`.
        sr: what the network made, as GT.

    Returns:
        `(B,)`; 0 is easy.
    """
    size = (gt.shape[-2], gt.shape[-1])
    expected = _mean((resize(lq, size) - gt).abs())
    contrast = MOST_OF_CONTRAST * lq.flatten(1).std(dim=1)
    return _mean((sr - gt).abs()) / expected.minimum(contrast).clamp(min=LEVEL)


@DIFFICULTIES.register("gradient")
def gradient(lq: Tensor, gt: Tensor, sr: Tensor) -> Tensor:  # noqa: ARG001 (all have the same)
    """The mean step from pixel to pixel of LQ: edges of any kind."""
    y = rgb_to_y(lq)
    down = _mean((y[..., 1:, :] - y[..., :-1, :]).abs())
    across = _mean((y[..., :, 1:] - y[..., :, :-1]).abs())
    return (down + across) / 2


@DIFFICULTIES.register("texture")
def texture(lq: Tensor, gt: Tensor, sr: Tensor) -> Tensor:  # noqa: ARG001
    """The standard deviation of what shrinking GT takes away: detail that LQ does not show."""
    y = rgb_to_y(gt)
    size = (max(1, y.shape[-2] // 2), max(1, y.shape[-1] // 2))
    detail = y - resize(resize(y, size), (y.shape[-2], y.shape[-1]))
    return detail.flatten(1).std(dim=1)


@DIFFICULTIES.register("noise")
def noise(lq: Tensor, gt: Tensor, sr: Tensor) -> Tensor:  # noqa: ARG001
    """The standard deviation of LQ's noise, from the median of each pixel's distance from its
    neighbours (Immerkaer's idea, CVIU 1996, with a median).
    """
    y = rgb_to_y(lq)
    inner = y[..., 1:-1, 1:-1]
    sides = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    distance = (inner - sides / 4).abs().flatten(1)
    return distance.median(dim=1).values * MEDIAN_TO_SIGMA / LAPLACIAN_SIGMA


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)
