#!/usr/bin/env python3
"""Control laws that fit a training run to the memory, beside each other on random simulated cards.

Each card is a formula (`CardModel`): size, weights, activations per pixel, what the network pads to
(sometimes unknown to the controller), global attention, borders, a second phase, noise, workspaces
that only some shapes take, fragmentation that differs from shape to shape, and what other programs
hold, which on some cards wanders and on some jumps. A run is 400 steps, 2,000 for the additive
rule. Use at the end is that of a step without noise at the last shape; it has landed when that is
within the band. Cards on which no shape at all lies in the band at the end, because one sample or
one rung is too coarse, because the largest shape is too small or the smallest too large, are
counted apart.

The neighbours' laws are written after their published behaviour: the trials that they make, what
they do when memory runs out, and when they stop. All but the additive rule move the batch only, at
the lq_size of the options.

With --guests other programs come and go on every card: they grow within a second or two, to 5 to
30 % of the memory each, and leave again; and MemoryPressureController, which looks at the memory
before each step, stands beside ours and beside a batch that was set by hand at 85 % of the memory.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from traiNNer.automations import (
    Automation,
    AutomationContext,
    Automations,
    CardModel,
    DynamicBatchAndPatchSizeOptimizer,
    MemoryReading,
    NothingSmallerError,
    Shape,
    ShapeBounds,
    SimulatedMemory,
    SimulatedOutOfMemoryError,
    StepReport,
    TimedLook,
)
from traiNNer.utils.text import GIB, MIB

KIB = 2**10
STEPS = 400
# The neighbours' steps are looked at one in so many: at one shape they differ by noise alone.
STRIDE = 5
# The additive rule needs them.
ADDITIVE_STEPS = 2000
BAND = (0.82, 0.86)
PEERS_BAND = (0.80, 0.85)
MAX_BATCH = 256
# Of a step on a simulated card: the automation's clock where programs come and go.
STEP_S = 0.25
# Steps from one look at the noise to the next.
LOOKS_EVERY = 10


@dataclass(frozen=True)
class Case:
    """A card, and what network, images and options allow on it."""

    card: CardModel
    bounds: ShapeBounds
    start: Shape


@dataclass
class Outcome:
    """What a run came to."""

    shape: Shape
    # share of the memory at the last step
    end: float = 0.0
    ooms: int = 0
    moves: int = 0
    moves_to_band: int | None = None
    steps_to_band: int | None = None
    gave_up: bool = False
    # (factor of pixels, relative error)
    errors: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0


# -- the cards -------------------------------------------------------------------------------------


def log_uniform(chance: random.Random, low: float, high: float) -> float:
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def others(chance: random.Random, total: int) -> Callable[[int], float]:
    """What CUDA's context and other programs hold at a step: constant, wandering, or jumping
    once.
    """
    base = chance.uniform(0.3, 0.8) * GIB
    if total <= 24 * GIB and chance.random() < 0.5:  # a desktop
        base += chance.uniform(0.1, 0.08 * total / GIB) * GIB
    kind = chance.random()
    if kind < 0.5:
        return lambda _step: base
    if kind < 0.8:
        path = [0.0]
        for _ in range(STEPS // 20 + 1):
            path.append(max(-0.01, min(0.01, path[-1] + chance.uniform(-0.003, 0.003))))
        return lambda step: base + path[min(step // 20, len(path) - 1)] * total
    begin = chance.randrange(30, STEPS - 200)
    end = begin + chance.choice([60, 150, STEPS])
    size = chance.uniform(0.01, 0.06) * total
    return lambda step: base + (size if begin <= step < end else 0.0)


def guests(chance: random.Random, total: int) -> Callable[[int], float]:
    """Programs that come and go, on top of CUDA's context."""
    base = chance.uniform(0.3, 0.8) * GIB
    visits: list[tuple[int, int, int, float]] = []
    step = 60
    while step < STEPS - 100:
        stays = chance.randrange(15, 120)
        visits.append((step, chance.randrange(1, 9), stays, chance.uniform(0.05, 0.3) * total))
        step += stays + chance.randrange(20, 100)

    def held(step: int) -> float:
        total = base
        for begin, rises, stays, size in visits:
            if begin <= step < begin + stays:
                total += size * min(1.0, (step - begin + 1) / rises)
        return total

    return held


def draw(seed: int, *, visited: bool = False) -> Case:
    """A random card and setting."""
    chance = random.Random(seed)  # noqa: S311 (not for secrets)
    total = chance.choice([6, 8, 10, 11, 12, 16, 24, 32, 48, 80]) * GIB
    persistent = log_uniform(chance, 30 * MIB, min(6 * GIB, 0.3 * total))
    per_pixel = log_uniform(chance, 4 * KIB, 768 * KIB)
    padding = chance.choices([1, 4, 8, 16, 32], [45, 10, 20, 20, 5])[0]
    known = padding if chance.random() < 0.9 else 1
    frames = chance.choice([5, 7]) if chance.random() < 0.1 else 1
    second = None
    if chance.random() < 0.2:
        steeper = chance.uniform(1.05, 1.5)
        crossing = chance.uniform(0.15, 0.8) * total / per_pixel  # in pixels
        second = (persistent - (steeper - 1) * per_pixel * crossing, steeper * per_pixel)
    card = CardModel(
        total=total,
        persistent=persistent,
        bytes_per_pixel=per_pixel,
        padding=padding,
        frames=frames,
        attention=per_pixel * chance.uniform(0.05, 0.5) / 128**2 if chance.random() < 0.15 else 0.0,
        border=per_pixel * chance.uniform(1, 8) if chance.random() < 0.2 else 0.0,
        second_phase=second,
        noise=chance.uniform(0.0, 0.004),
        workspace_chance=chance.uniform(0.0, 0.5),
        workspace_max=log_uniform(chance, 0.003, 0.04) * total,
        fragmentation=chance.uniform(1.0, 1.08),
        fragmentation_spread=chance.uniform(0.0, 0.015),
        outside=guests(chance, total) if visited else others(chance, total),
        seed=seed,
    )
    bounds = ShapeBounds(
        min_lq_size=max(8, known),
        max_lq_size=chance.choice([64, 96, 128, 192, 256, 384, 512, 678]),
        size_multiple=known,
        max_batch_size=MAX_BATCH,
        frames=frames,
        elements_per_pixel=64 * 4,
    )
    return Case(card, bounds, Shape(64, chance.choice([4, 8, 16])))


def reachable(case: Case) -> str:
    """ "yes", or why no admissible shape lies in the band at the end of a run."""
    memory = SimulatedMemory(case.card, steps=STEPS)
    optimizer = make_optimizer(case)
    bounds = optimizer.bounds
    if memory.share(bounds.smallest) > BAND[1]:
        return "smallest shape too large"
    largest = 0.0
    for lq_size in reversed(bounds.ladder):
        low = bounds.min_batch_size
        high = bounds.largest_batch(lq_size)
        if high >= low:
            largest = max(largest, memory.share(Shape(lq_size, high)))
        while low < high:
            middle = (low + high + 1) // 2
            if memory.share(Shape(lq_size, middle)) <= BAND[1]:
                low = middle
            else:
                high = middle - 1
        # workspaces make use go up and down a little, so its neighbours are looked at too
        near = [memory.share(Shape(lq_size, b)) for b in range(max(1, low - 1), low + 2)]
        if any(BAND[0] <= share <= BAND[1] for share in near):
            return "yes"
    return "largest shape too small" if largest < BAND[0] else "too coarse"


# -- ours ------------------------------------------------------------------------------------------


def make_optimizer(case: Case, pace: str = "at_once") -> DynamicBatchAndPatchSizeOptimizer:
    context = AutomationContext(case.bounds, case.start, case.card.total)
    settings: dict[str, Any] = {"max_batch_size": MAX_BATCH, "pace": pace}
    return DynamicBatchAndPatchSizeOptimizer(context, **settings)


def with_automations(case: Case, *names: str) -> Outcome:
    """A run with all automations of these names, and its mean use in place of that at the end.
    Without the automation of the sizes it begins with a batch that fills 85 % of the memory while
    nobody else is there.
    """
    memory = SimulatedMemory(case.card)
    start = case.start
    settings = {"max_batch_size": MAX_BATCH}
    active = {name: settings if name.startswith("Dynamic") else {} for name in names}
    if "DynamicBatchAndPatchSizeOptimizer" not in names:
        start = batch_at(memory, case, 0.85)
    context = AutomationContext(case.bounds, start, case.card.total)
    # An automation that has nothing to say stands for none.
    none = Automations({"none": Automation(context)})
    automations = Automations.build(active, context) if active else none
    automations.before_training()
    outcome = Outcome(automations.shape)
    shares: list[float] = []
    for step in range(1, STEPS + 1):
        began = time.perf_counter()
        decisions = [automations.watch([TimedLook(step * STEP_S, memory.look())])]
        outcome.seconds += time.perf_counter() - began
        gives_back = any(part.wants_memory_back for part in automations.parts.values())
        if decisions[0] is not None or gives_back:
            memory.release()
        shape = automations.shape
        memory.start_window()
        try:
            memory.step(shape)
        except SimulatedOutOfMemoryError:
            outcome.ooms += 1
            fitted = repeat_in_chunks(memory, shape)
            try:
                decisions.append(automations.after_out_of_memory(shape, fitted))
            except NothingSmallerError:
                outcome.gave_up = True
                break
        else:
            report = StepReport(step, shape, memory.read())
            decisions.append(automations.after_step(report))
        shares.append(min(1.0, memory.share(shape)))
        if decisions[-1] is not None:
            memory.release()
        outcome.moves += sum(decision is not None for decision in decisions)
        note_band(outcome, memory, shape, step)
    outcome.shape = automations.shape
    outcome.end = statistics.fmean(shares) if shares else 0.0
    return outcome


class Worth:
    """What steps of a network bring and take: noise that grows over the run, and a fixed part of
    the time.
    """

    def __init__(self, case: Case) -> None:
        chance = random.Random(f"worth {case.card.seed}")  # noqa: S311 (not for secrets)
        self.noise = log_uniform(chance, 200, 50_000)
        self.growth = log_uniform(chance, 1, 200)
        self.fixed = log_uniform(chance, 100, 500_000)
        self.rate = log_uniform(chance, 1e5, 1e7)
        self._chance = chance
        self._former: Shape | None = None

    def report(self, step: int, shape: Shape, reading: MemoryReading) -> StepReport:
        """What a loop that looks at its gradients tells of a step."""
        pixels = shape.pixels()
        is_known = shape == self._former
        self._former = shape
        seconds = None
        if is_known:
            # Times scatter.
            seconds = (self.fixed + pixels) / self.rate * self._chance.uniform(0.95, 1.1)
        progress = step / STEPS
        noise = self.noise * self.growth**progress
        cosine = None
        if step % LOOKS_EVERY == 0 and shape.batch_size > 1:
            half = pixels / 2
            # Single looks scatter by a third.
            cosine = min(1.0, half / (half + noise) * self._chance.uniform(0.67, 1.33))
        rate = None if seconds is None else pixels / seconds
        return StepReport(step, shape, reading, cosine is None, rate, seconds, progress, cosine)


def ours_measured(case: Case) -> Outcome:
    """The same by the measured pace, whose last tenth fills the memory."""
    return ours(case, Worth(case))


def ours(case: Case, worth: Worth | None = None) -> Outcome:
    """A run with the optimizer as a training loop uses it."""
    memory = SimulatedMemory(case.card)
    optimizer = make_optimizer(case, "at_once" if worth is None else "measured")
    outcome = Outcome(optimizer.shape)
    for step in range(1, STEPS + 1):
        shape = optimizer.shape
        memory.start_window()
        try:
            memory.step(shape)
        except SimulatedOutOfMemoryError:
            outcome.ooms += 1
            try:
                decision = optimizer.after_out_of_memory(shape, repeat_in_chunks(memory, shape))
            except NothingSmallerError:
                outcome.gave_up = True
                break
        else:
            reading = memory.read()
            report = StepReport(step, shape, reading)
            if worth is not None:
                report = worth.report(step, shape, reading)
            began = time.perf_counter()
            decision = optimizer.after_step(report)
            outcome.seconds += time.perf_counter() - began
        note_band(outcome, memory, optimizer.shape if decision is None else shape, step)
        if decision is not None:
            outcome.moves += 1
            model = optimizer.model
            new = decision.shape
            if model.count >= 4 and not model.knows(new):
                error = abs(model.predict(new).bytes / memory.needs(new)[1] - 1)
                outcome.errors.append((model.pixels(new) / model.largest, error))
    outcome.shape = optimizer.shape
    outcome.end = memory.share(outcome.shape)
    return outcome


def repeat_in_chunks(memory: SimulatedMemory, shape: Shape) -> Shape:
    """What a failed step is repeated with: half the batch, and half again."""
    while shape.batch_size > 1 and memory.share(shape) > 1:
        shape = Shape(shape.lq_size, shape.batch_size // 2)
    return shape


def ours_batch_only(case: Case) -> Outcome:
    """The same, with lq_size fixed as it is for the neighbours."""
    side = case.bounds.nearest(case.start).lq_size
    bounds = ShapeBounds(
        side,
        side,
        case.bounds.size_multiple,
        1,
        MAX_BATCH,
        case.bounds.frames,
        case.bounds.elements_per_pixel,
    )
    return ours(Case(case.card, bounds, case.start))


# -- the neighbours --------------------------------------------------------------------------------


class Trials:
    """A training run seen by a law: `fits` trains a few steps, `train_on` the rest."""

    def __init__(self, case: Case, steps: int = STEPS) -> None:
        self.steps = steps
        self.memory = SimulatedMemory(case.card)
        self.side = case.bounds.nearest(case.start).lq_size
        self.most = case.bounds.largest_batch(self.side)
        self.outcome = Outcome(Shape(self.side, 1))

    def fits(self, shape: Shape, steps: int = 3) -> bool:
        """Train at a shape; False (and an OOM more) if it runs out."""
        if self.outcome.shape != shape:
            self.outcome.moves += 1
        self.outcome.shape = shape
        try:
            for _ in range(0, steps, STRIDE):
                self.memory.step(shape)
                self.memory.steps += min(STRIDE, steps) - 1
                note_band(self.outcome, self.memory, shape, self.memory.steps)
        except SimulatedOutOfMemoryError:
            self.outcome.ooms += 1
            return False
        return True

    def batch(self, batch_size: int) -> Shape:
        return Shape(self.side, max(1, min(batch_size, self.most)))

    def finish(self, shape: Shape, on_oom: Callable[[Shape], Shape | None]) -> Outcome:
        """The rest of the run; `on_oom` says what follows a failure, None when the run ends
        there.
        """
        while self.memory.steps < self.steps:
            if self.fits(shape, 25):
                continue
            following = on_oom(shape)
            if following is None or following == shape:
                self.outcome.gave_up = True
                break
            shape = following
        self.memory.steps = self.steps
        self.outcome.shape = shape
        self.outcome.end = self.memory.share(shape)
        return self.outcome


def lightning_power(case: Case) -> Outcome:
    """Doubles from 2 until it fails, takes the last that did not."""
    run = Trials(case)
    batch = 2
    while run.fits(run.batch(batch)) and batch < run.most:
        batch *= 2
    failed = run.outcome.ooms > 0
    return run.finish(run.batch(batch // 2 if failed else batch), lambda _: None)


def lightning_binsearch(case: Case) -> Outcome:
    """Doubles until it fails, then bisects to the largest that fits."""
    run = Trials(case)
    low = 1
    high = 2
    while run.fits(run.batch(high)) and high < run.most:
        low = high
        high = high * 2
    if run.outcome.ooms == 0:
        return run.finish(run.batch(high), lambda _: None)
    while high - low > 1:
        middle = (low + high) // 2
        if run.fits(run.batch(middle)):
            low = middle
        else:
            high = middle
    return run.finish(run.batch(low), lambda _: None)


def accelerate(case: Case) -> Outcome:
    """From 128, x 0.9 each time that it runs out; never grows."""
    run = Trials(case)
    return run.finish(
        run.batch(128),
        lambda shape: run.batch(int(shape.batch_size * 0.9)) if shape.batch_size > 1 else None,
    )


def auto_batch(case: Case) -> Outcome:
    """Profiles batches 1 to 16, fits log(memory) over log(batch), solves for 60 % of what was
    free.
    """
    run = Trials(case)
    free = run.memory.total - run.memory.outside
    points: list[tuple[float, float]] = []
    for batch in (1, 2, 4, 8, 16):
        if run.fits(run.batch(batch), 1):
            points.append((math.log(batch), math.log(run.memory.needs(run.batch(batch))[0])))
    if len(points) < 2:
        return run.finish(run.batch(1), lambda _: None)
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )
    wanted = mean_x + (math.log(0.6 * free) - mean_y) / max(slope, 1e-3)
    batch = int(math.exp(min(wanted, math.log(1024))))
    return run.finish(run.batch(batch), lambda _: None)


def composer(case: Case) -> Outcome:
    """The whole batch of 256 as one microbatch, halved each time that it runs out; never grows."""
    run = Trials(case)
    return run.finish(
        run.batch(256),
        lambda shape: run.batch(shape.batch_size // 2) if shape.batch_size > 1 else None,
    )


def additive(case: Case) -> Outcome:
    """Every 50 steps one rung of lq_size (then one sample) up or down, until within 80 to 85 %."""
    run = Trials(case, ADDITIVE_STEPS)
    bounds = case.bounds
    ladder = bounds.ladder
    shape = bounds.nearest(case.start)
    while run.memory.steps < run.steps:
        if run.fits(shape, 50):
            use = run.memory.share(shape)
            step = int(use < PEERS_BAND[0]) - int(use > PEERS_BAND[1])
        else:
            step = -1
        place = ladder.index(shape.lq_size)
        side = shape.lq_size
        batch = shape.batch_size
        if step and 0 <= place + step < len(ladder):
            side = ladder[place + step]
        else:
            batch = batch + step
        shape = Shape(side, max(1, min(batch, bounds.largest_batch(side))))
    return run.finish(shape, lambda _: None)


def note_band(outcome: Outcome, memory: SimulatedMemory, shape: Shape, step: int) -> None:
    if outcome.steps_to_band is None and BAND[0] <= memory.share(shape) <= BAND[1]:
        outcome.steps_to_band = step
        outcome.moves_to_band = outcome.moves


LAWS: dict[str, Callable[[Case], Outcome]] = {
    "ours": ours,
    "ours, measured": ours_measured,
    "ours, batch only": ours_batch_only,
    "Lightning power": lightning_power,
    "Lightning binsearch": lightning_binsearch,
    "accelerate x0.9": accelerate,
    "AutoBatch log-log 60 %": auto_batch,
    "Composer halving": composer,
    "additive, 1 rung / 50": additive,
}


# -- the table -------------------------------------------------------------------------------------


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else math.nan


def row(name: str, outcomes: list[Outcome]) -> str:
    count = len(outcomes)

    def landing(band: tuple[float, float]) -> float:
        return 100 * sum(band[0] <= o.end <= band[1] for o in outcomes) / count

    ends = [100 * min(o.end, 1.0) for o in outcomes]
    steps: list[float] = [o.steps_to_band for o in outcomes if o.steps_to_band is not None]
    moves: list[float] = [o.moves_to_band for o in outcomes if o.moves_to_band is not None]
    above = 100 * sum(o.end > 1.0 or o.gave_up for o in outcomes) / count
    ooms = statistics.fmean(o.ooms for o in outcomes)
    moved = statistics.fmean(o.moves for o in outcomes)
    to_band = (percentile(moves, 0.5), percentile(moves, 0.95))
    steps_to = (percentile(steps, 0.5), percentile(steps, 0.95))
    return (
        f"{name:<24}{landing(BAND):>8.1f}{landing(PEERS_BAND):>8.1f}{statistics.fmean(ends):>8.1f}"
        f"{ooms:>8.3f}{above:>8.1f}{moved:>8.1f}{to_band[0]:>7.0f}{to_band[1]:>6.0f}"
        f"{steps_to[0]:>8.0f}{steps_to[1]:>6.0f}{100 * len(steps) / count:>9.1f}"
    )


def report_ours(outcomes: list[Outcome]) -> Iterator[str]:
    pairs = list(itertools.chain.from_iterable(o.errors for o in outcomes))
    errors = [100 * error for _, error in pairs]
    near = [100 * error for factor, error in pairs if factor <= 2]
    within = [o for o in outcomes if o.steps_to_band is not None]
    good = sum((o.moves_to_band or 0) <= 8 and (o.steps_to_band or 0) <= 150 for o in within)
    yield (
        f"ours: prediction error after four shapes: median {percentile(errors, 0.5):.2f} %, p95 "
        f"{percentile(errors, 0.95):.2f} % ({len(errors)} moves); to at most twice what was "
        f"measured: median {percentile(near, 0.5):.2f} %, p95 {percentile(near, 0.95):.2f} % "
        f"({len(near)} moves)"
    )
    yield f"ours: target reached within 8 moves and 150 steps: {100 * good / len(outcomes):.1f} %"
    cost_us = 1e6 * sum(o.seconds for o in outcomes) / len(outcomes) / STEPS
    yield f"ours: controller cost: {cost_us:.1f} microseconds a step"


def report_hard(cases: list[Case], reasons: list[str]) -> Iterator[str]:
    """What ours does on the cards where no shape is in the band."""
    for reason in sorted(set(reasons) - {"yes"}):
        chosen = [case for case, why in zip(cases, reasons, strict=True) if why == reason]
        outcomes = [ours(case) for case in chosen]
        yield (
            f"ours where the band is out of reach, {reason} ({len(outcomes)} cards): use "
            f"{100 * statistics.fmean(min(o.end, 1) for o in outcomes):.1f} %, "
            f"OOMs {statistics.fmean(o.ooms for o in outcomes):.3f}, ends above the memory "
            f"{sum(o.end > 1 and not o.gave_up for o in outcomes)}, said error "
            f"{sum(o.gave_up for o in outcomes)}"
        )


def batch_at(memory: SimulatedMemory, case: Case, share: float) -> Shape:
    """The largest batch of the options' lq_size within a share of the memory."""
    side = case.bounds.nearest(case.start).lq_size
    batches = range(1, case.bounds.largest_batch(side) + 1)
    fitting = [batch for batch in batches if memory.share(Shape(side, batch)) <= share]
    return Shape(side, max(fitting, default=1))


def hand_set_share(case: Case) -> float:
    """The share of the memory that one patch of the options' size takes at the beginning."""
    memory = SimulatedMemory(case.card)
    return memory.share(batch_at(memory, case, 0.85))


def report_guests(seed: int, cards: int) -> int:
    """What programs that come and go cost, with the controller and without."""
    drawn = [draw(seed + number, visited=True) for number in range(cards)]
    # On the others not even one patch of the options' size fits, and a batch alone cannot help.
    cases = [case for case in drawn if hand_set_share(case) <= 0.85]
    print(
        f"{len(cases)} of {cards} cards of 6 to 80 GiB, {STEPS} steps each, on which other "
        "programs come and go"
    )
    print(f"{'':<36}{'OOMs a run':>12}{'mean use %':>12}{'moves':>8}{'ended':>8}{'us a step':>11}")
    sizes = "DynamicBatchAndPatchSizeOptimizer"
    pressure = "MemoryPressureController"
    laws = {
        "a batch set by hand": (),
        "the same, MemoryPressureController": (pressure,),
        "ours": (sizes,),
        "ours, MemoryPressureController": (sizes, pressure),
    }
    for name, names in laws.items():
        outcomes = [with_automations(case, *names) for case in cases]
        print(
            f"{name:<36}{statistics.fmean(o.ooms for o in outcomes):>12.3f}"
            f"{100 * statistics.fmean(o.end for o in outcomes):>12.1f}"
            f"{statistics.fmean(o.moves for o in outcomes):>8.1f}"
            f"{sum(o.gave_up for o in outcomes):>8}"
            f"{1e6 * sum(o.seconds for o in outcomes) / len(cases) / STEPS:>11.1f}",
            flush=True,
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cards", type=int, default=2000, help="random cards (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="first card (default: 0)")
    parser.add_argument(
        "--laws",
        nargs="*",
        choices=list(LAWS),
        default=list(LAWS),
        help="laws to run (default: all)",
    )
    parser.add_argument(
        "--guests", action="store_true", help="programs come and go; ours with and without a watch"
    )
    parser.add_argument(
        "--misses", type=int, default=0, help="print so many of our runs that missed the band"
    )
    arguments = parser.parse_args()
    # What a run would say of its speed.
    logging.disable()
    began = time.perf_counter()
    if arguments.guests:
        return report_guests(arguments.seed, arguments.cards)
    cases = [draw(arguments.seed + number) for number in range(arguments.cards)]
    reasons = [reachable(case) for case in cases]
    fair = [case for case, reason in zip(cases, reasons, strict=True) if reason == "yes"]
    print(
        f"{len(cases)} cards of 6 to 80 GiB, {STEPS} steps each; {len(fair)} with a shape between "
        "82 and 86 %",
        *(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons) - {"yes"})),
        sep=", ",
    )
    print(
        f"\n{'':<24}{'82-86%':>8}{'80-85%':>8}{'use %':>8}{'OOMs':>8}{'above%':>8}{'moves':>8}"
        f"{'moves to':>9}{'p95':>4}{'steps to':>9}{'p95':>5}{'arrived%':>9}"
    )
    notes: list[str] = []
    for name in arguments.laws:
        outcomes = [LAWS[name](case) for case in fair]
        print(row(name, outcomes), flush=True)
        if name == "ours":
            notes += report_ours(outcomes)
            notes += report_hard(cases, reasons)
            runs = zip(fair, outcomes, strict=True)
            misses = [(c, o) for c, o in runs if not BAND[0] <= o.end <= BAND[1]]
            notes += [
                f"missed: card {case.card.seed}: {outcome.end:.1%} at {outcome.shape}"
                for case, outcome in misses[: arguments.misses]
            ]
    print(
        "\nuse, landing and 'above' (the end is above the memory, or the run died there) are those "
        "of the last step;\nmoves: in all; moves and steps to the band: median and p95 among the "
        "runs that arrived there",
        *notes,
        f"{time.perf_counter() - began:.0f} s",
        sep="\n",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
