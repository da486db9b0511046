"""Levels, the controller of the headroom, and what it asks for alone and beside others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from traiNNer.automations import (
    AutomationContext,
    Automations,
    CardModel,
    MemoryLook,
    MemoryPressureController,
    Shape,
    ShapeBounds,
    SimulatedMemory,
    SimulatedOutOfMemoryError,
    StepReport,
    TimedLook,
)
from traiNNer.automations.memory_pressure_controller import CALM_STEPS
from traiNNer.automations.pressure import CALMER, MOST_CHANGE, Pid, PressureLevels
from traiNNer.utils.errors import OptionsError

GIB = 2**30
NAME = "MemoryPressureController"
BOUNDS = ShapeBounds(16, 128, 4)


def look(free: float, seconds: float = 0.0, total: int = 24 * GIB) -> TimedLook:
    used = int(total - free)
    return TimedLook(seconds, MemoryLook(used, used, 0, total))


def context(total: int = 24 * GIB) -> AutomationContext:
    return AutomationContext(BOUNDS, Shape(32, 16), total)


@pytest.mark.parametrize("gib", [6, 8, 12, 24, 48, 80])
def test_levels_begin_to_the_byte(gib: int) -> None:
    controller = MemoryPressureController(context(gib * GIB))
    assert controller.headroom == 0.15 * gib * GIB
    begins = [0.5, 0.3, 0.15]
    for level, share in enumerate(begins, 1):
        threshold = int(share * controller.headroom)
        # Above it the calmer level, if that was the level before.
        assert controller.levels.level(threshold + 1, level - 1) == level - 1
        assert controller.levels.level(threshold - 1, level - 1) == level
    assert controller.levels.level(0) == 3
    assert controller.levels.level(gib * GIB) == 0


def test_a_level_is_left_a_little_above_where_it_began() -> None:
    levels = PressureLevels(1000, 500, 100)
    assert levels.level(499) == 2
    assert levels.level(501, present=2) == 2
    assert levels.level(int(500 * CALMER) + 1, present=2) == 1
    # Not before the level itself has been left.
    assert levels.level(1000, present=1) == 1
    assert levels.level(1000, present=0) == 0


def test_the_controller_is_proportional_integral_and_derivative() -> None:
    assert Pid(0.5, 0, 0).update(-0.4, 0) == pytest.approx(-0.2)
    integral = Pid(0, 0.1, 0)
    assert integral.update(-1, 0) == 0
    assert integral.update(-1, 2) == pytest.approx(-0.2)
    derivative = Pid(0, 0, 0.1)
    derivative.update(0, 0)
    assert derivative.update(-0.5, 0.5) == pytest.approx(-0.1)
    extreme = Pid(10, 0, 0)
    assert extreme.update(-1, 0) == -MOST_CHANGE
    assert extreme.update(1, 1) == MOST_CHANGE
    # Two looks at one moment have no slope.
    assert derivative.update(0.5, 0.5) == 0


def beside(**settings: Any) -> tuple[Automations, MemoryPressureController]:
    active = {"DynamicBatchAndPatchSizeOptimizer": {}, NAME: settings}
    automations = Automations.build(active, context())
    controller = automations.parts[NAME]
    assert isinstance(controller, MemoryPressureController)
    automations.before_training()
    return automations, controller


def test_beside_another_it_asks_for_less_only_under_pressure() -> None:
    automations, controller = beside()
    wanted = controller.headroom
    assert automations.watch([look(wanted)]) is None
    assert automations.watch([look(0.4 * wanted, 1)]) is None
    # In force is what the other asked for.
    for shape in (Shape(64, 16), Shape(128, 16)):
        controller.follow(shape)
        controller.after_step(StepReport(1, shape))
    smaller = controller.watch([look(0.2 * wanted, 2)])
    assert smaller is not None
    assert smaller.reason.startswith("memory pressure is high")
    assert (smaller.shape.lq_size, smaller.shape.batch_size < 16) == (128, True)
    controller.follow(smaller.shape)
    # What it changed is to be seen before it changes more.
    assert controller.watch([look(0.2 * wanted, 3)]) is None
    critical = controller.watch([look(0.1 * wanted, 4)])
    assert critical is not None
    assert critical.shape == Shape(64, 16)


def test_memory_is_given_back_at_a_critical_level_and_not_too_often() -> None:
    automations, controller = beside(emergency_cooldown_s=10)
    wanted = controller.headroom
    given_back: list[int] = []
    for seconds in range(25):
        automations.watch([look(0.05 * wanted, seconds)])
        if controller.wants_memory_back:
            given_back.append(seconds)
    assert given_back == [0, 10, 20]
    assert controller.scalars()["pressure/collections"] == 3
    automations.watch([])
    assert not controller.wants_memory_back


def test_when_it_is_calm_the_others_decide_alone() -> None:
    _, controller = beside()
    wanted = controller.headroom
    controller.after_step(StepReport(1, Shape(16, 1)))
    controller.follow(Shape(128, 16))
    pressed = controller.watch([look(0.05 * wanted)])
    assert pressed is not None
    assert pressed.shape == Shape(16, 1)
    controller.follow(pressed.shape)
    decisions = []
    for seconds in range(1, 30):
        controller.watch([look(2 * wanted, seconds)])
        decisions.append(controller.after_step(StepReport(seconds, pressed.shape)))
    (free,) = [decision for decision in decisions if decision is not None]
    # As large as the bounds allow: the others ask for less.
    assert free.shape == Shape(128, BOUNDS.largest_batch(128))
    # Not at the first calm look.
    assert decisions.index(free) == CALM_STEPS - 1


def run(
    card: CardModel, steps: int, *, start: Shape, visits: dict[int, float] | None = None
) -> tuple[list[Shape], int]:
    """The controller alone for so many steps; shapes and out-of-memories. What others hold changes
    at the steps of `visits`.
    """
    held = 0.0
    memory = SimulatedMemory(replace(card, outside=lambda _step: held))
    alone = AutomationContext(BOUNDS, start, card.total)
    automations = Automations.build({NAME: {}}, alone)
    automations.before_training()
    shapes: list[Shape] = []
    failures = 0
    for step in range(1, steps + 1):
        held = (visits or {}).get(step, held)
        if automations.watch([TimedLook(step / 4, memory.look())]) is not None:
            memory.release()
        shape = automations.shape
        shapes.append(shape)
        memory.start_window()
        try:
            memory.step(shape)
        except SimulatedOutOfMemoryError:
            failures += 1
            decision = automations.after_out_of_memory(shape, Shape(shape.lq_size, 1))
        else:
            decision = automations.after_step(StepReport(step, shape, memory.read()))
        if decision is not None:
            memory.release()
    return shapes, failures


CARD = CardModel(8 * GIB, 0.5 * GIB, 100_000.0, noise=0.002)


def test_alone_the_batch_follows_the_headroom() -> None:
    shapes, failures = run(CARD, 200, start=Shape(32, 8), visits={60: 2.5 * GIB, 130: 0.0})
    assert failures == 0
    assert {shape.lq_size for shape in shapes} == {32}
    memory = SimulatedMemory(CARD)
    assert 0.83 <= memory.share(shapes[58]) <= 0.87
    # In the very step before which a guest of 2.5 GiB of the 8 was seen.
    assert shapes[59].batch_size < 0.6 * shapes[58].batch_size
    assert 0.83 <= memory.share(shapes[128]) + 2.5 / 8 <= 0.87
    assert 0.83 <= memory.share(shapes[-1]) <= 0.87


def test_alone_it_survives_what_comes_at_once() -> None:
    shapes, failures = run(CARD, 90, start=Shape(32, 60), visits={30: 5 * GIB})
    assert failures <= 2
    assert 0.8 <= SimulatedMemory(CARD).share(shapes[-1]) + 5 / 8 <= 0.88


def test_a_state_knows_what_was_learned() -> None:
    _, first = beside()
    first.after_step(StepReport(1, Shape(64, 8)))
    first.watch([look(0.05 * first.headroom)])
    automations, second = beside()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert second.collections == 1
    assert automations.watch([]) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target_headroom_gib": 24}, "target_headroom_gib is 24, and there are 24.00 GiB in all"),
        ({"levels": {"moderate": 0.2}}, "moderate 0.2, high 0.3, critical 0.15; each has to be"),
        ({"levels": {"critical": 0.5}}, "each has to be below the one before"),
    ],
)
def test_what_cannot_be_kept_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        MemoryPressureController(context(), **settings)
