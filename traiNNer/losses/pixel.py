"""Losses that compare pixel by pixel, and the frame of every loss of two images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.registry import LOSSES


class PairLoss(nn.Module):
    """A loss of an output and its target, computed in float32 also under autocast. Entries
    implement `compare`, and `min_side` where they cannot take every patch.
    """

    # Without it the signature would be nn.Module's, which seems to take any option.
    def __init__(self) -> None:
        super().__init__()

    @property
    def min_side(self) -> int:
        """Pixels that each side of an output must have at least."""
        return 1

    def require_side(self, image: Tensor) -> None:
        """Refuse what is smaller than `min_side`.

        Raises:
            DataError: saying how large it is.
        """
        height, width = image.shape[-2:]
        side = self.min_side
        if min(height, width) < side:
            raise DataError(
                f"{type(self).__name__} needs images of at least {side}x{side} pixels, got "
                f"{height}x{width}; use a larger lq_size or drop this loss"
            )

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The loss as a float32 scalar.

        Args:
            sr: (B, C, H, W), the network's output, in [0, 1] but for overshoot, any floating dtype.
            gt: the target, of the same shape.

        Raises:
            DataError: if the shapes differ.
        """
        if sr.shape != gt.shape:
            raise DataError(
                f"the network's output {tuple(sr.shape)} and the target {tuple(gt.shape)} differ "
                "in shape; check that the scale of the network is that of the dataset"
            )
        # Differences of nearly equal values are what half precision loses first.
        with torch.autocast(device_type=sr.device.type, enabled=False):
            return self.compare(sr.float(), gt.float())

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The loss of two float32 images (B, C, H, W), a scalar; zero when they are equal."""
        raise NotImplementedError


@LOSSES.register("l1", aliases=("L1Loss",))
class L1Loss(PairLoss):
    """Mean absolute difference."""

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        return F.l1_loss(sr, gt)


@LOSSES.register("mse", aliases=("MSELoss", "l2", "L2Loss"))
class MSELoss(PairLoss):
    """Mean squared difference."""

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        return F.mse_loss(sr, gt)


@LOSSES.register("charbonnier", aliases=("CharbonnierLoss",))
class CharbonnierLoss(PairLoss):
    """Mean of sqrt(d^2 + eps^2) - eps: an L1 that is smooth around zero.

    The constant eps is taken off, so that equal images have a loss of zero; the gradient is that of
    the usual form.

    Source: Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
    computed imaging", 1994; in super-resolution Lai et al., "Deep Laplacian Pyramid Networks",
    2017.

    Args:
        eps: difference, in units of the [0, 1] range, below which the loss is quadratic rather than
            linear; above 0.

    Raises:
        OptionsError: if eps is not above 0.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        if eps <= 0:
            raise OptionsError(
                f"charbonnier: eps must be above 0, got {eps}; use the l1 loss for no smoothing"
            )
        self.eps = eps

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        squared = (sr - gt).square()
        # The same as sqrt(d^2 + eps^2) - eps, without the cancellation.
        return (squared / (torch.sqrt(squared + self.eps**2) + self.eps)).mean()
