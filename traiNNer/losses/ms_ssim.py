"""Multi-scale structural similarity as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import LOSSES

# The constants of Wang et al., "Image quality assessment", 2004: side of the window in pixels, its
# spread, and what keeps divisions by small means and variances stable.
WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
# Finest scale first; Wang et al., 2003, figure 3.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Least similarity of a scale: roots of it have a finite gradient (below 300 for the smallest
# weight).
FLOOR = 1e-4


@LOSSES.register("ms_ssim", aliases=("mssim", "mssim_loss", "ms_ssim_loss"))
class MSSSIMLoss(PairLoss):
    """1 - MS-SSIM, in [0, 1].

    Contrast and structure are compared on five scales, luminance on the coarsest, each a mean over
    all channels. Gaussian windows lie within the image, but for the coarsest scale: there the image
    is reflected, so that all of the few pixels left count. Five scales need sides of 176 pixels;
    smaller images use as many scales as leave a window of 11 pixels (88: four, 44: three, 22: two),
    whose weights are renormalised to sum to one. A scale of negative similarity counts as 1e-4 and
    has no gradient.

    Source: Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality
    assessment", 2003.
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        window = torch.exp(-0.5 * (offsets / SIGMA).square())
        self.register_buffer("window", (window / window.sum()).float(), persistent=False)

    @property
    def min_side(self) -> int:
        return WINDOW

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is shorter than a window.
        """
        weights = _scale_weights(sr)
        similarity = sr.new_ones(sr.shape[0])
        for index, weight in enumerate(weights):
            coarsest = index == len(weights) - 1
            if index:
                sr = F.avg_pool2d(sr, 2)
                gt = F.avg_pool2d(gt, 2)
            if coarsest:
                border = [WINDOW // 2] * 4
                sr = F.pad(sr, border, mode="reflect")
                gt = F.pad(gt, border, mode="reflect")
            level = self.compare_scale(sr, gt, with_luminance=coarsest)
            similarity = similarity * level.clamp(min=FLOOR) ** weight
        return 1.0 - similarity.mean()

    def compare_scale(self, sr: Tensor, gt: Tensor, *, with_luminance: bool) -> Tensor:
        """Mean similarity of each image in the windows that lie within it, (B,)."""
        # Variances do not depend on the level, but as small differences of large squares their
        # precision does.
        level = gt.detach().mean(dim=(2, 3), keepdim=True)
        sr = sr - level
        gt = gt - level
        moments = self._blur(torch.cat((sr, gt, sr * sr, gt * gt, sr * gt), dim=1))
        sr_mean, gt_mean, sr_square, gt_square, product = moments.chunk(5, dim=1)
        covariance = product - sr_mean * gt_mean
        variances = (sr_square - sr_mean.square()) + (gt_square - gt_mean.square())
        similarity = (2 * covariance + C2) / (variances + C2)
        if with_luminance:
            sr_mean = sr_mean + level
            gt_mean = gt_mean + level
            similarity = (
                similarity
                * (2 * sr_mean * gt_mean + C1)
                / (sr_mean.square() + gt_mean.square() + C1)
            )
        return similarity.mean(dim=(1, 2, 3))

    def _blur(self, maps: Tensor) -> Tensor:
        """Gaussian means over the windows that lie within the maps, (B, C, H - 10, W - 10).

        All maps go through one depthwise convolution in contiguous memory, a case in which
        PyTorch's own CUDA kernel computes in full float32; cuDNN would round the squares to
        TensorFloat-32.
        """
        channels = maps.shape[1]
        window = self.window.to(maps.device).expand(channels, 1, WINDOW)
        maps = F.conv2d(maps.contiguous(), window[..., None].contiguous(), groups=channels)
        return F.conv2d(maps, window[:, :, None].contiguous(), groups=channels)


def _scale_weights(image: Tensor) -> tuple[float, ...]:
    """The weights of the scales that fit, finest first."""
    height, width = image.shape[-2:]
    if min(height, width) < WINDOW:
        raise DataError(
            f"ms_ssim needs images of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}; "
            "use a larger lq_size or drop this loss"
        )
    # Each scale halves the sides, so n scales need 2^(n - 1) windows.
    scales = min(len(SCALE_WEIGHTS), (min(height, width) // WINDOW).bit_length())
    if scales == len(SCALE_WEIGHTS):
        return SCALE_WEIGHTS
    total = sum(SCALE_WEIGHTS[:scales])
    return tuple(weight / total for weight in SCALE_WEIGHTS[:scales])
