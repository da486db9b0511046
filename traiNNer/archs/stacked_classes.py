"""Networks of spandrel whose classes take one image only, made to take the stacked frames of a
clip.

Imported only when one of them is built over more than one frame, because it imports spandrel.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from spandrel.architectures.PLKSR import PLKSR, RealPLKSR
from spandrel.architectures.SAFMN import SAFMN
from spandrel.architectures.SeemoRe import SeemoRe
from torch import Tensor, nn


def _widened(first: nn.Module, frames: int) -> nn.Conv2d:
    """A first convolution for the channels of `frames` images, in place of one for a single
    image.
    """
    assert isinstance(first, nn.Conv2d)
    # All of these classes begin with a 3x3 convolution that keeps the size.
    return nn.Conv2d(3 * frames, first.out_channels, 3, padding=1)


def _repeated_centre(times: int, x: Tensor) -> Tensor:
    """The centre frame of `(B, 3 * frames, H, W)` with each channel repeated, `(B, 3 * times, H,
    W)`.
    """
    centre = x.shape[1] // 2
    return x[:, centre - 1 : centre + 2].repeat_interleave(times, dim=1)


def _widen_plksr(network: PLKSR | RealPLKSR, frames: int) -> None:
    """Both classes begin with a convolution, and add the image to what they make."""
    first = _widened(network.feats[0], frames)
    last = network.feats[-1]
    assert isinstance(last, nn.Conv2d)
    # As the classes begin.
    nn.init.trunc_normal_(first.weight, std=0.02)
    network.feats[0] = first
    # What the base adds at its end is the image, each channel as often as pixel shuffling wants it.
    network.repeat_op = partial(_repeated_centre, last.out_channels // 3)


class StackedPLKSR(PLKSR):
    """`(B, 3 * frames, H, W)` to `(B, 3, H * scale, W * scale)`, the difference to the centre frame
    is learned.
    """

    def __init__(self, *, frames: int, **parameters: Any) -> None:
        super().__init__(**parameters)
        _widen_plksr(self, frames)


class StackedRealPLKSR(RealPLKSR):
    """`(B, 3 * frames, H, W)` to `(B, 3, H * scale, W * scale)`, the difference to the centre frame
    is learned.
    """

    def __init__(self, *, frames: int, **parameters: Any) -> None:
        super().__init__(**parameters)
        _widen_plksr(self, frames)


class StackedSAFMN(SAFMN):
    """`(B, 3 * frames, H, W)` to `(B, 3, H * scale, W * scale)`."""

    def __init__(self, *, frames: int, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.to_feat = _widened(self.to_feat, frames)


class StackedSeemoRe(SeemoRe):
    """`(B, 3 * frames, H, W)` to as many channels; the base knows the mean of one image only."""

    def __init__(self, *, frames: int, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.mean = self.mean.repeat(1, frames, 1, 1)
