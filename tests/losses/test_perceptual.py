"""The loss of features: which, of what, and what is said where weights are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from tests.losses.test_losses import SMALL, weights_of
from tests.support import (
    make_pairs,
    run_training,
    small_options,
)
from traiNNer.losses.perceptual import PerceptualLoss, default_layers, node_of
from traiNNer.utils.errors import DataError, OptionsError

LAYERS = {"features.0": 1.0, "features.3": 0.5}


def small(**more: Any) -> PerceptualLoss:
    return PerceptualLoss(SMALL, **({"layers": LAYERS, "weights": weights_of(SMALL)} | more))


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_names_of_vgg_layers_are_its_convolutions(name: str) -> None:
    with torch.device("meta"):
        features = models.get_model(name).features
    block, number = 1, 0
    for place, module in enumerate(features):
        if isinstance(module, nn.MaxPool2d):
            block, number = block + 1, 0
        if isinstance(module, nn.Conv2d):
            number += 1
            assert node_of(name, f"conv{block}_{number}") == f"features.{place}"


def test_it_is_the_weighted_sum_over_the_layers_before_activations() -> None:
    loss = small()
    state = torch.load(weights_of(SMALL), weights_only=True)
    network = models.get_model(SMALL, weights=None).eval()
    network.load_state_dict(state)
    sr, gt = torch.rand(2, 3, 40, 48), torch.rand(2, 3, 40, 48)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = torch.zeros(())
    with torch.no_grad():
        for depth, weight in ((1, 1.0), (4, 0.5)):
            layers = network.features[:depth]
            a, b = (layers((pictures - mean) / deviation) for pictures in (sr, gt))
            expected = expected + weight * (a - b).abs().mean()
    torch.testing.assert_close(loss(sr, gt), expected)


def test_the_network_is_frozen_and_gives_its_gradient_on() -> None:
    loss = small()
    sr = torch.rand(1, 3, 32, 32, requires_grad=True)
    loss(sr, torch.rand(1, 3, 32, 32)).backward()
    assert sr.grad is not None
    assert sr.grad.abs().max() > 0
    assert all(weight.grad is None for weight in loss.parameters())
    assert not any(module.training for module in loss.features.modules())
    with pytest.raises(DataError, match="at least 32x32"):
        loss(torch.rand(1, 3, 31, 40), torch.rand(1, 3, 31, 40))


def test_the_least_side_is_known_without_the_network(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.touch()
    sides = {"conv1_2": 1, "conv3_4": 4, "conv5_4": 16}
    for layer, side in sides.items():
        assert PerceptualLoss.least_side("vgg19", {layer: 1.0}, "l1", str(weights)) == side
    assert PerceptualLoss.least_side(weights=str(weights)) == 16
    layers = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
    assert default_layers("vgg19") == layers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "vgg20"}, "torchvision has no network 'vgg20'"),
        ({"backbone": "vgg19", "layers": {"conv1_3": 1}}, "vgg19 has no layer 'conv1_3'"),
        ({"layers": None}, "needs layers, and what each counts"),
        ({"weights": "gone.pth"}, "there is no file gone.pth"),
        ({"weights": __file__}, "holds no weights of squeezenet1_1"),
        ({"layers": {"features.99": 1.0}}, "features.99"),
    ],
)
def test_what_cannot_be_built_is_told(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "backbone": SMALL,
        "layers": LAYERS,
        "weights": weights_of(SMALL),
    }
    with pytest.raises(OptionsError, match=message):
        PerceptualLoss(**(arguments | change))


def test_weights_that_are_missing_are_named_before_training(
    tmp_path: Path, cache_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    options["train"]["losses"].append({"type": "perceptual", "backbone": "vgg16"})
    assert run_training(options, "--check") == 2
    error = capfd.readouterr().err
    assert "vgg16-397923af.pth" in error
    assert str(cache_home / "torch") in error
    assert "Traceback" not in error


def test_a_run_with_it_trains(tmp_path: Path) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    options["train"]["losses"].append(
        {"type": "perceptual", "backbone": SMALL, "layers": LAYERS, "weights": weights_of(SMALL)}
    )
    assert run_training(options) == 0
    log = Path("experiments/small/log/train.log").read_text(encoding="utf-8")
    assert "perceptual " in log
