"""Colour spaces against published values and scikit-image, and the losses in them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from skimage import color

from traiNNer.losses.color import HsluvLoss, OklabLoss, hsluv, luv, oklab
from traiNNer.utils.errors import OptionsError

RED = [1.0, 0, 0]
GREEN = [0, 1.0, 0]
BLUE = [0, 0, 1.0]
GREY = [0.5, 0.5, 0.5]


def flat(rgb: list[float]) -> torch.Tensor:
    return torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, 4, 4).clone()


@pytest.mark.parametrize(
    ("rgb", "hue", "lightness"),
    [(RED, 12.17705, 53.23712), (GREEN, 127.71501, 87.73552), (BLUE, 265.87432, 32.30087)],
)
def test_hsluv_of_the_primaries(rgb: list[float], hue: float, lightness: float) -> None:
    """As hsluv.org gives them: each is as saturated as can be."""
    direction, saturation, light = hsluv(flat(rgb))
    angle = math.degrees(math.atan2(float(direction[0, 1, 0, 0]), float(direction[0, 0, 0, 0])))
    assert angle % 360 == pytest.approx(hue, abs=0.01)
    assert float(saturation.mean()) == pytest.approx(100, abs=0.01)
    assert float(light.mean()) == pytest.approx(lightness, abs=0.001)


def test_grey_black_and_white_are_not_saturated() -> None:
    for rgb in (GREY, [0.0, 0, 0], [1.0, 1, 1]):
        assert float(hsluv(flat(rgb))[1].max()) < 0.05


def test_luv_is_scikit_images() -> None:
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    theirs = torch.from_numpy(color.rgb2luv(picture[0].permute(1, 2, 0).numpy()))
    assert (luv(picture)[0].permute(1, 2, 0) - theirs).abs().max() < 0.05


def test_oklab_of_red() -> None:
    assert oklab(flat(RED))[0, :, 0, 0].tolist() == pytest.approx(
        [0.62796, 0.22486, 0.12585], abs=1e-4
    )


def test_each_part_of_hsluv_alone() -> None:
    other = flat([1.0, 0.2, 0])
    parts = [HsluvLoss(*weights)(other, flat(RED)) for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert all(float(part) > 0 for part in parts)
    assert float(HsluvLoss()(other, flat(RED))) == pytest.approx(float(sum(parts)) / 3, rel=1e-5)
    # Greys have no hue to be wrong.
    assert float(HsluvLoss(1, 0, 0)(flat(GREY), flat(RED))) < 1e-4
    with pytest.raises(OptionsError, match="one of them above 0"):
        HsluvLoss(0, 0, 0)


def test_equal_steps_of_light_count_alike_in_oklab() -> None:
    cubes = [(level / 10) ** 3 for level in range(3, 9)]
    greys = [flat([1.055 * light ** (1 / 2.4) - 0.055] * 3) for light in cubes]
    steps = [float(OklabLoss()(one, other)) for one, other in pairwise(greys)]
    assert steps == pytest.approx([0.1] * 5, rel=0.01)
