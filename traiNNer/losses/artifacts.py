"""Losses that look at what an output has and its target has not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES

# Of the weight that a whole picture has: Liang et al.
_PICTURE_POWER = 1 / 5


@LOSSES.register("tv", aliases=("TVLoss", "tv_loss", "total_variation", "WeightedTVLoss"))
class TotalVariationLoss(PairLoss):
    """Mean absolute difference of neighbouring pixels, across and down, as far as the output has
    more of it than the target: noise and ripples count, and detail does not.

    Source: Rudin et al., "Nonlinear total variation based noise removal algorithms", 1992.

    Args:
        absolute: count all of the output's, whatever the target has.
    """

    def __init__(self, absolute: bool = False) -> None:
        super().__init__()
        self.absolute = absolute

    @property
    def min_side(self) -> int:
        return 2

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is a single pixel.
        """
        self.require_side(sr)
        excess = torch.zeros((), device=sr.device)
        for axis in (-1, -2):
            made = sr.diff(dim=axis).abs()
            if not self.absolute:
                made = F.relu(made - gt.diff(dim=axis).abs())
            excess = excess + made.mean()
        return excess


@LOSSES.register("ldl", aliases=("LDLLoss", "ldl_loss"))
class LocalDiscriminationLoss(PairLoss):
    """Mean absolute difference, weighted by how likely it is an artifact of adversarial training:
    where the residual's variance is large around a pixel, and in the picture as a whole.

    Source: Liang et al., "Details or Artifacts: A Locally Discriminative Learning Approach to
    Realistic Image Super-Resolution", 2022. Their comparison with the output of the averaged
    network, which takes another pass through it, is left out.

    Args:
        window: side of the square around a pixel whose variance counts; odd, 3 or more.

    Raises:
        OptionsError: for a window that is even or smaller.
    """

    def __init__(self, window: int = 7) -> None:
        super().__init__()
        if window < 3 or window % 2 == 0:
            raise OptionsError(f"ldl: window must be odd and 3 or more, got {window}")
        self.window = window

    @property
    def min_side(self) -> int:
        return self.window // 2 + 1

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is shorter than half a window.
        """
        self.require_side(sr)
        # A weight, and nothing to be made smaller itself.
        residual = (gt - sr).detach().abs().sum(1, keepdim=True)
        weight = self._local_variance(residual)
        weight = weight * residual.var(dim=(1, 2, 3), keepdim=True) ** _PICTURE_POWER
        return (weight * (sr - gt).abs()).mean()

    def _local_variance(self, residual: Tensor) -> Tensor:
        padding = self.window // 2
        padded = F.pad(residual, [padding] * 4, mode="reflect")
        mean = F.avg_pool2d(padded, self.window, 1)
        # Around the picture's own mean, so that the difference of two large numbers is small.
        center = residual.mean(dim=(1, 2, 3), keepdim=True)
        squares = F.avg_pool2d((padded - center).square(), self.window, 1)
        count = self.window**2
        return (squares - (mean - center).square()).clamp(min=0) * (count / (count - 1))
