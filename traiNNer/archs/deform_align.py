"""Neighbouring frames bent onto the centre one, and fused: EDVR (Wang et al., 2019), much
reduced.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DeformConv2d, deform_conv2d

from traiNNer.archs.clips import require_centre, require_clip

# Places that a 3x3 kernel looks at.
_TAPS = 9
# Pixels of its level by which an alignment can move a tap: unbounded offsets make the training of
# EDVR fail.
_REACH = 10.0


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class _ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what goes in. `(B, C, H, W)` to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Alignment(nn.Module):
    """Samples a frame's features where the centre's content is in it, by a modulated deformable
    convolution.

    Args:
        channels: of the features.
        groups: of the channels that move together.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.compare = nn.Sequential(
            _convolution(2 * channels, channels),
            nn.LeakyReLU(0.1, inplace=True),
            _convolution(channels, channels),
        )
        # For each tap and group two coordinates and a weight.
        self.where = nn.Sequential(nn.LeakyReLU(0.1), _convolution(channels, 3 * _TAPS * groups))
        self.sample = DeformConv2d(channels, channels, 3, padding=1)
        last = self.where[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        # A start near the plain convolution, from which gradients reach all that decides where to
        # look.
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def forward(
        self, frame: Tensor, centre: Tensor, coarse: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Features `(B, C, H, W)` of both and the coarser level's offsets, to the aligned features
        and the offsets.
        """
        guess = self.where(self.compare(torch.cat([frame, centre], 1)))
        moves, weights = guess.split([2 * _TAPS * self.groups, _TAPS * self.groups], 1)
        # The operation has no half precision on every device, and positions need more of it than
        # bf16 has.
        with torch.autocast(frame.device.type, enabled=False):
            offsets = _REACH * torch.tanh(moves.float())
            if coarse is not None:
                # A move by one pixel at half the size is one by two pixels here.
                doubled = 2 * functional.interpolate(
                    coarse, size=offsets.shape[-2:], mode="bilinear"
                )
                offsets = offsets + doubled
            kernel = self.sample.weight.float()
            bias = self.sample.bias
            assert bias is not None
            aligned = deform_conv2d(
                frame.float(),
                offsets,
                kernel,
                bias.float(),
                padding=(1, 1),
                mask=torch.sigmoid(weights.float()),
            )
        return aligned.to(frame.dtype), offsets


class DeformAlign(nn.Module):
    """Aligns every frame's features to the centre's at half and full size, fuses them, and refines
    the centre frame.

    Left out of EDVR are its third level, its attention over time and space, and the deblurring in
    front; offsets are bounded, the network computes at the low resolution up to its end, and adds
    its output to the bicubic centre frame.

    Args:
        num_feat: channels inside.
        num_extract: residual blocks that see one frame.
        num_blocks: residual blocks that see the fused frames.
        deform_groups: groups of the channels, each of which is moved by itself; a divisor of
            num_feat.
        frames: consecutive frames that it sees, an odd number. It makes the one in the middle.
        upscale: factor between output and input sides.

    Raises:
        ValueError: for an even number of frames, and groups that do not divide the channels.
    """

    def __init__(
        self,
        *,
        num_feat: int = 32,
        num_extract: int = 1,
        num_blocks: int = 6,
        deform_groups: int = 4,
        frames: int = 5,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        self.frames = require_centre(frames)
        self.upscale = upscale
        if deform_groups < 1 or num_feat % deform_groups:
            raise ValueError(
                f"num_feat ({num_feat}) is no multiple of deform_groups ({deform_groups})"
            )
        # It has no weights, so one object may be in several places.
        rectifier = nn.LeakyReLU(0.1, inplace=True)
        blocks = [_ResidualBlock(num_feat) for _ in range(num_extract)]
        self.extract = nn.Sequential(_convolution(3, num_feat), rectifier, *blocks)
        self.shrink = nn.Sequential(_convolution(num_feat, num_feat, stride=2), rectifier)
        self.align_half = _Alignment(num_feat, deform_groups)
        self.align_full = _Alignment(num_feat, deform_groups)
        self.merge = nn.Conv2d(2 * num_feat, num_feat, 1)
        self.fuse = nn.Conv2d(frames * num_feat, num_feat, 1)
        self.refine = nn.Sequential(*(_ResidualBlock(num_feat) for _ in range(num_blocks)))
        self.enlarge = nn.Sequential(
            _convolution(num_feat, 3 * upscale**2), nn.PixelShuffle(upscale)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, frames, 3, H, W)` to the centre frame, `(B, 3, H * upscale, W * upscale)`."""
        require_clip(x, self.frames)
        full = self.extract(x.flatten(0, 1))
        half = self.shrink(full)
        full = full.unflatten(0, x.shape[:2])
        half = half.unflatten(0, x.shape[:2])
        # One frame at a time: the operation's scratch memory grows with what it is given at once.
        aligned = [self._align(full, half, frame) for frame in range(self.frames)]
        detail = self.enlarge(self.refine(self.fuse(torch.cat(aligned, 1))))
        centre = x[:, self.frames // 2]
        # At scale 1 interpolation would return the same values, and cost a copy.
        if self.upscale > 1:
            centre = functional.interpolate(centre, scale_factor=self.upscale, mode="bicubic")
        return centre + detail

    def _align(self, full: Tensor, half: Tensor, frame: int) -> Tensor:
        """The features of one frame at the places of the centre's, `(B, C, H, W)`; `full` and
        `half` are of all.
        """
        centre = self.frames // 2
        coarse, offsets = self.align_half(half[:, frame], half[:, centre], None)
        fine, _ = self.align_full(full[:, frame], full[:, centre], offsets)
        coarse = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        return functional.leaky_relu(self.merge(torch.cat([fine, coarse], 1)), 0.1)
