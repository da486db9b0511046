"""SSIM at several scales."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from traiNNer.metrics.psnr_ssim import WINDOW, FidelityMetric
from traiNNer.utils.registry import LOSSES, METRICS


@METRICS.register("ms_ssim", aliases=("calculate_ms_ssim",))
class MSSSIM(FidelityMetric):
    """Structural similarity at five scales, in [0, 1]: 1 less the loss of the same name, in
    float64. Sides below 176 pixels have fewer scales.

    Source: Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality
    assessment", 2003.

    Args:
        scale: factor of the network, given by the program.
        crop_border: pixels to leave out on each side; by default as many as the scale.
        test_y_channel: measure the Y channel (BT.601, studio swing) instead of RGB.

    Raises:
        OptionsError: if crop_border is negative.
    """

    window = WINDOW

    def __init__(
        self, *, scale: int, crop_border: int | None = None, test_y_channel: bool = False
    ) -> None:
        super().__init__(scale=scale, crop_border=crop_border, test_y_channel=test_y_channel)
        loss: Any = LOSSES["ms_ssim"]()
        self._loss = loss.double()

    @torch.no_grad()
    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """MS-SSIM of one image.

        Args:
            sr: (C, H, W) or (1, C, H, W), in [0, 1].
            gt: the target, of the same shape.

        Raises:
            DataError: if the shapes differ or do not fit, or the border leaves less than a window.
        """
        sr, gt = self._prepare_pair(sr, gt)
        self._require_side(sr, WINDOW)
        return 1.0 - float(self._loss.compare(sr[None], gt[None]))
