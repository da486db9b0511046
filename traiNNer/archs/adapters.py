"""Networks of spandrel that need a small change before they can be trained the way they are used.

Every class keeps the parameters and the names of the weights of its base, so a checkpoint fits
either. Imported only when one of them is built, because it imports spandrel.
"""

from __future__ import annotations

from typing import Any

import torch
from spandrel.architectures.DRUNet import DRUNet as _DRUNet
from spandrel.architectures.FBCNN import FBCNN as _FBCNN
from spandrel.architectures.MixDehazeNet import MixDehazeNet as _MixDehazeNet
from spandrel.architectures.MMRealSR import MMRealSR as _MMRealSR
from spandrel.architectures.RCAN import RCAN as _RCAN
from spandrel.architectures.SPAN import SPAN as _SPAN
from spandrel.architectures.SPAN.__arch.span import Conv3XC
from spandrel.architectures.Uformer import Uformer as _Uformer
from torch import Tensor, nn
from torch.nn import functional

from traiNNer.utils.arithmetic import round_up

# The noise level that spandrel gives DRUNet as its fourth channel.
_DRUNET_NOISE_LEVEL = 15 / 255


class _FusedConvolution(Conv3XC):
    """SPAN's convolution: three in a row that are trained, and one fused from them for inference.

    The base fuses in every forward pass of the evaluation mode. For training that leaves three
    traps, closed here: the fused weights count as trainable but never get a gradient
    (DistributedDataParallel refuses such); a checkpoint written between two validations holds stale
    ones, and at the start of a training random ones, which converters to other formats read; and
    under autocast they are fused in half precision and stay half afterwards.
    """

    def update_params(self) -> None:
        """Fuse, in the precision of the trained weights whatever the surrounding autocast."""
        device = self.sk.weight.device.type
        # There is nothing to fuse while weights are only counted.
        if device == "meta":
            return
        with torch.no_grad(), torch.autocast(device, enabled=False):
            super().update_params()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.update_params()
        super()._save_to_state_dict(destination, prefix, keep_vars)


class SPAN(_SPAN):
    """SPAN whose fused convolutions, also in a saved checkpoint, follow the weights that are
    trained.

    It takes stacked frames too: the mean that the base subtracts is that of one image.
    """

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.mean = self.mean.repeat(1, max(1, self.in_channels // 3), 1, 1)
        for module in self.modules():
            if isinstance(module, Conv3XC):
                # The base makes them itself, so they cannot be made of our class.
                module.__class__ = _FusedConvolution
                module.eval_conv.requires_grad_(False)
                module.update_params()


class RCAN(_RCAN):
    """RCAN that leaves its input alone: the base multiplies the caller's tensor by 255 in place.

    It takes stacked frames too: the mean that the base subtracts and adds is that of one image.
    """

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        frames = parameters.get("n_colors", 3) // 3
        # Without a normalization the base has identities in their places.
        if frames > 1 and isinstance(self.sub_mean, nn.Conv2d):
            self.sub_mean = _for_frames(self.sub_mean, frames)
        if frames > 1 and isinstance(self.add_mean, nn.Conv2d):
            self.add_mean = _for_frames(self.add_mean, frames)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`."""
        return super().forward(x.clone())


def _for_frames(shift: nn.Conv2d, frames: int) -> nn.Conv2d:
    """A 1x1 convolution of one image's three channels, for each of `frames` images by itself."""
    wide = nn.Conv2d(3 * frames, 3 * frames, 1)
    assert shift.bias is not None
    assert wide.bias is not None
    with torch.no_grad():
        # A block of the mean of one image for each frame; frames do not see each other.
        wide.weight.copy_(torch.block_diag(*[shift.weight[:, :, 0, 0]] * frames)[..., None, None])
        wide.bias.copy_(shift.bias.repeat(frames))
    return wide


class FBCNN(_FBCNN):
    """FBCNN that returns the image alone; the base also returns the JPEG quality that it
    estimated.
    """

    # The base takes a quality to restore for, too.
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """`(B, 3, H, W)` to the same shape."""
        return super().forward(x)[0]


class MMRealSR(_MMRealSR):
    """MM-RealSR that returns the image alone; the base also returns the degradation that it
    estimated.
    """

    # The base takes a degradation, too.
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """`(B, 3, H, W)` to `(B, 3, 4 * H, 4 * W)`."""
        return super().forward(x)[0]


class MixDehazeNet(_MixDehazeNet):
    """MixDehazeNet with an output in 0..1 as spandrel reads it; the base's is in -1..1."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to the same shape."""
        return super().forward(x) * 0.5 + 0.5


class DRUNet(_DRUNet):
    """DRUNet for a fixed noise level: its fourth channel is the constant that spandrel gives it."""

    # The base calls the argument x0.
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """`(B, 3, H, W)` to the same shape."""
        # Of the three pairs the last is that of the channels: one more behind them.
        return super().forward(functional.pad(x, (0, 0, 0, 0, 0, 1), value=_DRUNET_NOISE_LEVEL))


class Uformer(_Uformer):
    """Uformer for any image: the base takes squares only, of a side that all its five levels cut
    into windows.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, 3, H, W)` to the same shape."""
        height, width = x.shape[-2:]
        # Four halvings of windows.
        multiple = 16 * int(self.hyperparameters["win_size"])
        side = round_up(max(height, width), multiple)
        right = side - width
        bottom = side - height
        # As spandrel pads: mirrored as far as there is an image to mirror, then repeated.
        mirror_right = min(right, width - 1)
        mirror_bottom = min(bottom, height - 1)
        padded = functional.pad(x, (0, mirror_right, 0, mirror_bottom), mode="reflect")
        padded = functional.pad(
            padded, (0, right - mirror_right, 0, bottom - mirror_bottom), mode="replicate"
        )
        return super().forward(padded, mask)[..., :height, :width]
