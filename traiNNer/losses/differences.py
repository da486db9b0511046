"""Losses of pixels beyond plain differences: robust, in decibels, of luma, of hue, of edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import PairLoss
from traiNNer.ops.color import rgb_to_y
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES


@LOSSES.register("huber", aliases=("HuberLoss",))
class HuberLoss(PairLoss):
    """Quadratic up to `delta`, linear beyond it: a few wrong pixels count less.

    Source: Huber, "Robust estimation of a location parameter", 1964.

    Args:
        delta: difference, in units of the [0, 1] range, where the one becomes the other; above 0.

    Raises:
        OptionsError: if delta is not above 0.
    """

    def __init__(self, delta: float = 0.1) -> None:
        super().__init__()
        if delta <= 0:
            raise OptionsError(f"huber: delta must be above 0, got {delta}")
        self.delta = delta

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        return F.huber_loss(sr, gt, delta=self.delta)


@LOSSES.register("psnr", aliases=("PSNRLoss",))
class PSNRLoss(PairLoss):
    """Decibels of PSNR that are missing to that of a mean squared error of `eps`: the mean over
    the images, zero for equal ones.

    Args:
        eps: mean squared error that counts as none, in units of the [0, 1] range; above 0. 1e-8 is
            80 dB.

    Raises:
        OptionsError: if eps is not above 0.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        if eps <= 0:
            raise OptionsError(f"psnr: eps must be above 0, got {eps}")
        self.eps = eps

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        error = (sr - gt).square().mean(dim=(1, 2, 3))
        return (10 / math.log(10)) * torch.log1p(error / self.eps).mean()


@LOSSES.register("luma", aliases=("LumaLoss",))
class LumaLoss(PairLoss):
    """Mean absolute difference of luma (BT.601, studio swing), to which eyes are most sensitive."""

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        return F.l1_loss(rgb_to_y(sr), rgb_to_y(gt))


@LOSSES.register("cosine", aliases=("cosim", "cosim_loss", "cosine_similarity"))
class CosineLoss(PairLoss):
    """How far the directions of the pixels' colours are apart: 1 less the cosine of the angle
    between them, so that hue and saturation count and brightness does not.

    Args:
        eps: brightness, in units of the [0, 1] range, below which a colour has no direction.
    """

    def __init__(self, eps: float = 1e-2) -> None:
        super().__init__()
        self.eps = eps

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        # Lengths with a floor, whose roots have a gradient everywhere; zero for equal colours.
        lengths = (sr.square().sum(1) + self.eps**2) * (gt.square().sum(1) + self.eps**2)
        product = (sr * gt).sum(1) + self.eps**2
        return (1 - product / lengths.sqrt()).mean()


@LOSSES.register("sobel", aliases=("SobelLoss", "gradient"))
class SobelLoss(PairLoss):
    """Mean absolute difference of the gradients that Sobel's kernels see, across and down."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        self.register_buffer("kernels", torch.stack([across, across.T])[:, None], persistent=False)

    @property
    def min_side(self) -> int:
        return 3

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is shorter than the kernels.
        """
        self.require_side(sr)
        # Of the difference, which is the difference of the gradients.
        difference = (sr - gt).flatten(0, 1)[:, None]
        return F.conv2d(difference, self.kernels).abs().mean()
