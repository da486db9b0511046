"""Losses of colour in spaces that are even to the eye."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import PairLoss
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import LOSSES

# Linear sRGB to XYZ, and the white of D65 in the plane u', v' of CIE 1976.
_XYZ = (
    (0.41239079926595, 0.35758433938387, 0.18048078840183),
    (0.21263900587151, 0.71516867876775, 0.072192315360733),
    (0.019330818715591, 0.11919477979462, 0.95053215224966),
)
_RGB = (
    (3.240969941904521, -1.537383177570093, -0.498610760293),
    (-0.96924363628087, 1.87596750150772, 0.041555057407175),
    (0.055630079696993, -0.20397695888897, 1.056971514242878),
)
_WHITE = (0.19783000664283, 0.46831999493879)
# Where CIE's lightness goes over from a line to a root, and the line's slope.
_KNEE = 0.0088564516790356308
_SLOPE = 903.2962962962963
# Linear sRGB to Oklab's cones, and their roots to Oklab (Ottosson, 2020).
_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
# Roots have no slope at nothing: less than this is black.
_DARK = 1e-4


def linear_light(image: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) as linear light; what is outside [0, 1] counts as the nearest end."""
    inside = image.clamp(0, 1)
    return torch.where(
        inside > 0.04045, ((inside.clamp(min=0.04) + 0.055) / 1.055) ** 2.4, inside / 12.92
    )


def _mixed(planes: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", planes.new_tensor(matrix), planes)


def oklab(image: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [0, 1] as Oklab: lightness in [0, 1], and two axes of colour."""
    cones = _mixed(linear_light(image), _CONES).clamp(min=_DARK**2)
    return _mixed(cones ** (1 / 3), _OKLAB)


def luv(image: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [0, 1] as CIE 1976 L* in [0, 100], u* and v*, of D65."""
    x, y, z = _mixed(linear_light(image), _XYZ).unbind(1)
    root = 116 * y.clamp(min=_KNEE) ** (1 / 3) - 16
    lightness = torch.where(y > _KNEE, root, _SLOPE * y)
    # Black has no colour, and a little light keeps it from dividing by nothing.
    total = x + 15 * y + 3 * z + _DARK
    u = 13 * lightness * ((4 * x + _DARK * _WHITE[0]) / total - _WHITE[0])
    v = 13 * lightness * ((9 * y + _DARK * _WHITE[1]) / total - _WHITE[1])
    return torch.stack([lightness, u, v], 1)


def lab(image: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [0, 1] as CIE 1976 L* in [0, 100], a* and b*, of D65."""
    white = [sum(row) for row in _XYZ]
    relative = _mixed(linear_light(image), _XYZ) / image.new_tensor(white).view(3, 1, 1)
    root = relative.clamp(min=_KNEE) ** (1 / 3)
    curve = torch.where(relative > _KNEE, root, (_SLOPE * relative + 16) / 116)
    x, y, z = curve.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def hsluv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sRGB (B, 3, H, W) in [0, 1] as HSLuv: the direction of the hue (B, 2, H, W), a unit vector;
    saturation and lightness (B, H, W) in [0, 100].

    HSLuv is CIE's LUV with a chroma in per cent of the largest that sRGB has at this lightness and
    hue (hsluv.org).
    """
    lightness, u, v = luv(image).unbind(1)
    chroma = (u.square() + v.square() + _DARK).sqrt()
    hue = torch.stack([u, v], 1) / chroma[:, None]
    safe = lightness.clamp(_DARK, 100 - _DARK)
    largest = _largest_chroma(safe, hue)
    inside = (lightness > 0.01) & (lightness < 99.99)
    saturation = torch.where(inside, 100 * chroma / largest.clamp(min=_DARK), 0)
    return hue, saturation.clamp(max=100), lightness


def _largest_chroma(lightness: Tensor, hue: Tensor) -> Tensor:
    """How far sRGB reaches: the nearest of six lines, at which a channel is 0 or 1."""
    cosine, sine = hue.unbind(1)
    cube = (lightness + 16) ** 3 / 1560896
    part = torch.where(cube > _KNEE, cube, lightness / _SLOPE)
    nearest = torch.full_like(lightness, float("inf"))
    for first, second, third in _RGB:
        for end in (0.0, 1.0):
            top = (284517 * first - 94839 * third) * part
            height = (838422 * third + 769860 * second + 731718 * first) * lightness * part
            height = height - 769860 * end * lightness
            below = (632260 * third - 126452 * second) * part + 126452 * end
            towards = sine * below - top * cosine
            length = height / torch.where(towards.abs() < 1e-9, 1e-9, towards)
            nearest = torch.where((length > 0) & (length < nearest), length, nearest)
    return nearest


@LOSSES.register("hsluv", aliases=("HSLuvLoss",))
class HsluvLoss(PairLoss):
    """Mean absolute differences of saturation and lightness in HSLuv, and how far hues are apart,
    each from 0 to 1. Hues count as much as the duller of the two colours is saturated: grey has
    none.

    Args:
        hue: weight of the hue.
        saturation: weight of the saturation.
        lightness: weight of the lightness.

    Raises:
        OptionsError: if a weight is negative, or all are 0.
    """

    def __init__(
        self, hue: float = 1 / 3, saturation: float = 1 / 3, lightness: float = 1 / 3
    ) -> None:
        super().__init__()
        if min(hue, saturation, lightness) < 0 or hue + saturation + lightness == 0:
            raise OptionsError("hsluv: weights are 0 or more, and one of them above 0")
        self.hue = hue
        self.saturation = saturation
        self.lightness = lightness

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        hue_sr, saturation_sr, lightness_sr = hsluv(sr)
        hue_gt, saturation_gt, lightness_gt = hsluv(gt)
        # Half of 1 - cos is a quarter of the squared chord, which is exactly 0 for equal hues.
        apart = (hue_sr - hue_gt).square().sum(1) / 4
        hue = apart * torch.minimum(saturation_sr, saturation_gt).detach() / 100
        saturation = F.l1_loss(saturation_sr, saturation_gt) / 100
        lightness = F.l1_loss(lightness_sr, lightness_gt) / 100
        weighted = self.saturation * saturation + self.lightness * lightness
        return self.hue * hue.mean() + weighted


@LOSSES.register("oklab", aliases=("OklabLoss",))
class OklabLoss(PairLoss):
    """Mean absolute difference in Oklab, in which equal distances look equally large.

    Source: Ottosson, "A perceptual color space for image processing", 2020.

    Args:
        chroma: weight of the two axes of colour, beside 1 for lightness.
    """

    def __init__(self, chroma: float = 1.0) -> None:
        super().__init__()
        self.chroma = chroma

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        difference = (oklab(sr) - oklab(gt)).abs()
        return difference[:, 0].mean() + self.chroma * difference[:, 1:].mean()


@LOSSES.register("consistency", aliases=("ConsistencyLoss", "color_consistency"))
class ConsistencyLoss(PairLoss):
    """Mean absolute difference of brightness (CIE's L*, from 0 to 1) and colour (Oklab's two axes)
    of what is left when both pictures are blurred: no shifts of colour or brightness, and detail
    is free.

    Args:
        sigma: standard deviation of the Gaussian blur in pixels; 0 for none.
        lightness: weight of the brightness.
        chroma: weight of the colours.

    Raises:
        OptionsError: if one of them is negative, or both weights are 0.
    """

    def __init__(self, sigma: float = 2.5, lightness: float = 1.0, chroma: float = 1.0) -> None:
        super().__init__()
        if min(sigma, lightness, chroma) < 0 or lightness + chroma == 0:
            raise OptionsError(
                "consistency: sigma and weights are 0 or more, and one of the weights above 0"
            )
        self.sigma = sigma
        self.lightness = lightness
        self.chroma = chroma

    @property
    def min_side(self) -> int:
        # The blur mirrors that many pixels at each border.
        return self._radius + 1

    @property
    def _radius(self) -> int:
        # Three standard deviations: 0.3 % of a Gaussian is beyond them.
        return math.ceil(3 * self.sigma)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """See the class.

        Raises:
            DataError: if a side is shorter than half the blur.
        """
        self.require_side(sr)
        made, wanted = self._blurred(sr), self._blurred(gt)
        brightness = F.l1_loss(luv(made)[:, 0], luv(wanted)[:, 0]) / 100
        colours = F.l1_loss(oklab(made)[:, 1:], oklab(wanted)[:, 1:])
        return self.lightness * brightness + self.chroma * colours

    def _blurred(self, image: Tensor) -> Tensor:
        radius = self._radius
        if radius == 0:
            return image
        places = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (places / self.sigma).square())
        kernel = kernel / kernel.sum()
        planes = F.pad(image.flatten(0, 1)[:, None], [radius] * 4, mode="reflect")
        planes = F.conv2d(planes, kernel.view(1, 1, 1, -1))
        planes = F.conv2d(planes, kernel.view(1, 1, -1, 1))
        return planes.view_as(image)
