"""The controller on simulated cards: where it lands, what it does when memory runs out, what a
resume brings back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from traiNNer.automations import (
    AutomationContext,
    CardModel,
    Decision,
    DynamicBatchAndPatchSizeOptimizer,
    MemoryReading,
    NothingSmallerError,
    Shape,
    ShapeBounds,
    SimulatedMemory,
    SimulatedOutOfMemoryError,
    StepReport,
)
from traiNNer.automations.dynamic_batch_and_patch_size_optimizer import STUCK_STEPS
from traiNNer.options.components import check_parameters, parameter_docs, parameter_model
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS

GIB = 2**30
KIB = 2**10
CARD = CardModel(
    total=12 * GIB, persistent=GIB // 2, bytes_per_pixel=48 * KIB, noise=0.002, outside=GIB // 2
)
BOUNDS = ShapeBounds(16, 256, 8)
START = Shape(64, 8)
INJECTED = frozenset({"context"})


def make(
    card: CardModel = CARD, bounds: ShapeBounds = BOUNDS, **options: Any
) -> DynamicBatchAndPatchSizeOptimizer:
    context = AutomationContext(bounds, START, card.total)
    return DynamicBatchAndPatchSizeOptimizer(context, **options)


def drive(
    optimizer: DynamicBatchAndPatchSizeOptimizer, memory: SimulatedMemory, steps: int = 300
) -> list[tuple[int, Shape]]:
    """Train; the moves as (step, shape)."""
    moves: list[tuple[int, Shape]] = []
    for step in range(1, steps + 1):
        shape = optimizer.shape
        memory.start_window()
        try:
            memory.step(shape)
        except SimulatedOutOfMemoryError:
            decision = fail(optimizer, shape)
        else:
            decision = optimizer.after_step(StepReport(step, shape, memory.read()))
        if decision is not None:
            assert decision.shape == optimizer.shape
            moves.append((step, decision.shape))
    return moves


def fail(optimizer: DynamicBatchAndPatchSizeOptimizer, shape: Shape) -> Decision:
    """A step ran out of memory, and half of it fitted."""
    half = Shape(shape.lq_size, max(1, shape.batch_size // 2))
    decision = optimizer.after_out_of_memory(shape, half)
    assert decision is not None
    return decision


def step(
    optimizer: DynamicBatchAndPatchSizeOptimizer,
    reading: MemoryReading,
    shape: Shape | None = None,
    *,
    settled: bool = True,
) -> Decision | None:
    return optimizer.after_step(StepReport(1, shape or optimizer.shape, reading, settled))


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        replace(CARD, total=24 * GIB, attention=48 * KIB * 0.3 / 128**2),
        replace(CARD, total=8 * GIB, padding=8, fragmentation=1.06, fragmentation_spread=0.01),
        replace(CARD, total=48 * GIB, bytes_per_pixel=300 * KIB, persistent=6 * GIB),
        replace(CARD, workspace_chance=0.4, workspace_max=0.2 * GIB),
    ],
)
def test_it_lands_on_the_target_in_few_moves(card: CardModel) -> None:
    optimizer = make(card)
    memory = SimulatedMemory(card)
    moves = drive(optimizer, memory)
    assert 0.82 <= memory.share(optimizer.shape) <= 0.86
    assert len(moves) <= 8
    assert moves[-1][0] <= 150
    assert optimizer.oom_total == 0
    assert optimizer.bounds.contains(optimizer.shape)


class WithBaseline(SimulatedMemory):
    """What is there before a step is told, as every real device tells it."""

    def read(self) -> MemoryReading:
        return replace(super().read(), baseline=int(self.card.persistent))


@pytest.mark.parametrize("noise", [0.0, 0.0005])
@pytest.mark.parametrize("base", [0.3, 0.6, 0.7, 0.78])
def test_it_grows_where_the_program_itself_is_most_of_what_is_used(
    base: float, noise: float
) -> None:
    """As a CPU's budget is: single steps from small shapes change next to nothing."""
    total = 12 * GIB
    largest = Shape(128, 32)
    card = CardModel(
        total=total,
        persistent=base * total,
        bytes_per_pixel=(0.85 - base) * total / largest.pixels(),
        noise=noise,
    )
    optimizer = make(card, replace(BOUNDS, min_lq_size=8, size_multiple=1), min_lq_size=8)
    memory = WithBaseline(card)
    drive(optimizer, memory)
    assert 0.82 <= memory.share(optimizer.shape) <= 0.87
    assert optimizer.oom_total == 0


@pytest.mark.parametrize(("given_back", "steps"), [(70e6, 12), (20e6, 9), (1e9, 25)])
def test_it_grows_where_the_first_steps_took_more_than_those_that_follow(
    given_back: float, steps: int
) -> None:
    """What a program gives back after some steps, or a workspace of the first ones, says nothing of
    larger shapes.
    """
    total = 64 * GIB
    bounds = ShapeBounds(8, 24, 8, max_batch_size=3)
    optimizer = DynamicBatchAndPatchSizeOptimizer(AutomationContext(bounds, Shape(16, 2), total))
    for number in range(1, 121):
        pixels = optimizer.shape.pixels()
        peak = int(1.1 * GIB) + 300 * pixels + (int(given_back) if number <= steps else 0)
        reading = MemoryReading(peak, peak, 0, total, baseline=peak - 200 * pixels)
        step(optimizer, reading)
    assert optimizer.shape == Shape(24, 3)


def test_it_begins_small_and_grows_by_bounded_factors() -> None:
    optimizer = make()
    assert optimizer.before_training() == Shape(32, 1)
    shapes = [optimizer.shape, *(shape for _, shape in drive(optimizer, SimulatedMemory(CARD), 40))]
    for number, (old, new) in enumerate(itertools.pairwise(shapes), start=1):
        assert new.pixels() <= old.pixels() * 2**number


def test_lq_size_grows_before_the_batch() -> None:
    large = replace(CARD, total=80 * GIB)
    optimizer = make(large)
    memory = SimulatedMemory(large)
    drive(optimizer, memory)
    assert optimizer.shape.lq_size == 256  # its maximum
    assert optimizer.shape.batch_size > START.batch_size
    small = replace(CARD, total=6 * GIB)
    optimizer = make(small)
    memory = SimulatedMemory(small)
    drive(optimizer, memory)
    assert optimizer.shape.lq_size > START.lq_size
    assert optimizer.shape.batch_size >= START.batch_size


def test_the_batch_shrinks_before_lq_size() -> None:
    optimizer = make()
    memory = SimulatedMemory(CARD)
    drive(optimizer, memory)
    landed = optimizer.shape
    crowded = SimulatedMemory(replace(CARD, outside=int(0.09 * CARD.total)))
    moves = drive(optimizer, crowded, 60)
    assert moves
    assert optimizer.shape.pixels() < landed.pixels()
    assert optimizer.shape.lq_size >= landed.lq_size - 16
    assert 0.82 <= crowded.share(optimizer.shape) <= 0.86


def test_the_first_step_at_a_shape_and_unsettled_ones_are_not_measured() -> None:
    optimizer = make(adjustment_frequency=1)
    wrong = MemoryReading(11 * GIB, 11 * GIB, 0, 12 * GIB)
    right = MemoryReading(GIB, GIB, 0, 12 * GIB)
    assert step(optimizer, wrong) is None
    assert step(optimizer, wrong, settled=False) is None
    assert optimizer.model.count == 0
    assert step(optimizer, right) is not None


def test_an_unsettled_step_may_be_the_first_at_its_shape() -> None:
    optimizer = make(adjustment_frequency=1)
    reading = MemoryReading(GIB, GIB, 0, 12 * GIB)
    assert step(optimizer, reading, settled=False) is None
    assert step(optimizer, reading) is not None


def test_batches_of_another_shape_teach_but_do_not_decide() -> None:
    optimizer = make(adjustment_frequency=1)
    for _ in range(3):
        assert step(optimizer, MemoryReading(GIB, GIB, 0, 12 * GIB), Shape(40, 2)) is None
    assert optimizer.model.knows(Shape(40, 2))


def test_an_emergency_does_not_wait_for_the_window() -> None:
    optimizer = make(adjustment_frequency=50)
    drive(optimizer, SimulatedMemory(CARD), 500)
    landed = optimizer.shape
    decision = step(optimizer, MemoryReading(10 * GIB, int(11.5 * GIB), 0, 12 * GIB))
    assert decision is not None
    assert decision.shape.pixels() < landed.pixels()
    assert "above the limit of 90%" in decision.reason


def test_a_thrashing_allocator_is_an_emergency() -> None:
    optimizer = make()
    drive(optimizer, SimulatedMemory(CARD))
    landed = optimizer.shape
    decision = step(optimizer, MemoryReading(9 * GIB, 10 * GIB, 0, 12 * GIB, alloc_retries=1))
    assert decision is not None
    assert decision.shape.pixels() < landed.pixels()


def test_a_failed_size_is_banned_for_longer_each_time() -> None:
    optimizer = make()
    memory = SimulatedMemory(CARD)
    drive(optimizer, memory)
    lengths = []
    for _ in range(3):
        failed = optimizer.shape
        decision = fail(optimizer, failed)
        assert decision.shape.pixels() < failed.pixels()
        assert "out of memory" in decision.reason
        state = optimizer.state_dict()
        lengths.append(state["bans"]["entries"][-1]["until"] - state["window"]["count"])
        for _, shape in drive(optimizer, memory, 60):
            assert shape.pixels() < failed.pixels()
    assert lengths == [25, 50, 100]
    assert optimizer.oom_total == 3


def test_running_out_before_anything_was_measured() -> None:
    optimizer = make(min_lq_size=64, min_batch_size=4)
    assert optimizer.shape == Shape(64, 4)
    smallest = Shape(64, 4)
    # Once or twice may be a guest on the card: the step went through in chunks, the run goes on.
    for _ in range(STUCK_STEPS - 1):
        assert optimizer.after_out_of_memory(smallest, Shape(64, 2)) is None
    with pytest.raises(
        NothingSmallerError, match=r"(?s)lq_size 64, batch 4, on 12.00 GiB.*use_amp: true"
    ):
        optimizer.after_out_of_memory(smallest, Shape(64, 2))
    assert fail(optimizer, Shape(64, 8)).shape == Shape(64, 4)
    assert fail(make(max_batch_size=1), Shape(64, 1)).shape == Shape(40, 1)


def test_up_and_down_is_held() -> None:
    def outside(step: int) -> float:
        return (0.04 + 0.09 * (step // 40 % 2)) * CARD.total

    card = replace(CARD, outside=outside)
    optimizer = make(card)
    memory = SimulatedMemory(card)
    moves = drive(optimizer, memory, 1600)
    late = [step for step, _ in moves if step > 800]
    assert len(late) <= 10  # of 20 swings
    assert optimizer.state_dict()["pace"]["holds"] > 0


def test_it_stays_where_it_landed() -> None:
    optimizer = make()
    memory = SimulatedMemory(CARD)
    drive(optimizer, memory)
    assert drive(optimizer, memory, 1000) == []


def test_decisions_are_a_function_of_what_was_recorded() -> None:
    first = make()
    second = make()
    assert drive(first, SimulatedMemory(CARD)) == drive(second, SimulatedMemory(CARD))
    assert first.state_dict() == second.state_dict()


def test_a_resume_on_the_same_card_stays() -> None:
    optimizer = make()
    memory = SimulatedMemory(CARD)
    drive(optimizer, memory, 200)
    fail(optimizer, optimizer.shape)
    drive(optimizer, memory, 20)
    resumed = make()
    resumed.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    assert resumed.shape == optimizer.shape
    assert resumed.state_dict() == optimizer.state_dict()


def test_a_resume_in_the_middle_goes_on_alike() -> None:
    straight = make()
    memory = SimulatedMemory(replace(CARD, noise=0))
    drive(straight, memory, 20)  # the end of a window
    resumed = make()
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict())))
    drive(straight, SimulatedMemory(replace(CARD, noise=0)), 200)
    drive(resumed, SimulatedMemory(replace(CARD, noise=0)), 200)
    assert resumed.shape == straight.shape


@pytest.mark.parametrize("total", [8 * GIB, 24 * GIB])
def test_a_resume_on_another_card_solves_anew(total: int) -> None:
    optimizer = make()
    drive(optimizer, SimulatedMemory(CARD))
    other = replace(CARD, total=total)
    memory = SimulatedMemory(other)
    resumed = make(other)
    resumed.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    assert resumed.shape != optimizer.shape
    assert memory.share(resumed.shape) < 0.9
    moves = drive(resumed, memory)
    assert 0.82 <= memory.share(resumed.shape) <= 0.86
    assert len(moves) <= 3


def test_a_resume_with_narrower_bounds_stays_within_them() -> None:
    optimizer = make()
    drive(optimizer, SimulatedMemory(CARD))
    resumed = make(max_lq_size=64)
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.bounds.contains(resumed.shape)


def test_what_bounds_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    huge = replace(CARD, total=400 * GIB)
    optimizer = make(huge, max_batch_size=16)
    memory = SimulatedMemory(huge)
    with caplog.at_level("INFO"):
        drive(optimizer, memory)
    assert optimizer.shape == Shape(256, 16)
    lines = [r.message for r in caplog.records if "no more is possible" in r.message]
    assert len(lines) == 1  # said once
    assert "lq_size 256: the images, batch 16: max_batch_size" in lines[0]


def test_the_smallest_shape_above_the_target_is_kept_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiny = replace(CARD, total=int(1.2 * GIB))
    optimizer = make(tiny)
    memory = SimulatedMemory(tiny)
    with caplog.at_level("INFO"):
        assert drive(optimizer, memory) == []
    assert "is the smallest shape" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_vram_usage": 1.2}, "target_vram_usage is 1.2; expected a share between 0 and 1"),
        (
            {"target_vram_usage": 0.97},
            "safety_margin is 0.05; with target_vram_usage 0.97 expected above 0 and below 0.03",
        ),
        ({"safety_margin": 0.0}, "safety_margin is 0.0"),
        ({"min_lq_size": 36}, "the network needs a multiple of 8"),
        (
            {"min_batch_size": 9, "max_batch_size": 2},
            "max_batch_size is 2, below the smallest batch, 9",
        ),
        ({"max_lq_size": 8}, "max_lq_size is 8, below the smallest lq_size, 16"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        make(**options)


def test_it_is_registered_with_its_options() -> None:
    assert AUTOMATIONS["DynamicBatchSizeOptimizer"] is DynamicBatchAndPatchSizeOptimizer
    entry = AUTOMATIONS["dynamic_batch_and_patch_size_optimizer"]
    names = set(parameter_model(entry, INJECTED).model_fields)
    assert names == {
        "enabled",
        "final_share",
        "target_vram_usage",
        "safety_margin",
        "min_batch_size",
        "max_batch_size",
        "min_lq_size",
        "max_lq_size",
        "adjustment_frequency",
        "vram_history_size",
        "pace",
        "ramp",
        "throughput_guard",
        "max_step_seconds",
    }
    assert names <= set(parameter_docs(entry))
    assert check_parameters(entry, {"min_lq_size": 64, "enabled": True}, INJECTED) == {
        "min_lq_size": 64,
        "enabled": True,
    }
    with pytest.raises(ValueError, match="less than 1"):
        check_parameters(entry, {"target_vram_usage": 85.0}, INJECTED)


@pytest.mark.parametrize("read", [lambda o: o.describe(), lambda o: str(o.scalars())])
def test_it_tells_about_itself(read: Callable[[DynamicBatchAndPatchSizeOptimizer], str]) -> None:
    optimizer = make()
    drive(optimizer, SimulatedMemory(CARD))
    assert read(optimizer)
    assert set(optimizer.scalars()) >= {"vram/target_pct", "vram/predicted_pct"}
    assert (
        "lq_size 32 (min_lq_size) to 256 (the images), "
        "batch 1 (the network) to 256 (max_batch_size)" in optimizer.describe()
    )
