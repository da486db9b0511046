"""Values of the losses against formulas, or against another implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch.nn import functional
from torchmetrics.functional.image import peak_signal_noise_ratio

from traiNNer.losses.differences import CosineLoss, HuberLoss, LumaLoss, PSNRLoss, SobelLoss
from traiNNer.losses.frequency import SYMLET_7, FFTLoss, FocalFrequencyLoss, WaveletLoss
from traiNNer.utils.errors import OptionsError


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.rand(2, 3, 20, 24, generator=generator)
    return (gt + 0.1 * torch.randn(gt.shape, generator=generator)).clamp(0, 1), gt


def test_psnr_is_what_is_missing_to_80_db() -> None:
    sr, gt = pair()
    values = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(sr, gt, strict=True)]
    assert PSNRLoss()(sr, gt).item() == pytest.approx(80 - sum(map(float, values)) / 2, abs=1e-3)


def test_huber_bends_at_delta() -> None:
    gt = torch.zeros(1, 3, 4, 4)
    assert HuberLoss(0.1)(gt + 0.05, gt).item() == pytest.approx(0.5 * 0.05**2)
    assert HuberLoss(0.1)(gt + 0.3, gt).item() == pytest.approx(0.1 * (0.3 - 0.05))


def test_luma_weighs_green_most() -> None:
    gt = torch.zeros(1, 3, 4, 4)
    shares = []
    for channel in range(3):
        sr = gt.clone()
        sr[:, channel] = 0.1
        shares.append(LumaLoss()(sr, gt).item())
    assert shares == pytest.approx([0.1 * w / 255 for w in (65.481, 128.553, 24.966)], rel=1e-4)


def test_cosine_looks_at_hue_and_not_at_brightness() -> None:
    colour = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    other = colour.flip(1)
    assert CosineLoss()(0.5 * colour, colour).item() < 1e-3
    expected = 1 - functional.cosine_similarity(other, colour, dim=1).mean().item()
    assert CosineLoss()(other, colour).item() == pytest.approx(expected, abs=1e-3)


def test_sobel_sees_edges_alone() -> None:
    _, gt = pair()
    assert SobelLoss()(gt + 0.2, gt).item() == pytest.approx(0, abs=1e-6)
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) / 10
    # Across it rises by 0.1 a pixel, two pixels apart; down it is flat.
    expected = 0.2 * 4 / 8 / 2
    assert SobelLoss()(ramp, torch.zeros_like(ramp)).item() == pytest.approx(expected)


def test_spectra_hold_what_pictures_do() -> None:
    sr, gt = pair()
    # Parseval: orthonormal, so the mean square is the same.
    plain = FocalFrequencyLoss(alpha=0)(sr, gt)
    torch.testing.assert_close(plain, (sr - gt).square().mean(), rtol=1e-4, atol=0)
    assert FocalFrequencyLoss()(sr, gt) < plain
    spectrum = torch.fft.fft2(sr) - torch.fft.fft2(gt)
    parts = torch.cat([spectrum.real, spectrum.imag]).abs().mean() / math.sqrt(20 * 24)
    torch.testing.assert_close(FFTLoss()(sr, gt), parts, rtol=1e-4, atol=0)


def test_the_symlet_is_orthonormal_and_blind_to_polynomials() -> None:
    low = np.array(SYMLET_7)
    for shift in range(1, 7):
        assert low[2 * shift :] @ low[: -2 * shift] == pytest.approx(0, abs=1e-11)
    assert low @ low == pytest.approx(1)
    assert low.sum() == pytest.approx(math.sqrt(2))
    high = low[::-1] * (-1) ** np.arange(14)
    for power in range(7):
        assert high @ np.linspace(-1, 1, 14) ** power == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("band", range(4))
def test_wavelet_bands_are_those_of_scipy(band: int) -> None:
    """LL, LH, HL and HH: first down, then across."""
    sr, gt = pair()
    low = np.array(SYMLET_7) / math.sqrt(2)
    high = low[::-1] * (-1) ** np.arange(14)
    down, across = ((low, low), (low, high), (high, low), (high, high))[band]
    wanted = (sr - gt).double().numpy()
    for axis, taps in ((2, down), (3, across)):
        wanted = scipy.ndimage.correlate1d(wanted, taps, axis=axis, mode="nearest")
    weights = [0.0] * 4
    weights[band] = 0.5
    value = WaveletLoss(weights)(sr, gt).item()
    assert value == pytest.approx(0.5 * np.abs(wanted).mean(), rel=1e-5)


@pytest.mark.parametrize("weights", [[1, 1, 1], [0, 0, 0, 0], [1, -1, 1, 1]])
def test_band_weights_are_four(weights: list[float]) -> None:
    with pytest.raises(OptionsError, match="band_weights is"):
        WaveletLoss(weights)


@pytest.mark.parametrize(
    "build",
    [lambda: HuberLoss(0), lambda: PSNRLoss(0), lambda: FocalFrequencyLoss(-1)],
)
def test_arguments_out_of_range_are_refused(build) -> None:
    with pytest.raises(OptionsError, match="must be"):
        build()
