"""The noise of gradients: what a look at two halves sees, and that it changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.test_sr_model import make_batch, make_model, make_options, network_of
from traiNNer.archs import build_network
from traiNNer.automations.goodput import Goodput
from traiNNer.models import SRModel
from traiNNer.models.gradient_noise import EARLY, EVERY, EVERY_EARLY, in_halves, is_time_to_look
from traiNNer.utils.device import Runtime

NETWORKS = [
    {"type": "compact", "num_feat": 8, "num_conv": 2},
    {"type": "span_s", "feature_channels": 8},
    {"type": "plksr_tiny", "dim": 8, "n_blocks": 2},
]


@pytest.mark.parametrize(
    ("sizes", "parts", "half"),
    [
        ([4], [2, 2], 2),
        ([5], [3, 2], 3),
        ([3, 4], [3, 1, 3], 4),
        ([1, 1], [1, 1], 1),
        ([1], [1], 0),
    ],
)
def test_halves(sizes: list[int], parts: list[int], half: int) -> None:
    chunks, first = in_halves([make_batch(size) for size in sizes], 1)
    assert [len(chunk) for chunk in chunks] == parts
    assert first == half


def test_halves_are_no_less_than_the_network_needs() -> None:
    chunks, half = in_halves([make_batch(3)], 2)
    assert ([len(chunk) for chunk in chunks], half) == ([3], 0)


def test_looks_are_rare() -> None:
    looks = [number for number in range(1, 100_001) if is_time_to_look(number)]
    assert looks[0] == EVERY_EARLY
    assert len(looks) == EARLY // EVERY_EARLY + (100_000 - EARLY) // EVERY


def test_a_look_changes_neither_weights_nor_reports() -> None:
    plain, looking = (make_model(optim_g={"type": "adam", "lr": 1e-3}) for _ in range(2))
    looking.runner.looks_at_noise = True
    for number in range(1, EVERY_EARLY + 3):
        batches = [make_batch(5, 16, seed=number)]
        ours, theirs = looking.step(batches), plain.step(batches)
        assert (ours.alignment is not None) == (number == EVERY_EARLY)
        assert theirs.alignment is None
        assert (ours.pixels, ours.samples) == (theirs.pixels, theirs.samples) == (5 * 256, 5)
        # What entered is reported: in a look the halves.
        assert ours.shape.batch_size == (3 if number == EVERY_EARLY else 5)
        torch.testing.assert_close(ours.losses["l1"], theirs.losses["l1"])
    for one, other in zip(
        network_of(looking).parameters(), network_of(plain).parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def photographs_like(count: int, seed: int) -> Any:
    """Samples that differ from each other, and have something to learn in common."""
    batch = make_batch(count, 12, seed=seed)
    lq, gt = batch.pair
    gt.copy_(torch.nn.functional.interpolate(lq, scale_factor=2) * 0.8 + 0.1 * gt)
    return batch


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["type"])
def test_the_noise_is_that_of_single_gradients(network: dict[str, Any]) -> None:
    torch.manual_seed(0)
    options = make_options(network=network, optim_g={"type": "sgd", "lr": 0.0})
    built = build_network(network["type"], scale=2, **options.network_g.params)
    model = SRModel(options, Runtime(torch.device("cpu")), built)
    model.runner.looks_at_noise = True
    phase = model.phases[0]
    singles: list[torch.Tensor] = []
    for seed in range(100):
        context = _context(1)
        model.runner.accumulate(phase, [photographs_like(1, seed)], context)
        singles.append(
            torch.cat([w.grad.flatten() for w in phase.parameters if w.grad is not None])
        )
    gradients = torch.stack(singles)
    mean = gradients.mean(0)
    variance = (gradients - mean).square().sum() / 99
    signal = mean.square().sum() - variance / 100
    expected = float(variance / signal)
    goodput = Goodput()
    cosines: list[float] = []
    for seed in range(60):
        batch = photographs_like(8, 1_000 + seed)
        alignment = model.runner.accumulate(phase, [batch], _context(EVERY_EARLY)).alignment
        assert alignment is not None
        cosines.append(float(alignment))
    # The mean of all looks, of 4 samples each.
    goodput.look(sum(cosines) / len(cosines), 4)
    assert goodput.noise == pytest.approx(expected, rel=0.3)


def _context(iteration: int) -> Any:
    from traiNNer.models.phase_runner import StepContext

    return StepContext(iteration=iteration, rate_factor=1.0)
