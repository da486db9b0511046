"""Shapes, ladders and what bounds them."""

from __future__ import annotations

import pytest

from traiNNer.automations import Shape, ShapeBounds
from traiNNer.utils.errors import OptionsError


def test_pixels_are_padded_to_the_grid_and_counted_over_frames() -> None:
    assert Shape(30, 2).pixels() == 1800
    assert Shape(30, 2).pixels(frames=5, multiple=16) == 2 * 5 * 32 * 32


@pytest.mark.parametrize(
    ("low", "high", "multiple", "expected"),
    [
        (30, 45, 1, (30, 32, 36, 40, 44, 45)),
        (30, 45, 8, (32, 40)),
        (1, 100, 48, (48, 96)),
        (16, 20, 6, (18,)),
        (64, 64, 64, (64,)),
    ],
)
def test_ladder(low: int, high: int, multiple: int, expected: tuple[int, ...]) -> None:
    assert ShapeBounds(low, high, multiple).ladder == expected


def test_no_tensor_above_the_elements() -> None:
    bounds = ShapeBounds(64, 512, elements_per_pixel=64 * 16, max_batch_size=256)
    batch = bounds.largest_batch(512)
    assert batch * 512**2 * 1024 < 2**31 <= (batch + 1) * 512**2 * 1024
    assert bounds.ceiling(Shape(512, batch)) == [
        "lq_size 512: the images",
        "2^31 elements in a tensor",
    ]


def test_the_ceiling_is_named_only_where_nothing_can_grow() -> None:
    bounds = ShapeBounds(16, 64, max_batch_size=8).narrowed(max_batch_size=4)
    assert bounds.ceiling(Shape(64, 3)) == []
    assert bounds.ceiling(Shape(60, 4)) == []
    assert bounds.ceiling(Shape(64, 4)) == ["lq_size 64: the images", "batch 4: max_batch_size"]


def test_nearest_and_contains() -> None:
    bounds = ShapeBounds(16, 64, 16, min_batch_size=2, max_batch_size=8)
    assert bounds.nearest(Shape(100, 100)) == Shape(64, 8)
    assert bounds.nearest(Shape(50, 1)) == Shape(48, 2)
    assert bounds.contains(Shape(48, 8))
    assert not bounds.contains(Shape(50, 8))
    assert not bounds.contains(Shape(48, 9))
    assert bounds.smallest == Shape(16, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"min_lq_size": 30},
            "min_lq_size is 30; the network needs a multiple of 8, for example 24 or 32",
        ),
        ({"max_lq_size": 100}, "max_lq_size is 100; the network needs a multiple of 8"),
        ({"min_lq_size": 8}, r"expected at least 16 \(the network\)"),
        ({"min_lq_size": 256}, "the images allow at most 128"),
        (
            {"min_lq_size": 64, "max_lq_size": 32},
            "max_lq_size is 32, below the smallest lq_size, 64",
        ),
        ({"min_batch_size": 1}, "min_batch_size is 1; expected at least 2"),
        (
            {"min_batch_size": 9, "max_batch_size": 3},
            "max_batch_size is 3, below the smallest batch, 9",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        ShapeBounds(16, 128, 8, min_batch_size=2).narrowed(**options)


def test_all_problems_at_once() -> None:
    with pytest.raises(OptionsError, match=r"(?s)min_lq_size.*max_batch_size"):
        ShapeBounds(16, 128, 8).narrowed(min_lq_size=30, max_batch_size=0)


def test_bounds_without_a_shape() -> None:
    with pytest.raises(
        OptionsError,
        match=r"at least 50 \(the network\), at most 60 \(the images\), a multiple of 64",
    ):
        ShapeBounds(50, 60, 64)
    with pytest.raises(OptionsError, match="more than 100 elements"):
        ShapeBounds(50, 60, max_elements=100)
