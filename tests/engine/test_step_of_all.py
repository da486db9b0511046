"""What several processes agree on: who takes how much, and whose memory decides."""

from __future__ import annotations

import re

import pytest

from tests.support import load_script
from traiNNer.engine.step_of_all import FINEST, shares_of, worst_of
from traiNNer.utils.memory import MemoryReading

GIB = 2**30


def card(gib: float, left: float) -> tuple[int, float]:
    return int(gib * GIB), left * GIB


def test_cards_that_are_alike_take_equal_batches() -> None:
    """Whatever else is on them: they take equal times for equal batches."""
    assert shares_of([card(8, 6), card(8, 4.5), card(7.9, 6.2)]) == (1.0, 1.0, 1.0)


def test_larger_cards_take_what_fills_none_of_them_further() -> None:
    cards = [card(24, 17), card(8, 5), card(8, 4), card(12, 3.9), card(16, 9.1)]
    shares = shares_of(cards)
    assert shares == (17 / 4, 1.0, 1.0, 1.0, int(FINEST * 9.1 / 4) / FINEST)
    filled = min(left for total, left in cards if total == 8 * GIB)
    for (_, left), share in zip(cards, shares, strict=True):
        if share > 1:
            assert share * filled <= left
    # What nobody knew of, such as an optimizer's state, is the same on all: each fits all the more.
    state = 1.5 * GIB
    for (_, left), share in zip(cards, shares, strict=True):
        if share > 1:
            assert share * (filled - state) <= left - state


def test_where_the_smallest_is_full_sizes_tell() -> None:
    assert shares_of([card(8, -1), card(16, 5)]) == (1.0, 2.0)


def test_no_card_has_others_wait_for_a_batch_that_is_too_large() -> None:
    assert shares_of([card(8, 0.1), card(16, 6)]) == (1.0, 4.0)


def reading(used: float, total: float, outside: float = 0.5) -> MemoryReading:
    reserved = int((used * total - outside) * GIB)
    return MemoryReading(reserved, reserved, int(outside * GIB), int(total * GIB))


def test_the_fullest_decides() -> None:
    """One reading as it is: the largest of each of its figures would be of no card at all."""
    full = reading(0.8, 8, outside=2.0)
    empty = reading(0.7, 8)
    assert worst_of([(1.0, empty), (1.0, full)]) == full
    assert worst_of([(1.0, empty), (2.0, reading(0.6, 16))]) == empty
    assert worst_of([]) is None


def test_a_larger_card_that_is_fuller_counts() -> None:
    small = reading(0.7, 8)
    worst = worst_of([(1.0, small), (2.0, reading(0.9, 16))])
    assert worst is not None
    assert worst.used_share == pytest.approx(0.9, abs=1e-6)
    assert (worst.allocated_peak, worst.total) == (small.allocated_peak, small.total)


def test_simulated_clusters_land(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_script("scripts/benchmarking/cluster_simulation.py").main(["--clusters", "12"]) == 0
    told = capsys.readouterr().out
    landed = re.findall(r"clusters of (one kind of card|several kinds): ([\d.]+)%", told)
    assert [kind for kind, _ in landed] == ["one kind of card", "several kinds"]
    assert all(float(share) > 85 for _, share in landed), told
    assert told.count("0 gave up") == 2
