"""How much a video's frames change where they should not."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from traiNNer.metrics.psnr_ssim import FidelityMetric
from traiNNer.utils.registry import METRICS


@METRICS.register("flicker", aliases=("temporal_difference_error",))
class Flicker(FidelityMetric):
    """Mean absolute error, in levels of 0..255, of the change from one frame to the next.

    |(sr_t - sr_t-1) - (gt_t - gt_t-1)|, over all pixels and channels: 0 where the output moves as
    GT does, however far it is from it. It sees shimmering textures and pumping brightness, which
    PSNR of single frames does not. The first frame of a scene has no score.

    Args:
        scale: factor of the network, given by the program.
        crop_border: pixels to leave out on each side; by default as many as the scale.
        test_y_channel: measure the Y channel (BT.601, studio swing) instead of RGB.

    Raises:
        OptionsError: if crop_border is negative.
    """

    # Flicker is an error; the metrics beside it are likenesses.
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    temporal: ClassVar[bool] = True

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """Compare the change of `sr` with that of `gt`, both `(2, 3, H, W)` in 0..1: a frame and
        the one after it.
        """
        sr_before, gt_before = self._prepare_pair(sr[0], gt[0])
        sr_after, gt_after = self._prepare_pair(sr[1], gt[1])
        wrong = (sr_after - sr_before) - (gt_after - gt_before)
        # In the levels of a saved image, because a share of the range says nothing to the eye.
        return float(wrong.abs().mean() * 255)
