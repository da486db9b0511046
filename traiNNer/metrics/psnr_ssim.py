"""PSNR and SSIM as super-resolution papers report them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from traiNNer.ops.color import crop_border as crop
from traiNNer.ops.color import rgb_to_y
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.registry import METRICS

# The constants of Wang et al., 2004: side of the window in pixels, its spread, and what keeps
# divisions by small means and variances stable.
WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
# Rows that are measured at once: a dozen float64 planes of 4K's width take 100 MB.
BAND = 256


class FidelityMetric:
    """What all metrics of two pictures have in common: the border, the Y channel, the checks.

    Computed in float64: in flat areas SSIM divides small differences of large numbers, and float32
    costs it 2e-4. Nothing is quantised here: to measure what a saved image is worth, pass it
    through `traiNNer.ops.color.quantize`.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""
    window: ClassVar[int] = 1
    temporal: ClassVar[bool] = False

    def __init__(
        self, *, scale: int, crop_border: int | None = None, test_y_channel: bool = False
    ) -> None:
        if crop_border is not None and crop_border < 0:
            raise OptionsError(
                f"crop_border must be 0 or more pixels, got {crop_border}; leave it out for the "
                "scale"
            )
        # As papers do: networks know too little at the edges, and less the larger the scale.
        self.border = scale if crop_border is None else crop_border
        self.test_y_channel = test_y_channel

    @property
    def min_side(self) -> int:
        """Pixels that each side of an image must have at least."""
        return self.window + 2 * self.border

    def _inner(self, image: Tensor) -> Tensor:
        """One image without its border, (C, H, W)."""
        if image.ndim == 4 and image.shape[0] == 1:
            image = image[0]
        if image.ndim != 3:
            raise DataError(
                f"metrics take one image, (C, H, W) or (1, C, H, W), got shape {tuple(image.shape)}"
            )
        # Apple's GPUs have no double precision.
        if image.device.type == "mps":
            image = image.cpu()
        return crop(image, self.border)

    def _inner_pair(self, sr: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """Both images without their borders."""
        inner_sr = self._inner(sr)
        inner_gt = self._inner(gt)
        if inner_sr.shape != inner_gt.shape:
            raise DataError(
                f"the output {tuple(sr.shape)} and the target {tuple(gt.shape)} differ in shape; "
                "check that the GT image is the LQ image times the scale"
            )
        return inner_sr, inner_gt

    def _require_side(self, inner: Tensor, side: int) -> None:
        """Refuse an image without its border that is smaller than `side` pixels."""
        height, width = inner.shape[-2:]
        if min(height, width) < side:
            raise DataError(
                f"{type(self).__name__} needs at least {side}x{side} pixels, got {height}x{width} "
                f"after cropping {self.border} on each side; use a larger image or a smaller "
                "crop_border"
            )

    def _measured(self, image: Tensor) -> Tensor:
        """What is measured of an image without its border: float64, Y alone if only that is."""
        return rgb_to_y(image.double()) if self.test_y_channel else image.double()

    def _prepare_pair(self, sr: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
        """What is measured of both images without their borders, whole."""
        inner_sr, inner_gt = self._inner_pair(sr, gt)
        return self._measured(inner_sr), self._measured(inner_gt)

    def _bands(self, sr: Tensor, gt: Tensor, overlap: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """What is measured of both images without their borders, in bands of rows: float64 copies
        of a whole large picture may be more than the memory has left.

        Args:
            sr: (C, H, W), without its border.
            gt: the same.
            overlap: rows of a band that are the first of the next one too.
        """
        for top in range(0, sr.shape[-2] - overlap, BAND):
            rows = slice(top, top + BAND + overlap)
            yield self._measured(sr[..., rows, :]), self._measured(gt[..., rows, :])


@METRICS.register("psnr", aliases=("calculate_psnr",))
class PSNR(FidelityMetric):
    """Peak signal-to-noise ratio for a peak of 1, over all channels together; `inf` for identical
    images.

    Args:
        scale: factor of the network, given by the program.
        crop_border: pixels to leave out on each side; by default as many as the scale.
        test_y_channel: measure the Y channel (BT.601, studio swing) instead of RGB.

    Raises:
        OptionsError: if crop_border is negative.
    """

    unit = "dB"

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """PSNR of one image in dB.

        Args:
            sr: (C, H, W) or (1, C, H, W), in [0, 1].
            gt: the target, of the same shape.

        Raises:
            DataError: if the shapes differ or do not fit, or the border leaves nothing.
        """
        sr, gt = self._inner_pair(sr, gt)
        errors = [_squared_error(*band) for band in self._bands(sr, gt)]
        values = gt[0].numel() * (1 if self.test_y_channel else gt.shape[0])
        return -10.0 * torch.log10(torch.stack(errors).sum() / values).item()


@METRICS.register("ssim", aliases=("calculate_ssim",))
class SSIM(FidelityMetric):
    """Structural similarity, in [-1, 1], as the mean over all channels and all windows within the
    image.

    Gaussian windows of 11 pixels with sigma 1.5.
    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity",
    2004.

    Args:
        scale: factor of the network, given by the program.
        crop_border: pixels to leave out on each side; by default as many as the scale.
        test_y_channel: measure the Y channel (BT.601, studio swing) instead of RGB.

    Raises:
        OptionsError: if crop_border is negative.
    """

    window = WINDOW

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """SSIM of one image.

        Args:
            sr: (C, H, W) or (1, C, H, W), in [0, 1].
            gt: the target, of the same shape.

        Raises:
            DataError: if the shapes differ or do not fit, or the border leaves less than a window.
        """
        sr, gt = self._inner_pair(sr, gt)
        self._require_side(sr, WINDOW)
        total = torch.zeros((), dtype=torch.float64, device=gt.device)
        windows = 0
        for band_sr, band_gt in self._bands(sr, gt, overlap=WINDOW - 1):
            for planes in zip(band_sr, band_gt, strict=True):
                similarity = _similarity(*planes)
                total += similarity.sum()
                windows += similarity.numel()
        return (total / windows).item()


def _squared_error(sr: Tensor, gt: Tensor) -> Tensor:
    """The sum over all pixels, a scalar."""
    return (sr - gt).square_().sum()


def _similarity(sr: Tensor, gt: Tensor) -> Tensor:
    """SSIM of each window of two planes (H, W)."""
    sr_mean = _blur(sr)
    gt_mean = _blur(gt)
    covariance = _blur(sr * gt) - sr_mean * gt_mean
    variances = _blur(sr.square() + gt.square()) - sr_mean.square() - gt_mean.square()
    contrast = (2 * covariance + C2) / (variances + C2)
    luminance = (2 * sr_mean * gt_mean + C1) / (sr_mean.square() + gt_mean.square() + C1)
    return luminance * contrast


def _blur(plane: Tensor) -> Tensor:
    """Gaussian means over the windows that lie within the plane, (H - 10, W - 10).

    A sum of shifted planes: on two CPU cores 30 times as fast as a float64 convolution, which
    unfolds the plane.
    """
    window = torch.exp(
        -0.5 * ((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) / SIGMA).square()
    )
    # Plain numbers, so that each multiplication needs no tensor of its own.
    weights = (window / window.sum()).tolist()
    for axis in (0, 1):
        length = plane.shape[axis] - WINDOW + 1
        total = plane.narrow(axis, 0, length) * weights[0]
        for shift in range(1, WINDOW):
            total.add_(plane.narrow(axis, shift, length), alpha=weights[shift])
        plane = total
    return plane
