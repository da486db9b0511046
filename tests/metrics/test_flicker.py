from __future__ import annotations

import pytest
import torch

from traiNNer.metrics.flicker import Flicker
from traiNNer.utils.errors import DataError


def test_only_changes_count() -> None:
    """A constant error is none; one that comes and goes is."""
    gt = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    flicker = Flicker(scale=2)
    assert flicker(gt, gt) == 0
    assert flicker(gt + 0.1, gt) == pytest.approx(0, abs=1e-4)
    pumping = gt + torch.tensor([0.0, 0.1]).view(2, 1, 1, 1)
    assert flicker(pumping, gt) == pytest.approx(25.5, rel=1e-4)
    assert flicker(gt[:1].expand(2, -1, -1, -1), gt) == pytest.approx(
        float((gt[1] - gt[0])[:, 2:-2, 2:-2].abs().mean()) * 255, rel=1e-4
    ), "a still picture misses all of the motion"
    with pytest.raises(DataError, match="differ in shape"):
        flicker(gt, gt[..., :20])
