"""Reference values of the metrics, and the contract of every registered one."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from traiNNer.metrics.psnr_ssim import PSNR, SSIM
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.registry import METRICS

PHOTOS = {
    "astronaut": skimage.data.astronaut()[:128, 150:330],
    "chelsea": skimage.data.chelsea()[50:150, 100:301],
}


def pair(name: str, sigma: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy photograph and the photograph, (H, W, 3), uint8."""
    photo = PHOTOS[name]
    noisy = photo + np.random.default_rng(0).normal(0, sigma, photo.shape)
    return noisy.round().clip(0, 255).astype(np.uint8), photo


def to_tensor(photo: np.ndarray) -> Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1) / 255


def reference_input(photo: np.ndarray, border: int, *, y_channel: bool) -> np.ndarray:
    image = skimage.color.rgb2ycbcr(photo)[..., :1] / 255 if y_channel else photo / 255
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


@pytest.mark.parametrize("name", list(PHOTOS))
@pytest.mark.parametrize("y_channel", [False, True])
@pytest.mark.parametrize(("scale", "crop_border", "border"), [(4, None, 4), (2, 0, 0), (3, 7, 7)])
class TestReferenceValues:
    def test_psnr(self, name, y_channel, scale, crop_border, border):
        noisy, photo = pair(name)
        metric = PSNR(scale=scale, crop_border=crop_border, test_y_channel=y_channel)
        expected = peak_signal_noise_ratio(
            reference_input(photo, border, y_channel=y_channel),
            reference_input(noisy, border, y_channel=y_channel),
            data_range=1,
        )
        assert metric(to_tensor(noisy), to_tensor(photo)) == pytest.approx(expected, abs=1e-6)

    def test_ssim(self, name, y_channel, scale, crop_border, border):
        noisy, photo = pair(name)
        metric = SSIM(scale=scale, crop_border=crop_border, test_y_channel=y_channel)
        expected = structural_similarity(
            reference_input(photo, border, y_channel=y_channel),
            reference_input(noisy, border, y_channel=y_channel),
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        assert metric(to_tensor(noisy)[None], to_tensor(photo)[None]) == pytest.approx(
            expected, abs=1e-6
        )


def test_ssim_of_nearly_flat_images():
    """Variances far below the means, where low precision shows."""
    generator = np.random.default_rng(1)
    gt, sr = ((230 + generator.integers(0, 3, (64, 64, 3))).astype(np.uint8) for _ in range(2))
    expected = structural_similarity(
        gt / 255,
        sr / 255,
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1,
    )
    assert SSIM(scale=1, crop_border=0)(to_tensor(sr), to_tensor(gt)) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.gpu
@pytest.mark.parametrize("y_channel", [False, True])
def test_the_gpu_measures_the_same(y_channel):
    noisy, photo = (to_tensor(image) for image in pair("chelsea"))
    for entry in (PSNR, SSIM):
        metric = entry(scale=4, test_y_channel=y_channel)
        assert metric(noisy.cuda(), photo.cuda()) == pytest.approx(metric(noisy, photo), abs=1e-5)


def test_identical_images():
    image = to_tensor(PHOTOS["chelsea"])
    assert PSNR(scale=4)(image, image) == math.inf
    assert SSIM(scale=4)(image, image) == pytest.approx(1, abs=1e-12)


def test_half_precision_and_gray():
    noisy, photo = (to_tensor(image) for image in pair("chelsea"))
    assert PSNR(scale=4)(noisy.half(), photo) == pytest.approx(
        PSNR(scale=4)(noisy, photo), abs=0.01
    )
    assert SSIM(scale=4)(noisy[:1], photo[:1]) < 1


def test_ms_ssim_is_that_of_torchmetrics() -> None:
    photo = to_tensor(skimage.data.astronaut()[:200, 100:320])[None]
    noisy = photo + 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    expected = multiscale_structural_similarity_index_measure(noisy, photo, data_range=1.0)
    value = METRICS["ms_ssim"](scale=4, crop_border=0)(noisy, photo)
    assert value == pytest.approx(expected.item(), abs=1e-4)
    assert METRICS["ms_ssim"](scale=4)(photo, photo) == pytest.approx(1)


@pytest.mark.parametrize("name", ["psnr", "ssim", "ms_ssim"])
class TestContract:
    def test_facts_and_signature(self, name):
        entry = METRICS[name]
        assert entry.better in ("higher", "lower")
        assert isinstance(entry.unit, str)
        parameters = inspect.signature(entry).parameters
        assert list(parameters) == ["scale", "crop_border", "test_y_channel"]
        for argument in parameters:
            assert f"\n    {argument}: " in (inspect.getdoc(entry) or "")

    def test_alias(self, name):
        assert METRICS[f"calculate_{name}"] is METRICS[name]

    def test_worse_images_score_worse(self, name):
        metric = METRICS[name](scale=4)
        little, much = (metric(*map(to_tensor, pair("chelsea", sigma))) for sigma in (5, 25))
        assert (little > much) == (metric.better == "higher")

    def test_quantises_nothing(self, name):
        image = to_tensor(PHOTOS["chelsea"])
        metric = METRICS[name](scale=4)
        assert metric((image + 0.4 / 255).clamp(0, 1), image) != metric(image, image)

    def test_messages(self, name):
        metric = METRICS[name](scale=4)
        with pytest.raises(
            DataError, match="cropping 4 pixels on each side leaves nothing of a 8x20 image"
        ):
            metric(torch.zeros(3, 8, 20), torch.zeros(3, 8, 20))
        with pytest.raises(
            DataError, match=r"\(3, 40, 40\) and the target \(3, 40, 44\) differ in shape"
        ):
            metric(torch.zeros(3, 40, 40), torch.zeros(3, 40, 44))
        with pytest.raises(DataError, match=r"one image, .* got shape \(2, 3, 40, 40\)"):
            metric(torch.zeros(2, 3, 40, 40), torch.zeros(2, 3, 40, 40))
        with pytest.raises(OptionsError, match="crop_border must be 0 or more pixels, got -1"):
            METRICS[name](scale=4, crop_border=-1)


def test_ssim_needs_a_window():
    with pytest.raises(DataError, match=r"at least 11x11 pixels, got 10x20 after cropping 4"):
        SSIM(scale=4)(torch.zeros(3, 18, 28), torch.zeros(3, 18, 28))
