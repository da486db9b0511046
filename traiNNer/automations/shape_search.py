"""Which shape fills the memory to the target: lq_size first, then the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.utils.shape import Shape

# Rungs of the ladder, nearest first, among which one is looked for whose batch lands on the target.
# Batches are coarse at large sides: with 32 sides one of them lands, and a search stays below 1 ms.
RUNGS_TRIED = 32
# Factor of pixels from which on a step of a climb is worth a move: a move costs a step that is not
# measured and a cache that is emptied.
REAL_STEP = 1.15
# Factor by which lq_size may change, either way, to land with another batch. Beyond it the run
# would be another one: patches are what a network learns from.
SIDEWAYS = 2.0
# Pixels that are left by each rung down where the batch is too small to be lowered so often.
LESS_PATCH = 0.8
# Rungs after which a little above is preferred to further away.
RUNGS_NEAR = 6


@dataclass(frozen=True)
class Estimate:
    """Predicted use of a shape as shares of the memory; `upper` with the margin for being wrong."""

    expected: float
    upper: float


@dataclass(frozen=True)
class Goal:
    """What is looked for.

    Attributes:
        low: a shape that is expected to use at least this much has arrived.
        high: no shape is expected to use more.
        ceiling: what may be expected where no shape is between `low` and `high`.
        limit: no shape's `upper` is above this.
        max_pixels: padded pixels that no shape exceeds (growth in bounded moves, bans).
        min_lq_size: lq_size is not given up below this to land exactly.
    """

    low: float
    high: float
    ceiling: float
    limit: float
    max_pixels: float = math.inf
    min_lq_size: float = 0.0


@dataclass(frozen=True)
class ShapeSearch:
    """Looks among the shapes of `bounds` by their estimates. Holds no state.

    Attributes:
        bounds: the shapes.
        start: what the options ask for. lq_size grows at its batch; where it does not fit, its
            lq_size is kept first.
        estimate: predicted use of a shape; grows with the batch and with lq_size.
        pixels: padded pixels of a shape.
    """

    bounds: ShapeBounds
    start: Shape
    estimate: Callable[[Shape], Estimate]
    pixels: Callable[[Shape], int]

    def fits(self, shape: Shape, goal: Goal) -> bool:
        """Whether a shape is within the goal's upper ends."""
        if self.pixels(shape) > goal.max_pixels:
            return False
        estimate = self.estimate(shape)
        return estimate.expected <= goal.high and estimate.upper <= goal.limit

    def largest_batch(self, lq_size: int, goal: Goal, at_most: int | None = None) -> int:
        """The largest batch that fits at `lq_size`; 0 if none does."""
        low = self.bounds.min_batch_size
        high = self.bounds.largest_batch(lq_size)
        if at_most is not None:
            high = min(high, at_most)
        if high < low or not self.fits(Shape(lq_size, low), goal):
            return 0
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(Shape(lq_size, middle), goal):
                low = middle
            else:
                high = middle - 1
        return low

    def largest_lq_size(self, batch_size: int, goal: Goal, at_most: int | None = None) -> int:
        """The largest lq_size that fits with `batch_size`; 0 if none does."""
        ladder = [side for side in self.bounds.ladder if at_most is None or side <= at_most]
        ladder = [side for side in ladder if self.bounds.largest_batch(side) >= batch_size]
        low = -1  # below the ladder: it may be that no rung fits
        high = len(ladder) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(Shape(ladder[middle], batch_size), goal):
                low = middle
            else:
                high = middle - 1
        return ladder[low] if low >= 0 else 0

    def fill(self, goal: Goal, present: Shape | None = None) -> Shape | None:
        """The shape to be at; None if nothing fits.

        The largest lq_size whose best batch lands, at no less than the start's batch and lq_size;
        with `present`, which is close to the goal already, at no less than its. Where none does,
        the nearest that lands with any batch; where nothing lands, what comes closest.
        """
        least = present or self.start
        top = self.largest_lq_size(least.batch_size, goal)
        ladder = reversed(self.bounds.ladder)
        sides = [side for side in ladder if least.lq_size <= side <= top][:RUNGS_TRIED]
        sides += self._near(
            max(top, least.lq_size) if present is None else least.lq_size,
            goal,
            anywhere=present is None,
        )
        closest: Shape | None = None
        closest_use = 0.0
        for count, lq_size in enumerate(sides, start=1):
            batch = self.largest_batch(lq_size, goal)
            if batch:
                shape = Shape(lq_size, batch)
                expected = self.estimate(shape).expected
                if expected >= goal.low:
                    return shape
                # Memory that was given back since a small shape was measured makes it look larger
                # than shapes that contain it.
                is_part = closest is not None and _contains(closest, shape)
                is_whole = closest is None or _contains(shape, closest)
                if is_whole or (expected > closest_use and not is_part):
                    closest = shape
                    closest_use = expected
            # the sides that would be taken gladly are through: a little above beats far away
            if count == RUNGS_NEAR:
                over = self._least_over(sides[:count], goal)
                if over is not None:
                    return over
        return closest

    def _near(self, center: int, goal: Goal, *, anywhere: bool) -> list[int]:
        """Sides around `center`, the nearest by factor first."""
        sides = [side for side in self.bounds.ladder if side >= goal.min_lq_size]
        if not anywhere:
            sides = [side for side in sides if center / SIDEWAYS <= side <= center * SIDEWAYS]
        return sorted(sides, key=lambda side: abs(math.log(side / center)))[:RUNGS_TRIED]

    def _least_over(self, sides: list[int], goal: Goal) -> Shape | None:
        """The first shape that is a little above `high` and not above `ceiling`: better than far
        below `low`.
        """
        higher = replace(goal, high=goal.ceiling)
        for lq_size in sides:
            batch = self.largest_batch(lq_size, higher)
            if batch and self.estimate(Shape(lq_size, batch)).expected >= goal.low:
                return Shape(lq_size, batch)
        return None

    def climb(self, toward: Shape, present: Shape, goal: Goal) -> Shape | None:
        """The furthest that fits on the way: the batch up to the start's, then lq_size, then the
        batch again.

        Where that is no real step, the furthest that fits from `present` with either size.
        """
        step = self._on_the_way(toward, goal)
        if step is not None and self.pixels(step) >= REAL_STEP * self.pixels(present):
            return step
        steps = [] if step is None else [step]
        batch = self.largest_batch(present.lq_size, goal)
        lq_size = self.largest_lq_size(present.batch_size, goal)
        steps += [Shape(present.lq_size, batch)] if batch else []
        steps += [Shape(lq_size, present.batch_size)] if lq_size else []
        return max(steps, key=self.pixels, default=None)

    def _on_the_way(self, toward: Shape, goal: Goal) -> Shape | None:
        batch = min(self.start.batch_size, toward.batch_size)
        lq_size = self.largest_lq_size(batch, goal, at_most=toward.lq_size)
        if lq_size == toward.lq_size:
            return Shape(lq_size, self.largest_batch(lq_size, goal, at_most=toward.batch_size))
        if lq_size:
            return Shape(lq_size, batch)
        smallest = self.bounds.ladder[0]
        batch = self.largest_batch(smallest, goal, at_most=batch)
        return Shape(smallest, batch) if batch else None

    def shrink(self, present: Shape, goal: Goal, rungs: int = 1) -> Shape | None:
        """The largest smaller shape that fits: less batch first, then less lq_size; `rungs` steps
        down at least.
        """
        if present == self.bounds.smallest:
            return None
        share = LESS_PATCH**rungs
        if rungs < present.batch_size:
            share = (present.batch_size - rungs + 1) / present.batch_size
        # a shape with exactly as many pixels would be no smaller
        most = min(goal.max_pixels, share * self.pixels(present) - 1)
        smaller = replace(goal, max_pixels=most)
        same = self.largest_batch(present.lq_size, smaller, at_most=present.batch_size - 1)
        if same and self.estimate(Shape(present.lq_size, same)).expected >= goal.low:
            return Shape(present.lq_size, same)
        return self.fill(smaller, present)


def _contains(shape: Shape, other: Shape) -> bool:
    """Whether neither size of `other` is the larger one."""
    return other.lq_size <= shape.lq_size and other.batch_size <= shape.batch_size
