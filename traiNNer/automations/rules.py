"""What a full window leads to: another shape, or staying, and the reason of either."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from traiNNer.automations.pace import Pace
from traiNNer.automations.route import Route
from traiNNer.automations.step_cap import TOLERATED_LOSS
from traiNNer.automations.worth import expected_gain, is_too_large, why_not_larger
from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape

log = logging.getLogger(__name__)

# Factor of lq_size from which on a run that has arrived exchanges batch for patch: a tenth is a
# difference that a network notices, a rung is not.
LARGER = 1.1


@dataclass(frozen=True)
class Choice:
    """A shape to move to, or None to stay; the reason is empty where there is nothing to say."""

    shape: Shape | None
    reason: str = ""


@dataclass(frozen=True)
class Rules:
    """Looks at the last window. What it decides is a function of the parts it was given.

    Attributes:
        route: knows where to go.
        pace: knows when.
    """

    route: Route
    pace: Pace

    def choose(self, present: Shape, reading: MemoryReading) -> Choice:
        """What the reading of a window at `present` asks for."""
        target = self.route.target
        if target.alarming(reading):
            return self.escape(present, reading)
        used = reading.used_share
        faster = self._faster(present)
        if faster is not None:
            return faster
        if target.holds(used, wide=self.pace.stays):
            self.pace.inside()
            larger = self._larger_patch(present)
            if larger is not None:
                return Choice(larger, f"{used:.1%} used, and larger patches fit")
            return Choice(None, f"target reached with {used:.1%} at {present}")
        # one window outside may be noise or a guest on the card
        if not self.pace.outside():
            return Choice(None)
        return self._grow(present, used) if used < target.share else self._shrink(present, used)

    def judge(self, present: Shape, guard: str) -> Choice | None:
        """What the last growth did to the pixels a second, once it is known; the way back where it
        is to be taken.

        Args:
            present: the shape that it led to.
            guard: "off", "warn" or "revert".
        """
        cap = self.route.cap
        former = cap.former
        if former is None or cap.rate is None:
            return None
        lost = cap.lost()
        cap.former = None
        if lost <= TOLERATED_LOSS or guard == "off":
            return None
        text = f"{lost:.0%} fewer pixels a second than at {former}"
        if guard == "revert":
            cap.barred = self.route.model.pixels(present)
            return Choice(former, text)
        log.warning("%s has %s\n  %s", present, text, cap.describe())
        return None

    def choose_beside(self, present: Shape, wish: Shape, reading: MemoryReading) -> Choice:
        """What it asks for while another automation's shape, `present`, is in force.

        An emergency is one at any shape. Else the wish waits for its time, and is only lowered
        where by now it would be one.
        """
        if self.route.target.alarming(reading):
            return self.escape(present, reading)
        expected = self.route.estimate(wish).expected
        if expected <= self.route.target.limit:
            return Choice(None)
        # nothing of it is in use yet, so there is no hurry: one rung, as for any overshoot
        smaller = self.route.smaller(wish, expected, rungs=1)
        return Choice(smaller, f"{wish} would use {expected:.1%} by now")

    def escape(self, present: Shape, reading: MemoryReading) -> Choice:
        """Two rungs down from a shape that is about to run out."""
        used = reading.used_share
        reason = f"{used:.1%} used, above the limit of {self.route.target.limit:.0%}"
        smaller = self.route.smaller(present, used, rungs=2)
        if smaller is None:
            return Choice(None, f"{reason}, but {present} is the smallest shape")
        return Choice(smaller, reason)

    def _faster(self, present: Shape) -> Choice | None:
        """A smaller shape in place of one whose steps take too long, or make less progress a
        second; None where they do not, or where the options ask for no less.
        """
        route = self.route
        is_late = route.cap.is_late(route.most_seconds)
        is_small = route.model.pixels(present) <= route.model.pixels(route.start)
        if not is_too_large(route, present) and (is_small or not is_late):
            return None
        if not is_late:
            smaller = Shape(min(present.lq_size, route.start.lq_size), route.start.batch_size)
            if route.model.pixels(smaller) >= route.model.pixels(present):
                return None
            gain = expected_gain(route, present, smaller) or 1.0
            return Choice(smaller, f"{gain:.2f} x the progress a second expected")
        goal = replace(route.smaller_goal(), max_pixels=min(route.unbanned(), route.most()))
        smaller = route.search.shrink(present, goal)
        if smaller is None:
            return None
        return Choice(smaller, f"a step took {route.cap.seconds:.1f} s")

    def _grow(self, present: Shape, used: float) -> Choice:
        route = self.route
        now = route.window.count
        # what waits for its time is looked for at every window
        if route.holds_back(present):
            why = why_not_larger(route, present) or route.why_not_more(present)
            return Choice(None, f"{used:.1%} used: {why}")
        # holding costs unused memory, going on costs a move every few windows for no gain
        if self.pace.held(now):
            reason = f"{used:.1%} used, but moves went up and down: holding {present}"
            return Choice(None, reason)
        outside = route.window.recent_outside[-1]
        if not self.pace.looks_for_more(now, outside, route.window.total):
            return Choice(None)
        better = route.larger(present, used)
        if better is None or not route.closer(better, present, used):
            self.pace.nothing_more(now, outside)
            return Choice(None, f"{used:.1%} used: {route.why_not_more(present)}")
        factor = route.model.pixels(better) / route.model.pixels(present)
        gain = expected_gain(route, present, better)
        worth = "" if gain is None else f", {gain:.2f} x the progress a second expected"
        return Choice(better, f"{used:.1%} used, {factor:.1f} x the pixels{worth}")

    def _shrink(self, present: Shape, used: float) -> Choice:
        reason = f"{used:.1%} used, above the target"
        if self.pace.held(self.route.window.count):
            return Choice(None, f"{reason}, but moves went up and down: holding {present}")
        reason = f"{reason} of {self.route.target.share:.0%}"
        smaller = self.route.smaller(present, used, rungs=1)
        if smaller is None:
            return Choice(None, f"{reason}, but {present} is the smallest shape")
        if not self.route.closer(smaller, present, used):
            return Choice(None, f"{reason}; the next smaller shape is further from it")
        return Choice(smaller, reason)

    def _larger_patch(self, present: Shape) -> Shape | None:
        """For a run that has arrived by its batch: a shape that lands too, and has a larger
        lq_size.
        """
        route = self.route
        now = route.window.count
        if present.batch_size <= route.start.batch_size or not self.pace.trades_now(now):
            return None
        larger = route.search.fill(route.larger_goal(present))
        if larger is None or larger.lq_size < LARGER * present.lq_size:
            self.pace.no_trade(now)
            return None
        if route.estimate(larger).expected < route.target.low:
            self.pace.no_trade(now)
            return None
        self.pace.trades += 1
        return larger
