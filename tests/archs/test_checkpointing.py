"""Blocks whose activations are made again: the same gradients in less memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from traiNNer.archs import build_network
from traiNNer.archs.checkpointing import checkpoint_blocks, find_blocks
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import StepTracker
from traiNNer.utils.registry import ARCHS
from traiNNer.utils.shape import Shape

SMALL: dict[str, tuple[dict[str, Any], str, int]] = {
    "span": ({"feature_channels": 8}, "SPAB", 6),
    "esrgan": ({"num_filters": 8, "num_blocks": 3}, "RRDB", 3),
    "swinir_s": ({"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}, "RSTB", 2),
    "plksr_tiny": ({"dim": 8, "n_blocks": 3}, "PLKBlock", 3),
}


def gradients(network: nn.Module, lq: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(5)
    network.zero_grad()
    network(lq).square().mean().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_the_same_to_the_bit(name: str) -> None:
    parameters, kind, count = SMALL[name]
    torch.manual_seed(0)
    plain = build_network(name, scale=2, **parameters).train()
    again = copy.deepcopy(plain)
    blocks = find_blocks(again)
    assert (type(blocks[0]).__name__, len(blocks)) == (kind, count)
    assert checkpoint_blocks(again) == count
    lq = torch.rand(2, 3, 16, 16)
    wanted = gradients(plain, lq)
    got = gradients(again, lq)
    assert wanted.keys() == got.keys()
    assert all(torch.equal(got[key], value) for key, value in wanted.items())
    assert again.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(again.eval()(lq), plain.eval()(lq))


class Block(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.parts(x)


def test_random_numbers_are_those_of_the_first_time() -> None:
    plain = nn.Sequential(*(Block(nn.Conv2d(3, 3, 3), nn.Dropout(0.5)) for _ in range(2)))
    again = copy.deepcopy(plain)
    assert checkpoint_blocks(again) == 2
    lq = torch.rand(2, 3, 16, 16)
    wanted, got = gradients(plain, lq), gradients(again, lq)
    assert all(torch.equal(got[key], value) for key, value in wanted.items())
    assert [block.passes for block in again] == [2, 2]
    with torch.no_grad():
        again(lq)
    assert [block.passes for block in again] == [3, 3]


def test_what_changes_itself_is_not_made_twice() -> None:
    normed = [Block(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)) for _ in range(3)]
    spectral = [Block(nn.utils.spectral_norm(nn.Conv2d(3, 3, 3))) for _ in range(3)]
    for blocks in (normed, spectral):
        assert checkpoint_blocks(nn.Sequential(*blocks)) == 0
    assert checkpoint_blocks(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))) == 0


def test_most_networks_have_blocks_that_hold_most_of_their_weights() -> None:
    for name in ("realplksr_s", "hat_s", "drct", "nafnet", "mosr", "omnisr", "atd_light"):
        network = build_network(name, scale=min(ARCHS[name].scales or (2,), key=lambda s: s != 2))
        blocks = find_blocks(network)
        total = sum(p.numel() for p in network.parameters())
        assert sum(p.numel() for block in blocks for p in block.parameters()) > 0.8 * total


def test_the_planner_knows_what_it_saves() -> None:
    given = {
        "name": "planned",
        "scale": 2,
        "network_g": {"type": "esrgan", "num_filters": 16, "num_blocks": 6},
        "datasets": {
            "train": {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
        },
        "train": {
            "total_iter": 10,
            "optim_g": {"type": "AdamW", "lr": 1e-4},
            "losses": [{"type": "l1"}],
        },
    }
    peaks = [
        StepTracker(TrainingOptions.model_validate(given | {"use_checkpointing": way}))
        .track(Shape(32, 4))
        .peak
        for way in (False, True, "auto")
    ]
    assert peaks[1] < 0.65 * peaks[0]
    # Where it is not asked for, it is decided at the start of a run.
    assert peaks[2] == peaks[0]
