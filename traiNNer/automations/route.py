"""Where to go: from what is known of the memory to a shape, in steps that are safe."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from traiNNer.automations.bans import Bans
from traiNNer.automations.goodput import Goodput
from traiNNer.automations.measuring import MeasuringWindow
from traiNNer.automations.memory_model import MemoryModel
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.automations.shape_search import REAL_STEP, Estimate, Goal, ShapeSearch
from traiNNer.automations.step_cap import Ramp, StepCap
from traiNNer.automations.target import Target
from traiNNer.utils.shape import Shape

# A move to so many times the largest measured pixels aims at this share of the way from what the
# process holds before a step to the target: first look, then land.
STRIDES = ((2.0, 1.0), (4.0, 0.75), (8.0, 0.45), (16.0, 0.2))
# A move to no more than SMALL times the largest measured size may risk half of what is above the
# limit: over so short a way a prediction is off by a workspace at most.
SMALL = 1.35
# Below so many measured shapes growth teaches something, however little of the memory it is
# expected to take.
FEW_SHAPES = 4
# Share of the way from what is held before a step, by others too, to the target, below which any
# growth is worth a move: on a CPU the program itself may be most of what is used.
CLOSE = 0.6
# Factor of pixels below which a move is not worth it while a pace or the time of a step bounds
# them: each costs a step that is not measured, and there would be many.
PACED_STEP = 1.25
# Samples of a step, in the least batches of the network, whose gradients can be compared.
HALVES = 2
# Share of the memory by which a move must come closer to the target; noise alone makes less.
WORTH = 0.003
# Share of lq_size that may be given up to land on the target, for each share of the memory that is
# missing: nothing for a landing that is a little off, a fifth for 2.5 % of the memory.
LQ_FOR_USE = 8.0
# Share of lq_size that is kept where use is just above the target, as long as less batch does it.
LQ_KEPT = 0.9


@dataclass(frozen=True)
class Route:
    """Chooses shapes. Holds no state of its own: it reads that of the parts it was given.

    Attributes:
        bounds: the shapes that may be chosen.
        start: lq_size grows at its batch: what the options ask for, or fewer samples of it.
        target: what to use.
        model: predicts.
        window: the time, the memory, and what others hold of it.
        bans: what is not to be tried.
        cap: what bounds a step besides the memory.
        most_seconds: that a step should take; None for no bound.
        ramp: the pace of the run, or of its end; None grows at once.
        goodput: says what a step is worth before that; None does not ask.
        asked: what the options ask for, within the bounds; None is `start`.
    """

    bounds: ShapeBounds
    start: Shape
    target: Target
    model: MemoryModel
    window: MeasuringWindow
    bans: Bans
    cap: StepCap
    most_seconds: float | None = None
    ramp: Ramp | None = None
    goodput: Goodput | None = None
    asked: Shape | None = None

    @cached_property
    def search(self) -> ShapeSearch:
        """Among all shapes of the bounds."""
        return ShapeSearch(self.bounds, self.start, self.estimate, self.model.pixels)

    def estimate(self, shape: Shape) -> Estimate:
        """Predicted use of a shape, with what others hold."""
        prediction = self.model.predict(shape)
        outside = self.window.outside
        total = self.window.total
        return Estimate((outside + prediction.bytes) / total, (outside + prediction.upper) / total)

    @property
    def fixed(self) -> float:
        """The share of the memory that the process holds before a step, as the last one told."""
        return self.model.observations.floor / self.window.total

    def larger_goal(self, present: Shape) -> Goal:
        """What growth from `present` looks for: by bounded factors while little is known."""
        factor = min(2.0**self.model.count, STRIDES[-1][0])
        most = min(self._half_way_to_a_ban(present), self.model.largest * factor, self.most())
        return self.target.goal(limit=self.target.limit, max_pixels=most)

    def most(self) -> float:
        """Padded pixels that a step may have, whatever the memory holds."""
        least = least_pixels(self)
        most = self.cap.most_pixels(self.most_seconds)
        if self.ramp is not None and self.model.count:
            full = self.search.fill(self.target.goal(max_pixels=self.unbanned()))
            pixels = least if full is None else self.model.pixels(full)
            worth = least
            if self.goodput is not None:
                longest = self.goodput.hardly_longer(self.model.pixels(self.asked or self.start))
                best = min(self.goodput.best_pixels, longest)
                worth = min(pixels, max(least, best))
            most = min(most, self.ramp.most_pixels(self.cap.progress, worth, pixels))
        return max(most, least)

    def holds_back(self, present: Shape) -> bool:
        """Whether something else than the memory keeps `present` from growing by a real step."""
        larger = [Shape(present.lq_size, present.batch_size + 1)]
        sides = [side for side in self.bounds.ladder if side > present.lq_size]
        larger += [Shape(side, present.batch_size) for side in sides[:1]]
        pixels = [self.model.pixels(shape) for shape in larger if self.bounds.contains(shape)]
        step = max(PACED_STEP * self.model.pixels(present), min(pixels, default=0))
        return self.most() < step

    def smaller_goal(self) -> Goal:
        """What shrinking looks for: an uncertain prediction below is better than staying above."""
        return self.target.goal(max_pixels=self.unbanned())

    def larger(self, present: Shape, used: float | None = None) -> Shape | None:
        """Where the target is reached, or the way there while it is far or the margin too wide.

        Args:
            present: the shape to go from.
            used: share of the memory that it uses, where that is to be weighed against lq_size.
        """
        goal = self.larger_goal(present)
        if used:
            missing = max(0.0, self.target.low - used)
            goal = replace(goal, min_lq_size=(1 - LQ_FOR_USE * missing) * present.lq_size)
        # Where the memory is filled, even if that is not for now: what bounds a step besides is a
        # matter of how far to go on that way.
        anywhere = replace(goal, limit=math.inf, max_pixels=self.unbanned())
        toward = self.search.fill(anywhere)
        if toward is None:
            return None
        strides = [self._stride(goal, factor, share) for factor, share in STRIDES]
        small = min(strides[0].max_pixels, SMALL * self.model.largest)
        # half way between the limit and the whole memory
        near = replace(strides[0], max_pixels=small, limit=0.5 + 0.5 * self.target.limit)
        for part in (*strides, near):
            if self.search.fits(toward, replace(part, high=part.ceiling)):
                return toward
        steps = [self.search.climb(toward, present, part) for part in strides]
        safe = [step for step in steps if step is not None]
        return max(safe, key=self.model.pixels, default=None)

    def smaller(self, present: Shape, used: float, rungs: int) -> Shape | None:
        """A shape with fewer pixels; None at the smallest.

        Args:
            present: the shape to go from.
            used: share of the memory that it uses.
            rungs: steps down at least; with one, lq_size is kept as long as less batch does it.
        """
        goal = self.smaller_goal()
        if rungs == 1:
            share = LQ_KEPT - LQ_FOR_USE * (used - self.target.high)
            goal = replace(goal, min_lq_size=share * present.lq_size)
        return self.search.shrink(present, goal, rungs) or next_below(present, self.bounds)

    def after_failure(self, shape: Shape) -> Shape | None:
        """Two rungs below a shape that ran out of memory; None at the smallest."""
        smaller = None
        if self.model.count:
            smaller = self.search.shrink(shape, self.smaller_goal(), rungs=2)
        return smaller or next_below(shape, self.bounds)

    def closer(self, shape: Shape, present: Shape, used: float) -> bool:
        """Whether a move is worth it: while little is known or far from the target any growth; else
        what comes closer to the target than the share that `present` uses.
        """
        target = self.target
        base = self.fixed + self.window.outside / self.window.total
        is_far = used - base < CLOSE * (target.share - base)
        unsure = self.model.count < FEW_SHAPES or is_far
        grows = self.model.pixels(shape) > self.model.pixels(present)
        if unsure and grows and used < target.share:
            return True
        expected = self.estimate(shape).expected
        return abs(expected - target.center) < abs(used - target.center) - WORTH

    def why_not_more(self, present: Shape) -> str:
        """What keeps `present` from growing, for the log."""
        ceiling = self.bounds.ceiling(present)
        if ceiling:
            return f"no more is possible ({', '.join(ceiling)})"
        if self.holds_back(present):
            return self.cap.why(self.most(), self.most_seconds)
        windows = self.bans.ends_in(self.window.count)
        if windows:
            return f"the next size ran out of memory and is not tried again for {windows} windows"
        return f"the next size would overshoot the target of {self.target.share:.0%}"

    def unbanned(self) -> float:
        """Padded pixels that no ban forbids."""
        return self.bans.most_pixels(self.window.count, self.model.pixels)

    def _stride(self, goal: Goal, factor: float, share: float) -> Goal:
        base = self.fixed
        return replace(
            goal,
            high=base + share * (goal.high - base),
            ceiling=base + share * (goal.ceiling - base),
            max_pixels=min(goal.max_pixels, factor * self.model.largest),
        )

    def _half_way_to_a_ban(self, present: Shape) -> float:
        """With something banned, growth halves the distance to it each time, and ends where that is
        no real step.
        """
        banned = self.unbanned()
        if math.isinf(banned):
            return banned
        proven = self.model.largest_below(banned)
        half_way = (proven + banned) / 2
        if half_way >= REAL_STEP * proven:
            return half_way
        return max(proven, self.model.pixels(present))


def next_below(shape: Shape, bounds: ShapeBounds) -> Shape | None:
    """Half the batch, or the next smaller lq_size: for when the model knows nothing that
    fits.
    """
    least = bounds.min_batch_size
    if shape.batch_size > least:
        return Shape(shape.lq_size, max(least, shape.batch_size // 2))
    below = [side for side in bounds.ladder if side < shape.lq_size]
    if not below:
        return None
    # half the pixels too, if there is such a side; else the smallest
    halves = [side for side in below if side * side * 2 <= shape.lq_size**2]
    return Shape((halves or below[:1])[-1], shape.batch_size)


def least_pixels(route: Route) -> float:
    """Padded pixels that a step may always have: those of the options, or fewer where it is
    measured that these make more progress a second and hardly fewer pixels. Not where the rate
    follows the batch: it would be lower from then on, and larger patches do not raise it again.
    """
    start = route.model.pixels(route.asked or route.start)
    if route.goodput is None or not route.goodput.noise or route.goodput.power:
        return start
    # Smaller ones would not have two halves to look at.
    batch = HALVES * route.bounds.min_batch_size
    smallest = route.bounds.nearest(Shape(route.start.lq_size, batch))
    return min(start, max(route.model.pixels(smallest), route.goodput.hardly_slower(start)))
