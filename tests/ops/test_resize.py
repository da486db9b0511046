from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from traiNNer.ops.resize import resize, scale_by


@pytest.fixture(scope="module")
def channel() -> np.ndarray:
    """One channel of a photograph, (100, 151), float32 in [0, 1]."""
    return skimage.data.chelsea()[40:140, 100:251, 0].astype(np.float32) / 255


@pytest.mark.parametrize(
    "size", [(25, 38), (50, 75), (33, 151), (100, 60), (200, 302), (317, 400), (50, 300), (7, 5)]
)
@pytest.mark.parametrize(
    ("mode", "kernel"),
    [
        ("bicubic", Image.Resampling.BICUBIC),
        ("bilinear", Image.Resampling.BILINEAR),
        ("lanczos", Image.Resampling.LANCZOS),
        ("box", Image.Resampling.BOX),
    ],
)
def test_equals_pillow_in_both_directions(channel, size, mode, kernel):
    expected = np.asarray(Image.fromarray(channel).resize((size[1], size[0]), kernel))
    result = resize(torch.from_numpy(channel)[None], size, mode)[0].numpy()
    np.testing.assert_allclose(result, expected, atol=5e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
def test_without_antialiasing_a_kernel_sees_its_neighbours_alone(mode):
    stripes = torch.zeros(1, 1, 48)
    stripes[..., ::4] = 1
    # An eighth of the width: a wide kernel sees grey, a narrow one whatever lies below it.
    wide = resize(stripes, (1, 6), mode)
    narrow = resize(stripes, (1, 6), mode, antialias=False)
    assert (wide - 0.25).abs().max() < 0.05
    assert (narrow - 0.25).abs().max() > 0.15


def test_nearest_takes_the_pixel_under_the_centre(channel):
    # No centre of this size falls between two pixels.
    expected = np.asarray(Image.fromarray(channel).resize((70, 48), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(
        resize(torch.from_numpy(channel)[None], (48, 70), "nearest")[0].numpy(), expected
    )


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (1, 2, 2)])
def test_any_leading_dimensions(leading):
    image = torch.rand(*leading, 3, 12, 10)
    result = resize(image, (6, 5))
    assert result.shape == (*leading, 3, 6, 5)
    flat = image.reshape(-1, 3, 12, 10)
    torch.testing.assert_close(result.reshape(-1, 3, 6, 5)[-1], resize(flat[-1], (6, 5)))


def test_keeps_dtype_and_leaves_the_input_alone():
    image = torch.rand(3, 8, 8)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert resize(image.to(dtype), (4, 4)).dtype == dtype
    same = resize(image, (8, 8))
    assert torch.equal(same, image)
    assert same.data_ptr() != image.data_ptr()


def test_bicubic_may_overshoot():
    step = torch.zeros(1, 8, 8)
    step[..., 4:] = 1
    result = resize(step, (16, 16))
    assert result.min() < 0
    assert result.max() > 1


@pytest.mark.parametrize(
    ("factor", "size"), [(0.25, (5, 3)), (2, (40, 26)), (1.5, (30, 20)), (0.01, (1, 1))]
)
def test_scale_by(factor, size):
    assert scale_by(torch.rand(3, 20, 13), factor).shape == (3, *size)


def test_messages():
    with pytest.raises(TypeError, match=r"floating point image, got torch.uint8"):
        resize(torch.zeros(3, 4, 4, dtype=torch.uint8), (2, 2))
    with pytest.raises(ValueError, match=r"got shape \(4, 4\)"):
        resize(torch.zeros(4, 4), (2, 2))
    with pytest.raises(ValueError, match=r"cannot resize 4x4 to 0x2"):
        resize(torch.zeros(3, 4, 4), (0, 2))
    with pytest.raises(ValueError, match=r"cannot scale 4x4 by 0"):
        scale_by(torch.zeros(3, 4, 4), 0)
