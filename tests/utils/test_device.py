from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from traiNNer.utils.device import describe_device

CARDS = [
    SimpleNamespace(name="RTX 4070", total_memory=12 * 2**30),
    SimpleNamespace(name="GTX 1080", total_memory=2**33),
]


@pytest.mark.parametrize(
    ("cards", "device", "expected"),
    [
        (1, "cuda", "RTX 4070 (12.00 GiB)"),
        (2, "cuda:1", "GTX 1080 (8.00 GiB); not used: RTX 4070 (12.00 GiB); CUDA_VISIBLE_DEVICES chooses the card"),
    ],
)
def test_cards_that_are_not_used_are_named(
    cards: int, device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: CARDS[number])
    assert describe_device(torch.device(device)) == expected
