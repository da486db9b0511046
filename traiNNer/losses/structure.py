"""Losses that compare structure rather than single pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.ms_ssim import MSSSIMLoss
from traiNNer.losses.pixel import PairLoss
from traiNNer.ops.color import rgb_to_y
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES


@LOSSES.register("ssim", aliases=("SSIMLoss", "ssim_loss"))
class SSIMLoss(MSSSIMLoss):
    """1 - SSIM, in [0, 2]: luminance, contrast and structure in Gaussian windows of 11 pixels that
    lie within the image, a mean over all channels.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity",
    2004.
    """

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is shorter than a window.
        """
        self.require_side(sr)
        return 1.0 - self.compare_scale(sr, gt, with_luminance=True).mean()


@LOSSES.register("ncc", aliases=("NCCLoss", "ncc_loss"))
class NCCLoss(PairLoss):
    """1 less the correlation of output and target over the pixels of each channel, in [0, 2]: it
    looks at structure and not at brightness or contrast.

    Args:
        eps: variance below which a channel is flat, and has no structure to compare.
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        if eps <= 0:
            raise OptionsError(f"eps is {eps}; expected more than 0")
        self.eps = eps

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        sr = sr - sr.mean(dim=(2, 3), keepdim=True)
        gt = gt - gt.mean(dim=(2, 3), keepdim=True)
        covariance = (sr * gt).mean(dim=(2, 3)) + self.eps
        variances = (sr.square().mean(dim=(2, 3)) + self.eps) * (
            gt.square().mean(dim=(2, 3)) + self.eps
        )
        return (1 - covariance / variances.sqrt()).mean()


@LOSSES.register("gradient_variance", aliases=("GradientVarianceLoss", "gv", "gv_loss"))
class GradientVarianceLoss(PairLoss):
    """How far the variances of the gradients of luma are apart, patch by patch: where GT has fine
    structure they are large, and a smooth output lacks them.

    Source: Abrahamyan et al., "Gradient variance loss for structure-enhanced image
    super-resolution", 2022.

    Args:
        patch_size: side of the patches in pixels of GT; what is left at the right and below counts
            in none.
    """

    kernels: Tensor

    def __init__(self, patch_size: int = 8) -> None:
        super().__init__()
        if patch_size < 2:
            raise OptionsError(f"patch_size is {patch_size}; expected at least 2")
        self.patch_size = patch_size
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        self.register_buffer("kernels", torch.stack([across, across.T])[:, None], persistent=False)

    @property
    def min_side(self) -> int:
        # The kernels lose a pixel at each border.
        return self.patch_size + 2

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is shorter than a patch and the kernels' border.
        """
        self.require_side(sr)
        return F.mse_loss(self._variances(sr), self._variances(gt))

    def _variances(self, image: Tensor) -> Tensor:
        """Of the gradients across and down, in each patch: (B, 2, patches)."""
        luma = rgb_to_y(image) if image.shape[1] == 3 else image.mean(1, keepdim=True)
        gradients = F.conv2d(luma, self.kernels.to(image.device))
        side = self.patch_size
        patches = F.unfold(gradients, side, stride=side)
        return patches.unflatten(1, (2, side * side)).var(dim=2)
