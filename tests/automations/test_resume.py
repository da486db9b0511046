"""A run that was interrupted goes on exactly as it would have: whatever the step, every later
decision is the same.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from typing import Any

from traiNNer.automations import (
    Automation,
    AutomationContext,
    Automations,
    CardModel,
    Decision,
    DynamicBatchAndPatchSizeOptimizer,
    NothingSmallerError,
    Shape,
    ShapeBounds,
    SimulatedMemory,
    SimulatedOutOfMemoryError,
    StepReport,
)
from traiNNer.utils.text import GIB

KIB = 2**10

CARDS = 12
STEPS = 300
SAVES = 52  # of each run
REPLAYED = 16


@dataclass(frozen=True)
class Event:
    """What the loop told after a step: a report, or what ran out of memory and what fitted."""

    report: StepReport | None = None
    failed: tuple[Shape, Shape] | None = None

    def tell(self, automation: Automation | Automations) -> Decision | None:
        if self.failed is not None:
            return automation.after_out_of_memory(*self.failed)
        assert self.report is not None
        return automation.after_step(self.report)


@dataclass
class Run:
    """A straight run: what was told and decided after each step; by step the states as JSON, and
    all that the objects held.
    """

    events: list[Event] = field(default_factory=list)
    decisions: list[Decision | None] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    contents: dict[int, Any] = field(default_factory=dict)
    end: Any = None


def draw(seed: int) -> tuple[CardModel, AutomationContext]:
    """A random card with noise, drift of what others hold, workspaces and hidden padding."""
    chance = random.Random(seed)
    total = chance.choice([6, 8, 12, 24, 48]) * GIB
    per_pixel = 4 * KIB * 2 ** chance.uniform(1, 7)
    padding = chance.choice([1, 1, 8, 16, 32])
    jump = chance.uniform(0.0, 0.07) * total
    begin = chance.randrange(40, 200)
    length = chance.choice([20, 60, 200])
    card = CardModel(
        total=total,
        persistent=chance.uniform(0.01, 0.25) * total,
        bytes_per_pixel=per_pixel,
        padding=padding,
        attention=chance.choice([0.0, 0.3]) * per_pixel / 128**2,
        noise=chance.uniform(0.001, 0.006),
        workspace_chance=chance.uniform(0.0, 0.5),
        workspace_max=0.03 * total,
        fragmentation=chance.uniform(1.0, 1.08),
        fragmentation_spread=0.01,
        outside=lambda step: 0.05 * total + (jump if begin <= step < begin + length else 0.0),
        seed=seed,
    )
    declared = padding if chance.random() < 0.7 else 1
    bounds = ShapeBounds(max(8, declared), chance.choice([96, 256, 512]), declared)
    return card, AutomationContext(bounds, Shape(64, chance.choice([4, 8, 16])), total)


class Stages(Automation):
    """Caps lq_size by iteration, and asks for a batch of 6 in the middle of the run."""

    iteration = 0

    @property
    def bounds(self) -> ShapeBounds:
        if not 60 <= self.iteration < 120:
            return self.context.bounds
        return self.context.bounds.narrowed(max_lq_size=64)

    def after_step(self, report: StepReport) -> Decision | None:
        self.iteration = report.iteration
        if self.iteration == 150:
            return Decision(Shape(64, 6), "a batch of 6")
        return Decision(Shape(512, 256), "no wish") if self.iteration == 200 else None

    def state_dict(self) -> dict[str, Any]:
        return {"iteration": self.iteration}

    def load_state_dict(self, state: Any) -> None:
        self.iteration = state["iteration"]


def alone(context: AutomationContext) -> DynamicBatchAndPatchSizeOptimizer:
    return DynamicBatchAndPatchSizeOptimizer(context, vram_history_size=8)


def together(context: AutomationContext) -> Automations:
    return Automations({"memory": alone(context), "stages": Stages(context)})


def straight(
    seed: int,
    build: Callable[[AutomationContext], Any],
    context: AutomationContext,
    card: CardModel,
) -> Run:
    """Train, with a failure now and then that has nothing to do with the memory's formula."""
    automation = build(context)
    chance = random.Random(f"events {seed}")
    save_at = set(chance.sample(range(1, STEPS), SAVES - 8))
    failures = set(chance.sample(range(30, STEPS), 3)) if seed % 4 >= 2 else set()
    memory = SimulatedMemory(card)
    run = Run()
    for number in range(1, STEPS + 1):
        shape = automation.shape
        memory.start_window()
        try:
            if number in failures:
                raise SimulatedOutOfMemoryError
            memory.step(shape)
        except SimulatedOutOfMemoryError:
            event = Event(failed=(shape, Shape(shape.lq_size, max(1, shape.batch_size // 2))))
        else:
            settled = chance.random() < 0.95
            event = Event(StepReport(number, shape, memory.read(), settled))
        try:
            decision = event.tell(automation)
        except NothingSmallerError:
            break
        run.events.append(event)
        run.decisions.append(decision)
        # where a state is most likely to lack something: right after a move or a failure
        notable = decision is not None or event.failed is not None
        if number in save_at or (notable and len(run.states) < SAVES):
            run.states[number] = json.dumps(automation.state_dict())
            run.contents[number] = everything(automation)
    run.end = everything(automation)
    return run


def everything(thing: Any, met: dict[int, int] | None = None) -> Any:
    """All that an object holds, however deep, in a form that can be compared: nothing that a later
    decision could rest on is left out, whether a state names it or not.
    """
    met = {} if met is None else met
    if isinstance(thing, int | float | str | None):
        return thing
    if isinstance(thing, list | tuple):
        return [everything(item, met) for item in thing]
    if isinstance(thing, dict):
        return [[everything(key, met), everything(value, met)] for key, value in thing.items()]
    if callable(thing):
        return "code"
    kind = type(thing)
    # which of the parts are one and the same matters, for they change; values do not
    if not (is_dataclass(kind) and kind.__dataclass_params__.frozen):
        if id(thing) in met:
            return f"number {met[id(thing)]} of what was met before"
        met[id(thing)] = len(met)
    derived = [name for name in vars(thing) if isinstance(vars(kind).get(name), cached_property)]
    parts = {name: vars(thing)[name] for name in sorted(vars(thing)) if name not in derived}
    return [kind.__name__, everything(parts, met)]


def test_every_move_after_a_resume_is_that_of_the_straight_run() -> None:
    resumes = 0
    moves = 0
    failures = 0
    for seed in range(CARDS):
        card, context = draw(seed)
        build = (alone, together)[seed % 2]
        run = straight(seed, build, context, card)
        moves += sum(decision is not None for decision in run.decisions)
        failures += sum(event.failed is not None for event in run.events)
        for saved_at, state in run.states.items():
            resumed = build(context)
            resumed.load_state_dict(json.loads(state))
            resumes += 1
            # Decisions are a function of what the parts hold and of what they are told. So where
            # all is equal, down to the last attribute, all later decisions are. One in REPLAYED is
            # driven to its end all the same, and every one as far as its next window.
            assert everything(resumed) == run.contents[saved_at], (seed, saved_at)
            stop = len(run.events) if resumes % REPLAYED == 0 else saved_at + 6
            # the memory does what it did, as long as the decisions are the same
            for event, decision in zip(
                run.events[saved_at:stop], run.decisions[saved_at:stop], strict=True
            ):
                assert event.tell(resumed) == decision, (seed, saved_at)
            if stop == len(run.events):
                assert everything(resumed) == run.end, (seed, saved_at)
    assert resumes >= 50 * CARDS
    assert moves > 6 * CARDS
    assert failures > CARDS


def drive(
    automation: DynamicBatchAndPatchSizeOptimizer, memory: SimulatedMemory, steps: int
) -> list[Decision]:
    """The moves of so many steps."""
    moves: list[Decision] = []
    for number in range(1, steps + 1):
        memory.start_window()
        memory.step(automation.shape)
        decision = automation.after_step(StepReport(number, automation.shape, memory.read()))
        moves += [] if decision is None else [decision]
    return moves


def test_another_process_is_no_reason_to_leave_a_shape_that_was_right() -> None:
    total = GIB
    context = AutomationContext(ShapeBounds(8, 64, 1), Shape(16, 2), total)
    for largest in range(20, 40):
        card = CardModel(total, 0.3 * total, 0.55 * total / (64 * 64 * largest))
        former = alone(context)
        assert drive(former, SimulatedMemory(card), 200)
        state = json.loads(json.dumps(former.state_dict()))
        for difference in (-0.02, -0.006, 0.006, 0.01):
            other = dataclasses.replace(card, persistent=card.persistent + difference * total)
            resumed = alone(context)
            resumed.load_state_dict(state)
            assert resumed.before_training(resumed=True) == former.shape
            assert drive(resumed, SimulatedMemory(other), 100) == [], (largest, difference)
        # What is more than a process differs by is looked at as ever.
        freed = dataclasses.replace(card, persistent=0.2 * total)
        assert drive(resumed, SimulatedMemory(freed), 100), largest
