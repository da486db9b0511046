"""Shares of a stream: together they are all of it, and none is anybody else's."""

from __future__ import annotations

import random

import pytest

from traiNNer.data.deal import Deal


@pytest.mark.parametrize("seed", range(20))
def test_the_parts_of_each_step_are_the_next_positions(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.randint(1, 6)
    shares = (*(rng.choice([1.0, 1.0, 1.125, 2.5, 4.0]) for _ in range(size - 1)), 1.0)
    deals = [Deal(rank, shares) for rank in range(size)]
    start = rng.randint(0, 50)
    batch = rng.randint(1, 9)
    for step in range(4):
        used: list[int] = []
        for deal in deals:
            own = deal.own(batch)
            assert own >= batch
            assert deal.asked(own) == batch
            numbers = range(step * own, (step + 1) * own)
            used += [deal.position(start, number, batch) for number in numbers]
        first = start + step * deals[0].total(batch)
        assert sorted(used) == list(range(first, first + deals[0].total(batch)))
    for deal in deals:
        assert deal.consumed(3 * deal.own(batch), batch) == 3 * deal.total(batch)


def test_equal_shares_take_turns_whatever_the_batch() -> None:
    deal = Deal(1, (1.0, 1.0, 1.0))
    assert deal.is_even
    for batch in (2, 7):
        assert [deal.position(10, number, batch) for number in range(3)] == [11, 14, 17]
        assert deal.consumed(5, batch) == 15
    alone = Deal()
    assert [alone.position(4, number, 8) for number in range(3)] == [4, 5, 6]


def test_less_than_a_share_is_still_a_sample() -> None:
    assert Deal(0, (4.0, 1.0)).asked(1) == 1
