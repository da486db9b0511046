"""The order that visits the easy elements first."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from traiNNer.data.curriculum import (
    LEAST_BLOCK,
    AdaptiveCurriculumSampler,
    Snapshot,
    competence,
    ranks_of,
)

LENGTH = 50


def made(**settings: float | None) -> AdaptiveCurriculumSampler:
    return AdaptiveCurriculumSampler(LENGTH, 3, 2, **settings)  # type: ignore[arg-type]


def elements(order: AdaptiveCurriculumSampler, block: int) -> list[int]:
    first = block * order.block
    return [order.visit(first + place).index for place in range(order.block)]


def easiest(share: float) -> Snapshot:
    """By which element 0 is the easiest."""
    return Snapshot(share, ranks_of(list(range(LENGTH))))


def test_blocks_are_whole_epochs_and_begin_with_all_elements() -> None:
    order = made()
    assert order.samples_per_epoch == 2 * LENGTH
    assert order.block >= LEAST_BLOCK
    assert order.block % order.samples_per_epoch == 0
    for block in (0, 1):
        visits = Counter(elements(order, block))
        assert set(visits) == set(range(LENGTH))
        assert set(visits.values()) == {order.block // LENGTH}
    assert elements(order, 0) != elements(order, 1)
    # Each visit of an element gets its own crop.
    seeds = {order.visit(place).seed for place in range(order.block)}
    assert len(seeds) == order.block


def test_a_block_is_longer_than_what_is_read_ahead() -> None:
    order = AdaptiveCurriculumSampler(LENGTH, 3, 2, largest_batch=1024)
    assert order.block >= 5 * 1024
    assert order.block % order.samples_per_epoch == 0


def test_the_easy_ones_take_part_equally_often() -> None:
    order = made()
    before = elements(order, 0), elements(order, 1)
    order.decide(order.block, easiest(0.3))
    # Of a block that may have been read already nothing changes.
    assert (elements(order, 0), elements(order, 1)) == before
    visits = Counter(elements(order, 2))
    assert set(visits) == set(range(15))
    assert max(visits.values()) - min(visits.values()) <= 1
    # Until the next word.
    assert set(elements(order, 5)) == set(range(15))
    order.decide(5 * order.block, easiest(1.0))
    assert len(set(elements(order, 6))) == LENGTH


def test_a_floor_shares_out_the_hard_ones() -> None:
    order = AdaptiveCurriculumSampler(1400, 0, floor=4)
    order.decide(0, Snapshot(0.2, ranks_of(list(range(1400)))))
    blocks = [set(elements(order, block)) for block in range(1, 5)]
    assert all(set(range(280)) <= block for block in blocks)
    assert set.union(*blocks) == set(range(1400))
    assert all(len(block) < 700 for block in blocks)
    # A block of many epochs has each of them several times.
    small = made(floor=4)
    small.decide(0, easiest(0.1))
    visits = Counter(elements(small, 1))
    assert set(visits) == set(range(LENGTH))
    assert visits[LENGTH - 1] == -(-small.block // small.samples_per_epoch // 4)
    assert visits[0] > 10 * visits[LENGTH - 1]


def test_a_temperature_blurs_the_limit() -> None:
    order = made(temperature=0.2)
    order.decide(0, easiest(0.3))
    chosen = [set(elements(order, block)) for block in range(1, 20)]
    counts = Counter(element for block in chosen for element in block)
    assert all(len(block) == 15 for block in chosen)
    assert len(counts) > 25
    assert counts[0] > counts[20] > counts[45]


def test_a_state_gives_the_same_visits_in_the_same_and_the_next_block() -> None:
    order = made(temperature=0.1, floor=3)
    order.decide(0, easiest(0.2))
    order.decide(order.block, easiest(0.5))
    wanted = [elements(order, block) for block in (1, 2)]
    again = made(temperature=0.1, floor=3)
    again.load_state_dict(order.state_dict())
    assert [elements(again, block) for block in (1, 2)] == wanted
    other = AdaptiveCurriculumSampler(LENGTH + 1, 3, 2)
    other.load_state_dict(order.state_dict())
    assert len(set(elements(other, 1))) == LENGTH + 1


def test_a_snapshot_keeps_its_place_with_blocks_of_another_length() -> None:
    """As for another number of processes."""
    order = made()
    order.decide(3 * order.block, easiest(0.3))
    longer = AdaptiveCurriculumSampler(LENGTH, 3, 2, largest_batch=order.block // 5 * 2)
    assert longer.block == 2 * order.block
    longer.load_state_dict(order.state_dict())
    wanted = set(elements(order, 4))
    assert len(wanted) < LENGTH
    assert set(elements(longer, 2)) == wanted
    assert len(set(elements(longer, 1))) == LENGTH


def test_what_was_decided_stays() -> None:
    order = made()
    order.decide(10, easiest(0.2))
    wanted = elements(order, 1)
    order.decide(20, easiest(0.9))
    assert elements(order, 1) == wanted


def test_ranks_and_competence() -> None:
    assert ranks_of([3.0, None, 1.0, 2.0]).tolist() == [1.0, 0.5, 0.0, 0.5]
    assert ranks_of([None]).tolist() == [0.5]
    assert ranks_of([2.0]).dtype is torch.float32
    assert competence(0, 0.3, 0.5) == pytest.approx(0.3)
    assert competence(0.5, 0.3, 0.5) == 1
    assert competence(0.9, 0.3, 0.5) == 1
    rising = [competence(share / 10, 0.1, 1) for share in range(11)]
    assert rising == sorted(rising)
    assert rising[1] - rising[0] > rising[10] - rising[9]
