"""Several automations at once: bounds intersect, the smallest wish is in force, all learn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from traiNNer.automations import (
    Automation,
    AutomationContext,
    Automations,
    CardModel,
    Decision,
    DynamicBatchAndPatchSizeOptimizer,
    MemoryReading,
    Shape,
    ShapeBounds,
    SimulatedMemory,
    StepReport,
)
from traiNNer.utils.errors import CheckpointError, OptionsError
from traiNNer.utils.text import GIB

CARD = CardModel(
    total=12 * GIB, persistent=GIB // 2, bytes_per_pixel=48 * 2**10, noise=0.002, outside=GIB // 2
)
CONTEXT = AutomationContext(ShapeBounds(16, 256, 8), Shape(64, 8), CARD.total)


class Cap(Automation):
    """Allows lq_size up to `side` before an iteration."""

    def __init__(self, side: int, before: int) -> None:
        super().__init__(CONTEXT)
        self.side = side
        self.before = before
        self.iteration = 0

    @property
    def bounds(self) -> ShapeBounds:
        if self.iteration >= self.before:
            return self.context.bounds
        return self.context.bounds.narrowed(max_lq_size=self.side)

    def after_step(self, report: StepReport) -> Decision | None:
        self.iteration = report.iteration
        return None

    def scalars(self) -> dict[str, float]:
        return {"stage/max_lq_size": float(self.bounds.max_lq_size)}

    def state_dict(self) -> dict[str, Any]:
        return {"iteration": self.iteration}

    def load_state_dict(self, state: Any) -> None:
        self.iteration = state["iteration"]


class Wish(Automation):
    """Wishes for one shape all the time, or from an iteration on for another."""

    def __init__(self, shape: Shape | None, later: dict[int, Shape] | None = None) -> None:
        super().__init__(CONTEXT)
        self.shape = shape
        self.later = later or {}
        self.told: list[Shape] = []

    def before_training(self, *, resumed: bool = False) -> Shape | None:
        return self.shape

    def after_step(self, report: StepReport) -> Decision | None:
        shape = self.later.get(report.iteration)
        return None if shape is None else Decision(shape, "as planned")

    def follow(self, shape: Shape) -> None:
        self.told.append(shape)


def optimizer(**options: Any) -> DynamicBatchAndPatchSizeOptimizer:
    return DynamicBatchAndPatchSizeOptimizer(CONTEXT, **options)


def drive(
    automations: Automations, memory: SimulatedMemory, begin: int, end: int
) -> dict[int, Decision]:
    """Train; the decisions by step."""
    decisions: dict[int, Decision] = {}
    for step in range(begin, end):
        shape = automations.shape
        memory.start_window()
        memory.step(shape)
        decision = automations.after_step(StepReport(step, shape, memory.read()))
        assert automations.bounds.contains(automations.shape)
        if decision is not None:
            assert decision.shape == automations.shape
            decisions[step] = decision
    return decisions


def test_one_alone_is_passed_on_as_it_is() -> None:
    alone = optimizer()
    automations = Automations({"memory": optimizer()})
    assert automations.before_training() == alone.before_training()
    memory = SimulatedMemory(CARD)
    for step in range(1, 200):
        memory.start_window()
        memory.step(alone.shape)
        report = StepReport(step, alone.shape, memory.read())
        expected = alone.after_step(report)
        decision = automations.after_step(report)
        if expected is None or decision is None:
            assert decision == expected
        else:
            assert str(decision) == str(expected)
            assert decision.decided_by == "memory"
    assert automations.bounds == alone.bounds
    assert automations.scalars() == alone.scalars()


def test_a_cap_that_ends_lets_the_optimizer_grow_into_the_room() -> None:
    memory = SimulatedMemory(CARD)
    automations = Automations({"memory": optimizer(), "stage": Cap(64, before=200)})
    assert automations.before_training() == Shape(32, 1)
    assert automations.bounds.ladder[-1] == 64
    drive(automations, memory, 1, 200)
    capped = automations.shape
    assert capped.lq_size <= 64
    assert 0.82 <= memory.share(capped) <= 0.86
    assert automations.scalars()["stage/max_lq_size"] == 64
    decisions = drive(automations, memory, 200, 400)
    assert automations.bounds.ladder[-1] == 256
    assert automations.shape.lq_size > 64
    assert 0.82 <= memory.share(automations.shape) <= 0.86
    assert all(decision.decided_by == "memory" for decision in decisions.values())


def test_a_cap_that_begins_moves_the_optimizer_inside_at_once() -> None:
    class Later(Cap):
        @property
        def bounds(self) -> ShapeBounds:
            bounds = self.context.bounds
            return bounds.narrowed(max_lq_size=self.side) if self.iteration >= 200 else bounds

    memory = SimulatedMemory(CARD)
    automations = Automations({"memory": optimizer(), "stage": Later(48, before=0)})
    drive(automations, memory, 1, 200)
    assert automations.shape.lq_size > 48
    decisions = drive(automations, memory, 200, 300)
    first = decisions[200]
    assert first.shape.lq_size <= 48
    assert first.shape.batch_size > 8  # what the memory model says of the room is not thrown away
    assert 0.6 < memory.share(first.shape) < 0.9
    assert first.predicted_share == pytest.approx(memory.share(first.shape), abs=0.03)
    assert "memory: the bounds have moved" in str(first)


def test_the_smallest_wish_is_in_force_and_the_others_learn() -> None:
    memory = SimulatedMemory(CARD)
    fixed = Wish(Shape(64, 4))
    ours = optimizer()
    automations = Automations({"memory": ours, "fixed": fixed})
    assert automations.before_training() == Shape(32, 1)  # the optimizer begins smaller
    decisions = drive(automations, memory, 1, 100)
    last = list(decisions.values())[-1]
    assert automations.shape == last.shape == fixed.told[-1] == Shape(64, 4)
    assert last.decided_by == "fixed"
    assert last.reason == "fixed: asks for the fewest pixels now"
    assert last.predicted_share == pytest.approx(memory.share(Shape(64, 4)), abs=0.05)
    assert ours.model.knows(Shape(64, 4))
    assert ours.shape.pixels() > Shape(64, 4).pixels()
    expected = automations.scalars()["vram/predicted_pct"]
    assert expected == pytest.approx(100 * memory.share(Shape(64, 4)), abs=1)


def test_a_wish_that_ends_gives_way_to_the_next() -> None:
    memory = SimulatedMemory(CARD)
    wish = Wish(Shape(64, 4), later={150: Shape(256, 256)})
    automations = Automations({"fixed": wish, "memory": optimizer()})
    drive(automations, memory, 1, 150)
    decisions = drive(automations, memory, 150, 300)
    assert decisions[150].decided_by == "memory"
    assert 0.82 <= memory.share(automations.shape) <= 0.86


def test_an_emergency_counts_at_any_shape() -> None:
    automations = Automations({"memory": optimizer(), "fixed": Wish(Shape(64, 4))})
    drive(automations, SimulatedMemory(CARD), 1, 100)
    full = MemoryReading(11 * GIB, int(11.5 * GIB), 0, 12 * GIB)
    decision = automations.after_step(StepReport(100, Shape(64, 4), full))
    assert decision is not None
    assert decision.decided_by == "memory"
    assert decision.shape.pixels() < Shape(64, 4).pixels()


def test_a_failure_lowers_a_wish_of_another() -> None:
    automations = Automations({"fixed": Wish(Shape(64, 4)), "memory": optimizer()})
    drive(automations, SimulatedMemory(CARD), 1, 100)
    decision = automations.after_out_of_memory(Shape(64, 4), Shape(64, 2))
    assert decision is not None
    assert decision.shape.pixels() < Shape(64, 4).pixels()
    assert "memory: out of memory at lq_size 64, batch 4" in str(decision)


def test_a_wish_outside_the_bounds_is_brought_inside() -> None:
    automations = Automations({"fixed": Wish(Shape(100, 4)), "stage": Cap(48, before=10)})
    assert automations.before_training() == Shape(48, 4)
    decision = None
    for step in range(1, 11):
        decision = decision or automations.after_step(StepReport(step, automations.shape))
    assert decision is not None
    assert decision.shape == Shape(96, 4)  # on the grid
    assert "brought inside lq_size 16 (the network) to 256 (the images)" in str(decision)
    assert "predicted" not in str(decision)


def test_without_a_wish_the_options_hold_as_far_as_the_bounds_allow() -> None:
    assert Automations({"fixed": Wish(None)}).before_training() is None
    automations = Automations({"fixed": Wish(None), "stage": Cap(48, before=2)})
    assert automations.before_training() == Shape(48, 8)
    assert automations.after_step(StepReport(1, Shape(48, 8))) is None
    decision = automations.after_step(StepReport(2, Shape(48, 8)))
    assert decision is not None
    assert decision.shape == CONTEXT.start
    assert "the bounds have moved" in str(decision)


def test_bounds_that_exclude_each_other_name_both() -> None:
    message = (
        r"(?s)no common shape:.*memory allows lq_size 64 \(min_lq_size\) to 256 \(the images\).*"
        r"stage allows lq_size 16 \(the network\) to 32 \(max_lq_size\), batch 1 \(the network\)"
    )
    parts = {"other": Wish(None), "memory": optimizer(min_lq_size=64), "stage": Cap(32, 9)}
    with pytest.raises(OptionsError, match=message) as caught:
        Automations(parts)
    assert "other" not in str(caught.value)


def test_a_state_is_loaded_by_name(caplog: pytest.LogCaptureFixture) -> None:
    memory = SimulatedMemory(CARD)
    automations = Automations({"memory": optimizer(), "stage": Cap(64, before=1000)})
    drive(automations, memory, 1, 100)
    state = json.loads(json.dumps(automations.state_dict()))
    other = Automations({"fixed": Wish(Shape(256, 256)), "memory": optimizer()})
    with caplog.at_level("WARNING"):
        other.load_state_dict(state)
    assert "fixed is not in the checkpoint: it begins anew" in caplog.text
    assert "stage is in the checkpoint and not enabled now" in caplog.text
    assert other.before_training() == automations.shape
    assert other.bounds.ladder[-1] == 256  # the cap is gone
    drive(other, memory, 100, 300)
    assert other.shape.lq_size > 64


@pytest.mark.parametrize("change", [{"pace": {"arrived": "often"}}, {"pace": None}, {"model": {}}])
def test_a_state_of_another_version_is_named(change: dict[str, Any]) -> None:
    automations = Automations({"memory": optimizer()})
    state = automations.state_dict()
    state["automations"]["memory"] |= change
    with pytest.raises(CheckpointError, match="state of memory cannot be read"):
        automations.load_state_dict(state)


def test_they_are_built_by_name_from_one_context() -> None:
    active = {"DynamicBatchAndPatchSizeOptimizer": {"max_batch_size": 16}}
    automations = Automations.build(active, CONTEXT)
    assert automations.bounds.max_batch_size == 16
    (part,) = automations.parts.values()
    assert part.describe().startswith("85% of 12.00 GiB")
    with pytest.raises(ValueError, match="at least one automation"):
        Automations.build({}, CONTEXT)


def test_who_decided_is_said_where_there_is_a_choice() -> None:
    decision = Decision(Shape(64, 8), "more room", 0.5, "memory")
    assert str(decision) == "lq_size 64, batch 8: predicted 50.0% (more room)"
    assert str(Decision(Shape(64, 8), "a stage")) == "lq_size 64, batch 8 (a stage)"
