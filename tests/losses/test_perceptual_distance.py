"""LPIPS and DISTS, losses and metrics, against torchmetrics on the same random network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import dists, lpips

from tests.losses.test_losses import features_of, noise, photo
from traiNNer.losses.perceptual_distance import DISTSLoss, L2Pool, LPIPSLoss, load_fitted
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.registry import LOSSES, METRICS

NAMES = {"alexnet": "alex", "vgg16": "vgg"}


def their_lpips(backbone: str) -> nn.Module:
    """torchmetrics' network, with our file of features."""
    network: Any = lpips._LPIPS(net=NAMES[backbone], pnet_rand=True)  # type: ignore[arg-type]
    state = torch.load(features_of(backbone), weights_only=True)
    for key in list(network.net.state_dict()):
        _, place, kind = key.split(".")
        network.net.get_parameter(key).data = state[f"features.{place}.{kind}"]
    return network


def their_dists() -> nn.Module:
    """The same, without the constructor that fetches weights."""
    network = dists.DISTSNetwork.__new__(dists.DISTSNetwork)
    nn.Module.__init__(network)
    ours = DISTSLoss(features_of("vgg16"))
    state = torch.load(features_of("vgg16"), weights_only=True)
    begins = {4: 64, 9: 128, 16: 256, 23: 512}
    stage = 1
    for place in range(30):
        if place in begins:
            stage += 1
        stages = network._modules.setdefault(f"stage{stage}", nn.Sequential())
        if place in begins:
            module: nn.Module = dists.L2pooling(channels=begins[place])
        elif f"features.{place}.weight" in state:
            weight = state[f"features.{place}.weight"]
            module = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            module.weight.data = weight
            module.bias.data = state[f"features.{place}.bias"]  # type: ignore[union-attr]
        else:
            module = nn.ReLU()
        assert isinstance(stages, nn.Sequential)
        stages.add_module(str(place), module)
    network.mean = ours.get_buffer("mean")[None]
    network.std = ours.get_buffer("deviation")[None]
    network.chns = [3, 64, 128, 256, 512, 512]
    fitted = load_fitted("dists_models/weights.pt")
    network.alpha = nn.Parameter(fitted["alpha"])  # type: ignore[assignment]
    network.beta = nn.Parameter(fitted["beta"])  # type: ignore[assignment]
    return network


@pytest.mark.parametrize("backbone", NAMES)
def test_lpips_is_that_of_torchmetrics(backbone: Any) -> None:
    sr, gt = noise(photo(), 0.1).clamp(0, 1), photo()
    theirs = their_lpips(backbone)(sr, gt, normalize=True).mean()
    ours = LPIPSLoss(backbone, features_of(backbone))
    torch.testing.assert_close(ours(sr, gt), theirs, rtol=1e-5, atol=1e-7)
    metric = METRICS["calculate_lpips"](
        scale=2, crop_border=0, backbone=backbone, weights=features_of(backbone)
    )
    values = [metric(sr[n], gt[n]) for n in range(2)]
    assert sum(values) / 2 == pytest.approx(float(theirs), rel=1e-5)
    assert (metric.better, metric.temporal) == ("lower", False)


def test_dists_is_that_of_torchmetrics() -> None:
    sr, gt = noise(photo(), 0.1).clamp(0, 1), photo()
    with torch.no_grad():
        theirs: Tensor = their_dists()(sr, gt).mean()
    torch.testing.assert_close(
        DISTSLoss(features_of("vgg16"))(sr, gt), theirs, rtol=1e-5, atol=1e-6
    )
    metric = METRICS["dists"](scale=2, crop_border=0, weights=features_of("vgg16"))
    values = [metric(sr[n][None], gt[n][None]) for n in range(2)]
    assert sum(values) / 2 == pytest.approx(float(theirs), rel=1e-4)


def test_a_pooling_of_roots_keeps_what_is_flat() -> None:
    features = torch.full((1, 4, 8, 8), 0.7)
    pooled = L2Pool()(features)
    assert pooled.shape == (1, 4, 4, 4)
    torch.testing.assert_close(pooled[..., 1:, 1:], features[..., 1:4, 1:4])


@pytest.mark.parametrize(
    ("name", "side", "given"),
    [
        ("lpips", 31, {"backbone": "alexnet", "weights": "alexnet"}),
        ("lpips", 16, {"backbone": "vgg16", "weights": "vgg16"}),
        ("dists", 16, {"weights": "vgg16"}),
    ],
)
def test_small_patches_are_refused_and_those_that_are_large_enough_are_not(
    name: str, side: int, given: dict[str, str]
) -> None:
    arguments = given | {"weights": features_of(given["weights"])}
    loss: Any = LOSSES[name](**arguments)
    assert loss.min_side == side == LOSSES[name].least_side(**arguments)  # type: ignore[attr-defined]
    patch = torch.rand(1, 3, side, side)
    assert torch.isfinite(loss(patch, patch.flip(-1)))
    with pytest.raises(DataError, match=f"at least {side}x{side} pixels"):
        loss(patch[..., 1:], patch[..., 1:])
    metric = METRICS[name](scale=2, **arguments)
    assert metric.min_side == side + 4
    with pytest.raises(DataError, match="after cropping 2 on each side"):
        metric(patch, patch)


@pytest.mark.parametrize("kind", [LOSSES, METRICS])
@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_missing_weights_are_one_sentence(kind: Any, name: str) -> None:
    given = {"scale": 2} if kind is METRICS else {}
    with pytest.raises(OptionsError, match=r"there is no file nowhere\.pth"):
        kind[name](weights="nowhere.pth", **given)
    Path("other.pth").write_text("something else")
    with pytest.raises(OptionsError, match=r"other\.pth holds no weights of"):
        kind[name](weights="other.pth", **given)
