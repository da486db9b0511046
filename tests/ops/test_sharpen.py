"""Sharper targets, beside OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from torch import nn

from traiNNer.models.criteria import Criteria
from traiNNer.ops.sharpen import RADIUS, sharpened
from traiNNer.options.entries import SHARPENED_SIDE


def by_opencv(picture: np.ndarray) -> np.ndarray:
    """The same of (H, W, 3), by somebody else's blur."""

    def blurred(pixels: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(pixels, (51, 51), 0, borderType=cv2.BORDER_REFLECT_101)

    detail = picture - blurred(picture)
    edges = blurred((np.abs(detail) * 255 > 10).astype(np.float32))
    sharp = np.clip(picture + 0.5 * detail, 0, 1)
    return edges * sharp + (1 - edges) * picture


@pytest.mark.parametrize(("height", "width"), [(128, 128), (26, 64), (201, 90)])
def test_it_is_what_opencv_makes(height: int, width: int) -> None:
    picture = data.astronaut()[40 : 40 + height, 150 : 150 + width].astype(np.float32) / 255
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None]
    made = sharpened(batch.expand(2, -1, -1, -1).contiguous())
    assert made.shape == (2, 3, height, width)
    expected = by_opencv(picture)
    for own in made:
        np.testing.assert_allclose(own.permute(1, 2, 0).numpy(), expected, atol=2e-5)
    assert np.abs(expected - picture).max() > 0.05, "edges of a photograph are made sharper"


def test_flat_pictures_and_faint_noise_stay_as_they_are() -> None:
    flat = torch.full((1, 3, 64, 64), 0.4)
    torch.testing.assert_close(sharpened(flat), flat)
    noise = flat + 0.01 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sharpened(noise), noise)


def test_the_smallest_patch_is_what_the_options_ask_for() -> None:
    assert SHARPENED_SIDE == RADIUS + 1
    side = torch.rand(1, 3, SHARPENED_SIDE, SHARPENED_SIDE)
    assert sharpened(side).shape == side.shape


def test_only_the_losses_that_ask_for_it_see_it() -> None:
    output = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    both = (("plain", 1.0, nn.L1Loss()), ("sharp", 2.0, nn.L1Loss()))
    criteria = Criteria(both, frozenset(["sharp"]))
    losses = criteria(output, target)
    torch.testing.assert_close(losses["plain"], nn.L1Loss()(output, target))
    torch.testing.assert_close(losses["sharp"], 2 * nn.L1Loss()(output, sharpened(target)))
    each = criteria.of_each(output, target, 2)
    torch.testing.assert_close(each["sharp"].mean(), losses["sharp"])
