"""A picture is measured in bands of rows, and its score is that of the whole."""

from __future__ import annotations

import pytest
import torch

from traiNNer.metrics import psnr_ssim
from traiNNer.utils.registry import METRICS


@pytest.mark.parametrize("name", ["psnr", "ssim"])
@pytest.mark.parametrize("y_channel", [False, True])
@pytest.mark.parametrize("rows", [40, 47, 64])
def test_bands_change_no_score(
    name: str, y_channel: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(rows)
    gt = torch.rand(1, 3, rows, 33)
    sr = (gt + 0.1 * torch.randn_like(gt)).clamp(0, 1)
    metric = METRICS[name](scale=2, test_y_channel=y_channel)
    whole = metric(sr, gt)
    monkeypatch.setattr(psnr_ssim, "BAND", 8)
    assert metric(sr, gt) == pytest.approx(whole, rel=1e-12)
