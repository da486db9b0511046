"""How hard samples are said to be, against what is known of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from traiNNer.ops.resize import resize
from traiNNer.utils.registry import DIFFICULTIES


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """LQ and GT of two samples, smooth in one and rough in the other."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 3, 32, 32, generator=generator)
    ramp = torch.linspace(0.2, 0.7, 32).expand(1, 3, 32, 32)
    gt = torch.cat([ramp, rough])
    return resize(gt, (16, 16)).clamp(0, 1), gt


@pytest.mark.parametrize("name", list(DIFFICULTIES))
def test_each_sample_has_a_finite_difficulty(name: str, pair: tuple[Tensor, Tensor]) -> None:
    lq, gt = pair
    values = DIFFICULTIES[name](lq, gt, torch.rand_like(gt))
    assert values.shape == (2,)
    assert torch.isfinite(values).all()
    flat = torch.full_like(lq, 0.5)
    assert torch.isfinite(DIFFICULTIES[name](flat, torch.full_like(gt, 0.5), gt)).all()
    assert (values >= 0).all()
    if name != "loss":
        assert values[1] > 2 * values[0]


def test_a_loss_is_measured_in_that_of_bicubic(pair: tuple[Tensor, Tensor]) -> None:
    lq, gt = pair
    loss = DIFFICULTIES["loss"]
    bicubic = resize(lq, (32, 32))
    assert loss(lq, gt, gt).tolist() == [0, 0]
    half = loss(lq, gt, (gt + bicubic) / 2)
    whole = loss(lq, gt, bicubic)
    torch.testing.assert_close(half, whole / 2)
    # Of the ramp bicubic is off by less than a level, which is no error.
    assert whole[0] < 1


def test_a_wrong_pair_is_harder_than_bicubic(pair: tuple[Tensor, Tensor]) -> None:
    lq, gt = pair
    other = gt.flip(0)
    values = DIFFICULTIES["loss"](lq, other, resize(lq, (32, 32)))
    assert (values > 1.2).all()


def test_noise_and_gradient_are_those_of_lq() -> None:
    generator = torch.Generator().manual_seed(1)
    noisy = 0.5 + 0.1 * torch.randn(4, 1, 64, 64, generator=generator).expand(-1, 3, -1, -1)
    found = DIFFICULTIES["noise"](noisy, noisy, noisy)
    # Luma is between 16 and 235 of 255.
    torch.testing.assert_close(found, torch.full((4,), 0.1 * 219 / 255), rtol=0.08, atol=0)
    ramp = (torch.arange(32) / 64).expand(1, 3, 32, 32)
    slope = DIFFICULTIES["gradient"](ramp, ramp, ramp)
    torch.testing.assert_close(slope, torch.tensor([219 / 255 / 64 / 2]), rtol=1e-3, atol=0)
