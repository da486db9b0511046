"""Distances that were fitted to what people see: LPIPS and DISTS, lower is better."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from traiNNer.metrics.psnr_ssim import FidelityMetric
from traiNNer.utils.registry import LOSSES, METRICS


class _LearnedMetric(FidelityMetric):
    """The loss of the same name, of one picture."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"

    def __init__(self, distance: nn.Module, *, scale: int, crop_border: int | None) -> None:
        super().__init__(scale=scale, crop_border=crop_border)
        self._distance = distance.requires_grad_(False)

    @property
    def min_side(self) -> int:
        """Pixels that each side of an image must have at least."""
        return cast("int", self._distance.min_side) + 2 * self.border

    @torch.no_grad()
    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """The distance of one image.

        Args:
            sr: (C, H, W) or (1, C, H, W), in [0, 1].
            gt: the target, of the same shape.

        Raises:
            DataError: if the shapes differ or do not fit, or the border leaves too little.
        """
        sr, gt = self._inner_pair(sr, gt)
        self._require_side(sr, self.min_side - 2 * self.border)
        distance = self._distance.to(sr.device)
        return float(distance(sr[None].float(), gt[None].float()))


@METRICS.register("lpips", aliases=("calculate_lpips",))
class LPIPS(_LearnedMetric):
    """Learned perceptual image patch similarity (version 0.1), 0 for identical pictures.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric",
    2018.

    Args:
        scale: factor of the network, given by the program.
        crop_border: pixels to leave out on each side; by default as many as the scale.
        backbone: alexnet, with which results are reported, or vgg16.
        weights: file of the backbone's weights as torchvision has them. Left out: the one in
            torchvision's cache. Nothing is fetched.

    Raises:
        OptionsError: if crop_border is negative, or there is no file of weights.
    """

    def __init__(
        self,
        *,
        scale: int,
        crop_border: int | None = None,
        backbone: Literal["alexnet", "vgg16"] = "alexnet",
        weights: str | None = None,
    ) -> None:
        distance = LOSSES["lpips"](backbone=backbone, weights=weights)
        super().__init__(distance, scale=scale, crop_border=crop_border)


@METRICS.register("dists", aliases=("calculate_dists",))
class DISTS(_LearnedMetric):
    """Deep image structure and texture similarity, 0 for identical pictures.

    Source: Ding et al., "Image quality assessment: unifying structure and texture similarity",
    2020.

    Args:
        scale: factor of the network, given by the program.
        crop_border: pixels to leave out on each side; by default as many as the scale.
        weights: file of vgg16's weights as torchvision has them. Left out: the one in torchvision's
            cache. Nothing is fetched.

    Raises:
        OptionsError: if crop_border is negative, or there is no file of weights.
    """

    def __init__(
        self, *, scale: int, crop_border: int | None = None, weights: str | None = None
    ) -> None:
        super().__init__(LOSSES["dists"](weights=weights), scale=scale, crop_border=crop_border)
