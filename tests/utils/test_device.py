from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from traiNNer.utils.device import Runtime, describe_device


@dataclass(frozen=True)
class FakeCards:
    """As many of two cards as `number` says."""

    number: int

    def device_count(self) -> int:
        return self.number

    def get_device_properties(self, device: int, /) -> SimpleNamespace:
        return [
            SimpleNamespace(name="RTX 4070", total_memory=12 * 2**30),
            SimpleNamespace(name="GTX 1080", total_memory=2**33),
        ][device]


@pytest.mark.parametrize(
    ("cards", "device", "expected"),
    [
        (1, "cuda", "RTX 4070 (12.00 GiB)"),
        (
            2,
            "cuda:1",
            (
                "GTX 1080 (8.00 GiB); not used: RTX 4070 (12.00 GiB); CUDA_VISIBLE_DEVICES chooses "
                "the card"
            ),
        ),
    ],
)
def test_cards_that_are_not_used_are_named(cards: int, device: str, expected: str) -> None:
    assert describe_device(torch.device(device), FakeCards(cards)) == expected


def test_a_network_with_volumes_is_placed_in_channels_last() -> None:
    """fftformer's weights of five dimensions have no such format."""
    network = nn.ModuleDict({"image": nn.Conv2d(3, 8, 3), "clip": nn.Conv3d(3, 8, 3)})
    placed = Runtime(torch.device("cpu"), channels_last=True).place(network)
    assert placed is network
    assert network["image"].weight.is_contiguous(memory_format=torch.channels_last)
    assert network["clip"].weight.is_contiguous()
    Runtime(torch.device("cpu")).place(network)
    assert network["image"].weight.is_contiguous()


@pytest.mark.parametrize(
    ("device", "kernel", "stays"),
    [("cpu", 13, True), ("cpu", 17, False), ("cuda", 17, True), ("mps", 17, True)],
)
def test_wide_kernels_are_not_trained_in_channels_last_on_a_cpu(
    device: str, kernel: int, *, stays: bool
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, kernel))
    runtime = Runtime(torch.device(device), channels_last=True).for_training(network)
    assert runtime.channels_last is stays
    assert ("channels_last" in str(replace(runtime, device=torch.device("cpu")))) is stays
