"""Several sizes of the same samples in one step: ways of computing it agree, whatever the network
is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_sr_model import CPU, make_batch, make_options
from traiNNer.archs import build_network
from traiNNer.data import Batch, materialize_scale
from traiNNer.losses.scale_consistency import ScaleConsistency, ScaleConsistencyLoss
from traiNNer.models import CoupledObjective, Objective, SRModel, StepResult
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.patch_scales import PatchScales

SCALES = [16, 24, 32]


class Noisy(nn.Module):
    """With what a second run through it may spoil: batch norm, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Dropout(0.3),
            nn.SiLU(),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


NETWORKS: dict[str, dict[str, Any]] = {
    "span": {"type": "span", "feature_channels": 8},
    "swinir": {
        "type": "swinir_s",
        "embed_dim": 12,
        "depths": [2],
        "num_heads": [2],
        "window_size": 4,
    },
    "noisy": {"type": "compact", "num_feat": 8, "num_conv": 1},
}


def make_model(name: str, data: dict[str, Any] | None = None, **train: Any) -> SRModel:
    torch.manual_seed(0)
    sizes = {"scales": SCALES, "lq_size": 32}
    options = make_options(sizes | (data or {}), NETWORKS[name], **train)
    network: nn.Module = Noisy()
    if name != "noisy":
        described = options.network_g
        network = build_network(described.type, scale=options.scale, **described.params)
    return SRModel(options, Runtime(CPU), network)


def trained(model: SRModel, batches: Sequence[Batch], steps: int = 3) -> StepResult:
    torch.manual_seed(1)
    result = model.step(batches)
    for _ in range(steps - 1):
        result = model.step(batches)
    return result


def assert_equal(first: SRModel, second: SRModel) -> None:
    ours, theirs = (model.main.module.state_dict() for model in (first, second))
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_running_twice_gives_the_gradient_of_running_at_once(name: str) -> None:
    """And so does any group of sizes that are run once."""
    groups = ((0,), (0, 2), (0, 1), (0, 1, 2))
    models = [make_model(name, scale_consistency={"weight": 0.5}) for _ in groups]
    for model, group in zip(models, groups, strict=True):
        (objective,) = model.phases[0].objectives
        assert isinstance(objective, CoupledObjective)
        objective.at_once = group
    batches = [make_batch(4, 32), make_batch(3, 32, seed=1)]
    results = [trained(model, batches) for model in models]
    for model in models[1:]:
        assert_equal(models[0], model)
    assert results[0].losses.keys() == {"l1", "scale_consistency"}
    for other in results[1:]:
        for label, loss in results[0].losses.items():
            torch.testing.assert_close(loss, other.losses[label], rtol=1e-5, atol=1e-7)
    assert results[0].pixels == 7 * (32**2 + 24**2 + 16**2)
    assert results[0].shape.lq_size == 32
    before = make_model(name)
    with pytest.raises(AssertionError):
        assert_equal(models[0], before)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_term_between_sizes_each_is_alone(name: str) -> None:
    """And equals the coupled way with a term of no weight to speak of."""
    alone = make_model(name)
    assert all(isinstance(objective, Objective) for objective in alone.phases[0].objectives)
    coupled = make_model(name, scale_consistency={"weight": 1e-12})
    assert isinstance(coupled.phases[0].objectives[0], CoupledObjective)
    batch = make_batch(4, 32)
    results = [trained(model, [batch]) for model in (alone, coupled)]
    assert_equal(alone, coupled)
    torch.testing.assert_close(results[0].losses["l1"], results[1].losses["l1"])


def test_a_term_without_weight_costs_nothing() -> None:
    model = make_model("span", scale_consistency={"weight": 0})
    assert all(isinstance(objective, Objective) for objective in model.phases[0].objectives)


@pytest.mark.parametrize("consistency", [None, {"weight": 0.5}])
def test_sizes_of_the_dataset_and_of_the_device_are_the_same(consistency: Any) -> None:
    models = [make_model("noisy", scale_consistency=consistency) for _ in range(2)]
    batch = make_batch(4, 32)
    sent = replace(batch, views=tuple(materialize_scale(batch, side) for side in (24, 16)))
    trained(models[0], [batch])
    trained(models[1], [sent])
    assert_equal(*models)


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        ("pixels", [16 / 29, 9 / 29, 4 / 29]),
        ("equal", [1 / 3, 1 / 3, 1 / 3]),
        ([1.0, 2.0, 5.0], [5 / 8, 2 / 8, 1 / 8]),
    ],
)
def test_the_gradient_is_the_weighted_sum(given: Any, shares: list[float]) -> None:
    model = make_model("span", scale_weights=given)
    batch = make_batch(4, 32)
    network = model.main.module
    total = torch.zeros(())
    for share, side in zip(shares, (32, 24, 16), strict=True):
        lq, gt = materialize_scale(batch, side).pair
        total = total + share * (network(lq) - gt).abs().mean()
    total.backward()
    changing = [p for p in network.parameters() if p.grad is not None]
    expected = [p.detach() - 0.1 * p.grad for p in changing]
    before = [p.detach().clone() for p in changing]
    model.step([batch])
    for old, wanted, weight in zip(before, expected, changing, strict=True):
        torch.testing.assert_close(weight.detach(), wanted, rtol=1e-5, atol=1e-6)
        assert not torch.equal(weight, old)


def test_losses_of_each_sample_are_those_of_the_patch() -> None:
    for consistency in (None, {"weight": 0.5}):
        model = make_model("span", scale_consistency=consistency)
        result = model.step([make_batch(4, 32)], per_sample=True)
        assert result.per_sample["l1"].shape == (4,)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("charbonnier", (2, 3, 8, 8)),
        ("l1", (2, 3, 8, 8)),
        ("mse", (2, 5)),
        ("cosine", (2, 5)),
        ("kl_divergence", (2, 5)),
    ],
)
def test_the_term_is_zero_for_what_agrees(kind: Any, shape: tuple[int, ...]) -> None:
    term = ScaleConsistency(2.0, kind)
    one = torch.rand(shape)
    other = torch.rand(shape, requires_grad=True)
    assert term([one, one, one]).item() == pytest.approx(0, abs=1e-6)
    value = term([one, other])
    assert value > 1e-4
    value.backward()
    assert other.grad is not None
    assert torch.isfinite(other.grad).all()
    assert term([one]) == 0
    torch.testing.assert_close(ScaleConsistency(4.0, kind)([one, other]), 2 * value)


def test_the_loss_is_the_mean_over_sizes_and_the_term() -> None:
    outputs = [torch.rand(2, 3, side, side) for side in (8, 4)]
    targets = [torch.rand(2, 3, side, side) for side in (8, 4)]
    loss = ScaleConsistencyLoss(nn.L1Loss(), 0.0)
    means = [(a - b).abs().mean() for a, b in zip(outputs, targets, strict=True)]
    torch.testing.assert_close(loss(outputs, targets), (means[0] + means[1]) / 2)
    torch.testing.assert_close(loss(outputs, targets, [2.0, 0.0]), 2 * means[0])
    with pytest.raises(OptionsError, match="there are: charbonnier, l1"):
        ScaleConsistencyLoss(nn.L1Loss(), 0.1, "l3")  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="0 or more"):
        ScaleConsistencyLoss(nn.L1Loss(), -1.0)


def test_sides_keep_their_proportion_on_the_grid() -> None:
    scales = PatchScales((32, 48, 64), multiple=8, least=16)
    assert scales.sides(64) == (64, 48, 32)
    assert scales.sides(128) == (128, 96, 64)
    assert scales.sides(72) == (72, 56, 32)
    assert scales.sides(24) == (24, 16, 16)
    assert scales.smallest_patch(16) == 24
    assert scales.sides(32) == (32, 24, 16)
    assert scales.pixels == (32**2 + 48**2 + 64**2) / 64**2


def test_shrinking_keeps_lq_and_gt_aligned() -> None:
    """Where GT is the enlarged LQ, it stays so."""
    ramp = torch.linspace(0, 1, 16)[None, :].expand(16, 16)
    lq = ramp[None, None].expand(2, 3, 16, 16)
    gt = nn.functional.interpolate(lq, scale_factor=2, mode="bilinear", align_corners=False)
    batch = Batch(lq, gt, [0, 1], ["a", "b"], ["a", "b"])
    small = materialize_scale(batch, 8)
    assert small.lq_size == 8
    shrunk, target = small.pair
    assert shrunk.shape == (2, 3, 8, 8)
    again = nn.functional.interpolate(shrunk, scale_factor=2, mode="bilinear", align_corners=False)
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(again[inside], target[inside], atol=5e-3, rtol=0)
    assert materialize_scale(batch, 16) is batch
