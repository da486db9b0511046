from __future__ import annotations

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch

from traiNNer.ops.color import crop_border, quantize, rgb_to_y, to_float, to_uint8
from traiNNer.utils.errors import DataError


def test_y_equals_skimage():
    photo = skimage.data.astronaut()[:64, :80]
    expected = skimage.color.rgb2ycbcr(photo)[..., 0] / 255
    image = torch.from_numpy(photo).permute(2, 0, 1) / 255
    result = rgb_to_y(image[None])
    assert result.shape == (1, 1, 64, 80)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-6)


def test_y_swing():
    assert rgb_to_y(torch.zeros(3, 1, 1)).item() == pytest.approx(16 / 255)
    assert rgb_to_y(torch.ones(3, 1, 1)).item() == pytest.approx(235 / 255, abs=1e-6)


def test_y_needs_rgb():
    with pytest.raises(DataError, match=r"needs an RGB image .* got shape \(1, 4, 4\)"):
        rgb_to_y(torch.zeros(1, 4, 4))


def test_crop_border():
    image = torch.arange(30).reshape(5, 6)
    assert crop_border(image, 0).shape == (5, 6)
    assert crop_border(image, 2).tolist() == [[14, 15]]
    with pytest.raises(
        DataError, match="cropping 3 pixels on each side leaves nothing of a 5x6 image"
    ):
        crop_border(image, 3)
    with pytest.raises(ValueError, match="0 or more pixels, got -1"):
        crop_border(image, -1)


def test_to_uint8_clamps_and_rounds_halves_to_even():
    values = torch.tensor([-0.2, 0.0, 0.5 / 255, 1.5 / 255, 0.4, 1.0, 1.3], dtype=torch.float64)
    result = to_uint8(values)
    assert result.dtype == torch.uint8
    assert result.tolist() == [0, 0, 0, 2, 102, 255, 255]


def test_every_level_survives_a_round_trip():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels / 255), levels)
    assert torch.equal(quantize(levels / 255), levels / 255)


def test_to_float_is_a_new_tensor_of_bytes_and_the_same_one_of_floats():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(levels), levels / 255)
    assert levels[-1] == 255
    image = torch.rand(3, 4, 5)
    assert to_float(image) is image
    assert to_float(image.half()).dtype == torch.float32


def test_quantize_is_what_is_saved():
    image = torch.rand(3, 9, 9) * 1.4 - 0.2
    assert torch.equal(quantize(image), to_uint8(image) / 255)
    assert quantize(image.bfloat16()).dtype == torch.float32
    assert quantize(image.double()).dtype == torch.float64
