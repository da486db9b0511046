"""Watches the memory between steps, and makes room before others take it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from traiNNer.automations.base import Automation, AutomationContext, Decision, StepReport
from traiNNer.automations.pressure import LEVELS, Pid, PressureLevels, TimedLook
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.automations.state import from_state, to_state
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import GIB, gib

log = logging.getLogger(__name__)

# What the automation of the sizes leaves free, where nothing else is wanted.
AUTO_HEADROOM = 0.15
# Levels as shares of the headroom that is wanted. Moderate at half of it, for the automation beside
# lands a little above its target at times; critical where a workspace of a kernel is as large.
DEFAULT_LEVELS = {"moderate": 0.5, "high": 0.3, "critical": 0.15}
# Steps from one change to the next, so that the effect of the first is seen; at a critical level
# nothing is waited for.
STEPS_BETWEEN = 4
# Share of the headroom wanted by which it may be off before a lone controller moves the batch.
DEADBAND = 0.1
# Part of what is free that one growth may take, by what a pixel has taken so far.
CAUTION = 0.7
# Calm steps before the sizes are set free again: a program that has just gone may come back.
CALM_STEPS = 8

GivenLevels = dict[Literal["moderate", "high", "critical"], Annotated[float, Field(gt=0, le=1)]]


@AUTOMATIONS.register("MemoryPressureController")
class MemoryPressureController(Automation):
    """Keeps a headroom of memory free that other programs may take: a thread looks at the memory a
    few times a second, and steps become smaller when the headroom shrinks.

    Beside DynamicBatchAndPatchSizeOptimizer it says nothing while there is headroom; at a high
    level it asks for fewer pixels, at a critical one for the smallest batch that was trained so
    far, and for cached memory to be given back; when it is calm again, the other decides alone.
    Alone it keeps lq_size and lets the batch follow the headroom.

    Args:
        context: what network, images, options and device allow.
        enabled: whether it takes part in the run.
        target_headroom_gib: GiB to keep free; auto is 15 % of the memory, or of the limit.
        levels: the headroom below which each level begins, as a share of the one that is wanted;
            {moderate: 0.5, high: 0.3, critical: 0.15} where left out.
        kp: share of its pixels by which a step changes for each headroom that is missing.
        ki: the same for each headroom that was missing for a second.
        kd: the same for each headroom that it falls by in a second.
        poll_hz: looks a second.
        emergency_threshold: share of the wanted headroom below which cached memory is given back;
            left out, that of the critical level.
        emergency_cooldown_s: seconds from one time to the next.
        max_batch_size: largest batch that it asks for, where it is alone.
    """

    def __init__(  # noqa: PLR0913 (its signature is the schema of its options)
        self,
        context: AutomationContext,
        *,
        enabled: bool = True,
        target_headroom_gib: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto",
        levels: GivenLevels | None = None,
        kp: Annotated[float, Field(ge=0)] = 0.5,
        ki: Annotated[float, Field(ge=0)] = 0.05,
        kd: Annotated[float, Field(ge=0)] = 0.05,
        poll_hz: Annotated[float, Field(gt=0, le=100)] = 4.0,
        emergency_threshold: Annotated[float, Field(gt=0, le=1)] | None = None,
        emergency_cooldown_s: Annotated[float, Field(ge=0)] = 30.0,
        max_batch_size: Annotated[int, Field(ge=1)] = 256,
    ) -> None:
        super().__init__(context, enabled=enabled)
        self.headroom = wanted_headroom(target_headroom_gib, context.total)
        self.levels = read_levels(levels, self.headroom)
        self.polls_per_second = poll_hz
        emergency = self.levels.critical
        if emergency_threshold is not None:
            emergency = emergency_threshold * self.headroom
        self._emergency = emergency
        self._cooldown = emergency_cooldown_s
        self._pid = Pid(kp, ki, kd)
        self._alone = context.companions == ()
        self._bounds = context.bounds
        if self._alone:
            side = context.start.lq_size
            # The batch of the options is wanted, whatever the bound.
            most = max(max_batch_size, context.start.batch_size)
            self._bounds = context.bounds.narrowed(
                min_lq_size=side, max_lq_size=side, max_batch_size=most
            )
        self.level = 0
        self.collections = 0
        self._collected_at = -math.inf
        self._present = context.start
        self._proven: Shape | None = None  # the smallest that was trained
        self._most = math.inf  # pixels that did not fit
        self._former: Shape | None = None  # what it took something from, until it is calm
        self._steps = 0  # since the last change
        self._calm = 0  # steps in a row without pressure
        self._last: TimedLook | None = None

    @property
    def bounds(self) -> ShapeBounds:
        """Alone, lq_size is that of the options."""
        return self._bounds

    def describe(self) -> str:
        """The headroom, and where the levels begin."""
        begins = ", ".join(f"{name} below {gib(getattr(self.levels, name))}" for name in LEVELS[1:])
        alone = f", lq_size {self.context.start.lq_size}" if self._alone else ""
        return f"{gib(self.headroom)} are kept free{alone}; {begins}"

    def watch(self, looks: Sequence[TimedLook]) -> Decision | None:
        """Before a step: what was seen since the one before."""
        self.wants_memory_back = False
        if not looks:
            return None
        self._last = looks[-1]
        worst = min(look.look.headroom for look in looks)
        before = self.level
        self.level = self.levels.level(worst, before)
        if self.level != before:
            log.info(
                "memory pressure: %s -> %s, %s of %s are free",
                LEVELS[before],
                LEVELS[self.level],
                gib(worst),
                gib(self.headroom),
            )
        error = (worst - self.headroom) / self.headroom
        change = self._pid.update(error, self._last.seconds)
        self._give_back(worst)
        shape = self._under_pressure(change, rises=self.level > before)
        if shape is None:
            return None
        self._steps = 0
        self._calm = 0
        self._former = self._former or self._present
        return Decision(shape, f"memory pressure is {LEVELS[self.level]}, {gib(worst)} are free")

    def after_step(self, report: StepReport) -> Decision | None:
        """Learn what was trained; set the sizes free where it is calm, or alone let the batch
        follow the headroom.
        """
        self._steps += 1
        self._calm = self._calm + 1 if self.level <= 1 else 0
        if self._proven is None or report.shape.pixels() < self._proven.pixels():
            self._proven = report.shape
        if self._alone:
            return self._follow_headroom(report)
        if self._former is None or self._calm < CALM_STEPS:
            return None
        self._former = None
        self._pid.forget()
        return Decision(largest_in(self._bounds), f"{gib(self._free)} are free again")

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision | None:
        """Alone, go on with half of what did not fit and remember its size; beside others it is
        theirs to decide.
        """
        if not self._alone:
            return None
        self._most = min(self._most, shape.pixels())
        self._steps = 0
        smaller = resized(self._bounds, shape, 0.5)
        if fitted.pixels() < smaller.pixels():
            smaller = self._bounds.nearest(fitted)
        return Decision(smaller, f"out of memory at {shape}")

    def follow(self, shape: Shape) -> None:
        """The shape in force."""
        self._present = shape

    def scalars(self) -> dict[str, float]:
        """The level (0 to 3), what is free, and how often memory was given back."""
        return {
            "pressure/level": float(self.level),
            "pressure/headroom_gib": self._free / GIB,
            "pressure/collections": float(self.collections),
        }

    def state_dict(self) -> dict[str, Any]:
        """What was learned; levels and clocks are those of a process."""
        return {
            "proven": to_state(Shape | None, self._proven),
            "former": to_state(Shape | None, self._former),
            "most": None if math.isinf(self._most) else self._most,
            "collections": self.collections,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Know it again."""
        self._proven = from_state(Shape | None, state["proven"])
        self._former = from_state(Shape | None, state["former"])
        most = state["most"]
        self._most = math.inf if most is None else float(most)
        self.collections = int(state["collections"])

    @property
    def _free(self) -> float:
        return 0.0 if self._last is None else float(self._last.look.headroom)

    def _give_back(self, headroom: int) -> None:
        """In an emergency, and not too often."""
        assert self._last is not None
        now = self._last.seconds
        if headroom < self._emergency and now - self._collected_at >= self._cooldown:
            self._collected_at = now
            self.collections += 1
            self.wants_memory_back = True

    def _under_pressure(self, change: float, *, rises: bool) -> Shape | None:
        """What to make smaller; None where nothing is, or the last change is not seen yet."""
        level = LEVELS[self.level]
        may_move = rises or self._steps >= STEPS_BETWEEN
        if level == "critical":
            smaller = self._proven or self._bounds.smallest
            if smaller == self._present and may_move:
                # Nothing as small was trained yet.
                smaller = resized(self._bounds, self._present, 0.5)
        elif level == "high" and may_move and change < 0:
            smaller = resized(self._bounds, self._present, 1 + change)
        else:
            return None
        return smaller if smaller.pixels() < self._present.pixels() else None

    def _follow_headroom(self, report: StepReport) -> Decision | None:
        """A batch by the headroom that a step leaves at its peak."""
        reading = report.reading
        moves = reading is not None and report.settled and report.shape == self._present
        if not moves or self._steps < STEPS_BETWEEN or self.level > 1:
            return None
        assert reading is not None
        free = reading.total - reading.outside - reading.reserved_peak
        if self._last is not None:
            free = min(free, self._last.look.headroom)
        error = (free - self.headroom) / self.headroom
        # At most, for what the process holds besides is in it.
        taken = max(1, reading.reserved_peak - reading.baseline)
        back = self._way_back(free, taken)
        if back is not None:
            return back
        if abs(error) < DEADBAND:
            return None
        seconds = self._pid.seconds if self._last is None else self._last.seconds
        change = self._pid.update(error, seconds)
        change = min(change, CAUTION * (free - self.headroom) / taken)
        most_seconds = self.context.step_seconds
        if most_seconds is not None and report.seconds is not None:
            change = min(change, most_seconds / report.seconds - 1)
        batch = resized(self._bounds, self._present, 1 + change)
        if change > 0 and batch == self._present:
            batch = Shape(batch.lq_size, batch.batch_size + 1)
        batch = self._bounds.nearest(batch)
        if batch == self._present or batch.pixels() >= self._most:
            return None
        self._steps = 0
        return Decision(batch, f"{gib(free)} are free, {gib(self.headroom)} are wanted")

    def _way_back(self, free: float, taken: int) -> Decision | None:
        """To the batch before the pressure, where it is calm and that fits again."""
        former = self._former
        if former is None or self._calm < CALM_STEPS:
            return None
        more = taken * (former.pixels() / self._present.pixels() - 1)
        if free - more < (1 - DEADBAND) * self.headroom:
            return None
        self._former = None
        self._steps = 0
        self._pid.forget()
        return Decision(former, f"{gib(free)} are free again")


def largest_in(bounds: ShapeBounds) -> Shape:
    """The largest batch of the largest patches."""
    side = bounds.ladder[-1]
    return bounds.nearest(Shape(side, bounds.largest_batch(side)))


def resized(bounds: ShapeBounds, shape: Shape, factor: float) -> Shape:
    """`factor` times the pixels: by the batch, and where that is at its end by lq_size."""
    batch = math.floor(shape.batch_size * factor)
    if batch >= bounds.min_batch_size:
        return bounds.nearest(Shape(shape.lq_size, batch))
    most = factor * shape.pixels()
    least = bounds.min_batch_size
    fitting = [side for side in bounds.ladder if Shape(side, least).pixels() <= most]
    return Shape(fitting[-1] if fitting else bounds.ladder[0], least)


def wanted_headroom(given: float | Literal["auto"], total: int) -> float:
    """Bytes to keep free.

    Raises:
        OptionsError: if that is all there is.
    """
    if given == "auto":
        return AUTO_HEADROOM * total
    if given * GIB >= total:
        raise OptionsError(
            f"target_headroom_gib is {given:g}, and there are {gib(total)} in all; keep less free"
        )
    return given * GIB


def read_levels(given: GivenLevels | None, headroom: float) -> PressureLevels:
    """The levels in bytes; those that are left out are the usual ones.

    Raises:
        OptionsError: if a more serious level does not begin below the one before.
    """
    shares = DEFAULT_LEVELS | dict(given or {})
    moderate, high, critical = (shares[name] for name in LEVELS[1:])
    if not moderate > high > critical:
        raise OptionsError(
            f"levels: moderate {moderate:g}, high {high:g}, critical {critical:g}; each has to be "
            "below the one before"
        )
    return PressureLevels(moderate * headroom, high * headroom, critical * headroom)
