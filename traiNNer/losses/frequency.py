"""Losses of spectra: what is missing in textures shows there."""

from __future__ import annotations

import torch
from torch import Tensor

from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES


@LOSSES.register("fft", aliases=("FFTLoss", "frequency"))
class FFTLoss(PairLoss):
    """Mean absolute difference of the real and imaginary parts of the spectra.

    Source: Cho et al., "Rethinking coarse-to-fine approach in single image deblurring" (MIMO-UNet),
    2021.
    """

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        return torch.view_as_real(_spectrum(sr - gt)).abs().mean()


@LOSSES.register("focal_frequency", aliases=("FocalFrequencyLoss", "ffl", "ffloss"))
class FocalFrequencyLoss(PairLoss):
    """Squared differences of the spectra, of which those that are large count more.

    Source: Jiang et al., "Focal frequency loss for image reconstruction and synthesis", 2021.

    Args:
        alpha: how much more: the power of the difference that a frequency is weighed by; 0 weighs
            all alike.

    Raises:
        OptionsError: if alpha is negative.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if alpha < 0:
            raise OptionsError(f"focal_frequency: alpha must be 0 or more, got {alpha}")
        self.alpha = alpha

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        squares = torch.view_as_real(_spectrum(sr - gt)).square().sum(-1)
        weights = squares.detach() ** (self.alpha / 2)
        # Of each image's channel the largest is 1.
        largest = weights.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
        return (weights / largest * squares).mean()


def _spectrum(difference: Tensor) -> Tensor:
    """Of a difference, which is the difference of the spectra; orthonormal."""
    return torch.fft.fft2(difference, norm="ortho")
