"""Losses that compare how often values occur, and not where: shifts of a few pixels cost little."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.color import lab
from traiNNer.losses.perceptual import PerceptualLoss
from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES

# Of the directions, which are the same in every run: a loss that is drawn anew at each step could
# not be compared from step to step.
_SEED = 20240719
# Amplitude of a feature's spectrum below which its phase is noise.
_FAINT = 1e-2


def directions(count: int, channels: int, side: int) -> Tensor:
    """(count, channels, side, side) directions of length 1, drawn once and for all."""
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.randn(count, channels, side, side, generator=generator)
    return drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def sliced_wasserstein(first: Tensor, second: Tensor, kernels: Tensor) -> Tensor:
    """How far two pictures' patches are from each other as distributions: the mean over directions
    of the Wasserstein distance of what lies along them.

    Args:
        first: (B, C, H, W).
        second: of the same shape.
        kernels: (directions, C, side, side), see `directions`.

    Returns:
        a scalar.
    """
    ours, theirs = (F.conv2d(planes, kernels).flatten(2) for planes in (first, second))
    return F.l1_loss(ours.sort(dim=-1).values, theirs.sort(dim=-1).values)


@LOSSES.register("ms_swd", aliases=("MSSWDLoss", "msswd_loss"))
class MultiScaleSlicedWassersteinLoss(PairLoss):
    """How far apart the colours are as distributions of patches in CIELAB, at several scales, each
    half the one before.

    Source: He et al., "Multiscale Sliced Wasserstein Distances as Perceptual Color Difference
    Measures", 2024.

    Args:
        scales: how many.
        projections: directions along which patches are compared.
        patch_size: side of the patches, in pixels.

    Raises:
        OptionsError: if one of them is less than 1.
    """

    kernels: Tensor

    def __init__(self, scales: int = 3, projections: int = 24, patch_size: int = 11) -> None:
        super().__init__()
        if min(scales, projections, patch_size) < 1:
            raise OptionsError("ms_swd: scales, projections and patch_size are 1 or more")
        self.scales = scales
        self.patch_size = patch_size
        self.register_buffer("kernels", directions(projections, 3, patch_size), persistent=False)

    @property
    def min_side(self) -> int:
        # Of the smallest scale.
        return self.patch_size * 2 ** (self.scales - 1)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is too short for the smallest scale.
        """
        self.require_side(sr)
        # In shares of the lightness from black to white.
        made, wanted = (lab(picture) / 100 for picture in (sr, gt))
        total = torch.zeros((), device=sr.device)
        for scale in range(self.scales):
            if scale:
                made, wanted = (F.avg_pool2d(planes, 2) for planes in (made, wanted))
            total = total + sliced_wasserstein(made, wanted, self.kernels)
        return total / self.scales


@LOSSES.register("fdl", aliases=("FDLLoss", "fdl_loss", "frequency_distribution"))
class FrequencyDistributionLoss(PairLoss):
    """How far apart features are as distributions of the amplitudes and phases of their spectra,
    which forgives a target that is shifted against the output.

    Source: Ni et al., "Misalignment-Robust Frequency Distribution Loss for Image Transformation",
    2024.

    Args:
        backbone: a network of torchvision, as of `perceptual`.
        layers: layers and what each counts, as of `perceptual`.
        phase_weight: of the phases, beside 1 for the amplitudes.
        projections: directions along which patches of the spectra are compared.
        patch_size: side of these patches.
        weights: file of the backbone's weights, as of `perceptual`.

    Raises:
        OptionsError: for an unknown backbone or layer, if there is no file of weights, or if
            projections or patch_size is less than 1.
    """

    def __init__(
        self,
        backbone: str = "vgg19",
        layers: dict[str, float] | None = None,
        phase_weight: float = 1.0,
        projections: int = 32,
        patch_size: int = 5,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.features = PerceptualLoss(backbone, layers, "l1", weights)
        self.phase_weight = phase_weight
        self.projections = projections
        self.patch_size = patch_size
        # Of layers differ the channels; drawn and sent to the device once.
        self._kernels: dict[tuple[int, int], Tensor] = {}

    @staticmethod
    def least_side(
        backbone: str = "vgg19",
        layers: dict[str, float] | None = None,
        phase_weight: float = 1.0,
        projections: int = 32,
        patch_size: int = 5,
        weights: str | None = None,
    ) -> int:
        """As of `perceptual`."""
        del phase_weight
        if min(projections, patch_size) < 1:
            raise OptionsError("fdl: projections and patch_size are 1 or more")
        return PerceptualLoss.least_side(backbone, layers, "l1", weights)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is too short for the backbone.
        """
        return self.features.compare_layers(sr, gt, self._compare_features)

    @property
    def min_side(self) -> int:
        return self.features.min_side

    def _compare_features(self, made: Tensor, wanted: Tensor) -> Tensor:
        first, second = (torch.fft.rfft2(planes, norm="ortho") for planes in (made, wanted))
        distance = self._distance(first.abs(), second.abs())
        phases = self._distance(phases_as_vectors(first), phases_as_vectors(second))
        return distance + self.phase_weight * phases

    def _distance(self, made: Tensor, wanted: Tensor) -> Tensor:
        channels, height, width = made.shape[1:]
        side = min(self.patch_size, height, width)
        kernels = self._kernels.get((channels, side))
        if kernels is None or kernels.device != made.device:
            kernels = directions(self.projections, channels, side).to(made.device)
            self._kernels[channels, side] = kernels
        return sliced_wasserstein(made, wanted, kernels)


def phases_as_vectors(spectrum: Tensor) -> Tensor:
    """(B, 2 C, H, W), cosines and sines, of which those of pi and -pi are the same; shorter than 1
    where there is hardly an amplitude, and with it hardly a phase.
    """
    lengths = (spectrum.real.square() + spectrum.imag.square() + _FAINT**2).sqrt()
    return torch.cat((spectrum.real / lengths, spectrum.imag / lengths), 1)
