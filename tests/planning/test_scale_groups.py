"""Which sizes of a step are run once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import small_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.scale_groups import TARGET, group_scales_by_memory, plan_scale_group
from traiNNer.planning.step_memory import StepTracker
from traiNNer.utils.memory import MemoryLook
from traiNNer.utils.shape import Shape


@pytest.mark.parametrize(
    ("free", "group"),
    [
        (-1, (0,)),
        (0, (0,)),
        (40, (0, 3)),
        (60, (0, 2)),
        (100, (0, 2, 3)),
        (130, (0, 1)),
        (1000, (0, 1, 2, 3)),
    ],
)
def test_the_largest_that_fit_are_chosen(free: float, group: tuple[int, ...]) -> None:
    assert group_scales_by_memory((90, 64, 26, 20), 2.0, free) == group


def test_a_group_is_as_large_as_the_memory(tmp_path: Path) -> None:
    given = small_options(tmp_path)
    given["datasets"]["train"] |= {"scales": [16, 24, 32], "lq_size": 32}
    given["train"]["scale_consistency"] = {"recompute": True}
    options = TrainingOptions.model_validate(given)
    shape = Shape(32, options.datasets.train.batch_size_per_gpu)
    alone = StepTracker(options).track(shape).peak
    given["train"]["scale_consistency"] = {"recompute": False}
    all_at_once = StepTracker(TrainingOptions.model_validate(given)).track(shape).peak
    held = 10_000_000
    nothing_left = MemoryLook(0, held, held, int((alone + 2 * held) / TARGET))
    assert plan_scale_group(options, nothing_left) == (0,)
    plenty = replace(nothing_left, total=2 * nothing_left.total)
    assert plan_scale_group(options, plenty) == (0, 1, 2)
    # Half of what both take: more than the smaller, and less than the larger.
    half = (all_at_once - alone) / 2
    some = replace(nothing_left, total=nothing_left.total + int(half / TARGET))
    assert plan_scale_group(options, some) == (0, 2)
