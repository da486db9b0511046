"""Losses of spectra and of wavelets: what is missing in textures shows there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES

# The low-pass filter of the symlet of seven vanishing moments; its squares sum to 1.
# Source: Daubechies, "Ten lectures on wavelets", 1992.
SYMLET_7 = (
    0.002681814568257878,
    -0.0010473848886829163,
    -0.01263630340325193,
    0.03051551316596357,
    0.0678926935013727,
    -0.049552834937127255,
    0.017441255086855827,
    0.5361019170917628,
    0.767764317003164,
    0.2886296317515146,
    -0.14004724044296152,
    -0.10780823770381774,
    0.004010244871533663,
    0.010268176708511255,
)


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


@LOSSES.register("wavelet", aliases=("WaveletLoss", "swt", "SWTLoss", "wavelet_loss"))
class WaveletLoss(PairLoss):
    """Mean absolute differences of the four bands of a stationary wavelet transform.

    They are structure, and details across, down and along the diagonals, each with a weight of its
    own. Beside an adversarial loss it bounds what may be invented in each.

    The wavelet is the symlet of seven vanishing moments; pixels of the border go on beyond it.

    Source: Korkmaz, Tekalp and Dogan, "Training generative image super-resolution models by
    wavelet-domain losses enables better control of artifacts", 2024.

    Args:
        band_weights: of structure (LL), of details across (LH) and down (HL), and of diagonal ones
            (HH); 0 or more each.

    Raises:
        OptionsError: if they are not four, one is negative, or all are 0.
    """

    kernels: Tensor

    def __init__(self, band_weights: Sequence[float] = (0.1, 0.01, 0.01, 0.05)) -> None:
        super().__init__()
        if len(band_weights) != 4 or min(band_weights) < 0 or not any(band_weights):
            raise OptionsError(
                f"wavelet: band_weights is {list(band_weights)}; expected four numbers of 0 or "
                "more, for LL, LH, HL and HH, one of them above 0"
            )
        low = torch.tensor(SYMLET_7) / math.sqrt(2)
        # The mirrored filter, with every second sign turned: of each frequency it passes the rest.
        high = low.flip(0) * torch.tensor((1.0, -1.0)).repeat(len(low) // 2)
        bands = [torch.outer(down, across) for down in (low, high) for across in (low, high)]
        weights = torch.tensor(band_weights).reshape(4, 1, 1)
        # (4, 1, 14, 14), weighed: the transform is linear.
        kernels = (torch.stack(bands) * weights)[:, None]
        self.register_buffer("kernels", kernels, persistent=False)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        side = self.kernels.shape[-1]
        before = side // 2
        after = side - 1 - before
        channels = (sr - gt).flatten(0, 1)[:, None]
        padded = F.pad(channels, (before, after, before, after), mode="replicate")
        # Four bands of each channel of an image.
        return 4 * F.conv2d(padded, self.kernels.to(sr.device)).abs().mean()


def _spectrum(difference: Tensor) -> Tensor:
    """Of a difference, which is the difference of the spectra; orthonormal."""
    return torch.fft.fft2(difference, norm="ortho")
