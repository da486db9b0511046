"""Discriminators: they tell what a network made from what a camera saw, place by place.

Importing this module registers them. They take pictures (B, 3, H, W) in 0..1 and return logits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses
from torch.nn.utils import spectral_norm

from traiNNer.utils.registry import DISCRIMINATORS

# The slope of all papers.
_SLOPE = 0.2
# Pixels of a side behind five halvings of 128.
_VGG_SIDE = 4


@DISCRIMINATORS.register("unet_sn", aliases=("UNetDiscriminatorSN", "unet"))
class UNetDiscriminator(nn.Module):
    """A U-Net with spectral norms, which judges every pixel. Its weights have the names of
    Real-ESRGAN's.

    Source: Wang et al., "Real-ESRGAN", 2021 (arXiv 2107.10833); Schoenfeld et al., "A U-Net based
    discriminator for generative adversarial networks", 2020.

    Args:
        num_feat: channels of the first convolution; the widest has eight times as many.
        skip_connection: add what was on the way down on the way up.
    """

    min_side: ClassVar[int] = 8
    """Pixels that each side of a picture must have at least: three halvings leave one."""

    def __init__(self, num_feat: int = 64, skip_connection: bool = True) -> None:
        super().__init__()
        self.skip_connection = skip_connection
        widths = [num_feat, 2 * num_feat, 4 * num_feat, 8 * num_feat]
        self.conv0 = nn.Conv2d(3, num_feat, 3, padding=1)
        self.conv1 = _halving(widths[0], widths[1])
        self.conv2 = _halving(widths[1], widths[2])
        self.conv3 = _halving(widths[2], widths[3])
        self.conv4 = _plain(widths[3], widths[2])
        self.conv5 = _plain(widths[2], widths[1])
        self.conv6 = _plain(widths[1], widths[0])
        self.conv7 = _plain(num_feat, num_feat)
        self.conv8 = _plain(num_feat, num_feat)
        self.conv9 = nn.Conv2d(num_feat, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 1, H, W)`."""
        down = [_bent(self.conv0(x))]
        for halving in (self.conv1, self.conv2, self.conv3):
            down.append(_bent(halving(down[-1])))
        up = down.pop()
        for conv in (self.conv4, self.conv5, self.conv6):
            beside = down.pop()
            # To the size of what is beside it: sides need not be multiples of eight.
            enlarged = F.interpolate(
                up, size=beside.shape[-2:], mode="bilinear", align_corners=False
            )
            up = _bent(conv(enlarged))
            up = up + beside if self.skip_connection else up
        return self.conv9(_bent(self.conv8(_bent(self.conv7(up)))))


@DISCRIMINATORS.register("patchgan", aliases=("PatchGANDiscriminatorSN", "NLayerDiscriminator"))
class PatchDiscriminator(nn.Module):
    """Judges overlapping patches, 70 pixels wide with three layers.

    Source: Isola et al., "Image-to-image translation with conditional adversarial networks"
    (pix2pix), 2017 (arXiv 1611.07004).

    Args:
        num_feat: channels of the first convolution.
        num_layers: halvings.
        norm: spectral norm of the weights, batch norm as in the paper, or none.
    """

    min_side: ClassVar[int] = 32
    """Pixels that each side of a picture must have at least, with three layers."""

    def __init__(self, num_feat: int = 64, num_layers: int = 3, norm: str = "spectral") -> None:
        super().__init__()
        if norm not in ("spectral", "batch", "none"):
            raise ValueError(f"norm is {norm!r}; there are: spectral, batch, none")
        layers: list[nn.Module] = [nn.Conv2d(3, num_feat, 4, stride=2, padding=1), _leaky()]
        width = num_feat
        for number in range(1, num_layers + 1):
            # Wider up to eight times; the last of them does not halve.
            wider = num_feat * min(2**number, 8)
            stride = 2 if number < num_layers else 1
            layers += [*_normed(width, wider, stride, norm), _leaky()]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 1, h, w)`, one for each patch."""
        return self.body(x)


@DISCRIMINATORS.register("multiscale_patchgan", aliases=("MultiscaleDiscriminator",))
class MultiscalePatchDiscriminator(nn.Module):
    """Several `patchgan`, each of which sees the picture at half of the size of the one before.

    Source: Wang et al., "High-resolution image synthesis and semantic manipulation with conditional
    GANs" (pix2pixHD), 2018 (arXiv 1711.11585).

    Args:
        num_feat: channels of each one's first convolution.
        num_layers: halvings of each one.
        num_scales: how many there are.
        norm: as of `patchgan`.
    """

    def __init__(
        self, num_feat: int = 64, num_layers: int = 3, num_scales: int = 2, norm: str = "spectral"
    ) -> None:
        super().__init__()
        if num_scales < 1:
            raise ValueError(f"num_scales is {num_scales}; it is 1 or more")
        self.scales = nn.ModuleList(
            PatchDiscriminator(num_feat, num_layers, norm) for _ in range(num_scales)
        )

    @staticmethod
    def least_side(num_scales: int = 2, **others: object) -> int:
        """Pixels that each side of a picture must have at least: the last one sees it smallest."""
        del others
        return PatchDiscriminator.min_side * 2 ** (num_scales - 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, num_scales, h, w)`: those of smaller pictures are repeated
        to as many as the first has, so that all scales weigh the same.
        """
        logits: list[Tensor] = []
        for number, scale in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            logits.append(scale(x))
        size = logits[0].shape[-2:]
        return torch.cat([F.interpolate(each, size=size) for each in logits], dim=1)


@DISCRIMINATORS.register("vgg", aliases=("VGGStyleDiscriminator", "VGGStyleDiscriminator128"))
class VGGDiscriminator(nn.Module):
    """Judges the picture as a whole. Its weights have the names of BasicSR's for pictures of 128
    pixels; others are brought to the size of its last layers by a mean over places.

    Source: Ledig et al., "Photo-realistic single image super-resolution using a GAN" (SRGAN), 2017
    (arXiv 1609.04802), as ESRGAN has it (arXiv 1809.00219).

    Args:
        num_feat: channels of the first convolution; the widest has eight times as many.
    """

    min_side: ClassVar[int] = 32
    """Pixels that each side of a picture must have at least: five halvings leave one."""

    def __init__(self, num_feat: int = 64) -> None:
        super().__init__()
        widths = [3, *(num_feat * factor for factor in (1, 2, 4, 8, 8))]
        for stage, (width, wider) in enumerate(pairwise(widths)):
            # The very first one has a bias, and no norm behind it.
            first = nn.Conv2d(width, wider, 3, padding=1, bias=not stage)
            self.add_module(f"conv{stage}_0", first)
            if stage:
                self.add_module(f"bn{stage}_0", nn.BatchNorm2d(wider))
            halving = nn.Conv2d(wider, wider, 4, stride=2, padding=1, bias=False)
            self.add_module(f"conv{stage}_1", halving)
            self.add_module(f"bn{stage}_1", nn.BatchNorm2d(wider))
        self.linear1 = nn.Linear(widths[-1] * _VGG_SIDE**2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 1)`."""
        layers = dict(self.named_children())
        for stage in range(5):
            for half in (0, 1):
                x = layers[f"conv{stage}_{half}"](x)
                norm = layers.get(f"bn{stage}_{half}")
                x = _bent(x if norm is None else norm(x))
        x = F.adaptive_avg_pool2d(x, _VGG_SIDE).flatten(1)
        return self.linear2(_bent(self.linear1(x)))


def _halving(width: int, wider: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(width, wider, 4, stride=2, padding=1, bias=False))


def _plain(width: int, narrower: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(width, narrower, 3, padding=1, bias=False))


def _normed(width: int, wider: int, stride: int, norm: str) -> list[nn.Module]:
    # A batch norm brings a bias of its own.
    conv = nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=norm != "batch")
    if norm == "spectral":
        return [spectral_norm(conv)]
    return [conv, nn.BatchNorm2d(wider)] if norm == "batch" else [conv]


def _leaky() -> nn.Module:
    return nn.LeakyReLU(_SLOPE)


def _bent(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)
