"""A size for each batch: how often each is drawn, and what is refused."""

from __future__ import annotations

from collections import Counter

import pytest

from traiNNer.automations import (
    AutomationContext,
    Automations,
    ProgressiveSizes,
    RandomSizes,
    Shape,
    ShapeBounds,
)
from traiNNer.utils.errors import OptionsError

CONTEXT = AutomationContext(ShapeBounds(16, 128, 8), Shape(32, 4), 2**30, seed=3)


def test_every_size_is_drawn_as_often_at_the_pixels_of_the_largest() -> None:
    automations = Automations({"RandomSizes": RandomSizes(CONTEXT, sizes=[32, 64, 48])})
    asked = automations.before_training()
    assert asked == Shape(64, 4)
    drawn = [automations.shape_of_batch(asked, position) for position in range(3000)]
    assert set(drawn) == {Shape(32, 16), Shape(48, 7), Shape(64, 4)}
    assert all(900 < count < 1100 for count in Counter(drawn).values())
    assert drawn == [automations.shape_of_batch(asked, position) for position in range(3000)]


def test_another_seed_draws_otherwise() -> None:
    first = RandomSizes(CONTEXT, sizes=[32, 64])
    other = RandomSizes(AutomationContext(CONTEXT.bounds, CONTEXT.start, 1), sizes=[32, 64])
    positions = range(0, 400, 4)
    shape = Shape(64, 4)
    ours = [first.shape_of_batch(shape, position) for position in positions]
    assert ours != [other.shape_of_batch(shape, position) for position in positions]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([32, 60], "sizes: a size of 60 px is not possible"),
        ([8, 32], "at least 16"),
        ([32, 136], "at most 128"),
        ([32, 32], "names a size twice"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        RandomSizes(CONTEXT, sizes=sizes)


def test_stages_beside_them_are_refused() -> None:
    with pytest.raises(OptionsError, match="allow no common shape"):
        Automations(
            {
                "RandomSizes": RandomSizes(CONTEXT, sizes=[32, 64]),
                "ProgressiveSizes": ProgressiveSizes(CONTEXT, stages=[{"size": 32}]),
            }
        )
