"""Grows lq_size and then the batch until a stated share of the memory is used, and shrinks them
before it runs out.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from traiNNer.automations.bans import Bans
from traiNNer.automations.base import Automation, Decision, StepReport
from traiNNer.automations.memory_model import MemoryModel
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.automations.shape_search import REAL_STEP, Estimate, Goal, ShapeSearch
from traiNNer.utils.errors import OptionsError, TrainingError
from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.registry import AUTOMATIONS
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import gib

log = logging.getLogger(__name__)

# Windows in a row that must be outside the band before a run that has arrived moves again.
PATIENCE = 2
# Windows without growth after moves went up and down; twice as many at each further time.
HOLD_WINDOWS = 25
# Changes of direction within the last moves that count as going up and down.
REVERSALS = 3
# Windows after which a move no longer counts for that.
REVERSAL_MEMORY = 60
# Where moves go, in safety margins from the target: at least, at most, and at most where nothing
# lies between.
AIM = (-0.45, -0.05, 0.13)
# A move to so many times the largest measured pixels aims at this share of the target: first look,
# then land.
STRIDES = ((2.0, 1.0), (4.0, 0.75), (8.0, 0.45), (16.0, 0.2))
# A move to no more than SMALL times the largest measured size may risk half of what is above the
# limit.
SMALL = 1.35
# Below so many measured shapes growth teaches something, however little of the memory it is
# expected to take.
FEW_SHAPES = 4
# Share of the target below which any growth is worth a move.
CLOSE = 0.6
# Share of lq_size that may be given up to land on the target, for each share of the memory that is
# missing.
LQ_FOR_USE = 8.0
# Share of lq_size that is kept where use is just above the target, as long as less batch does it.
LQ_KEPT = 0.9
TRADES = 4
# So often, and from this factor of lq_size on, a run that has arrived exchanges batch for patch.
LARGER = 1.1
# Windows whose largest `outside` is reckoned with.
OUTSIDE_MEMORY = 3


class NothingSmallerError(TrainingError):
    """The smallest shape does not fit. The message names the measured bytes and the levers."""


@AUTOMATIONS.register("DynamicBatchAndPatchSizeOptimizer", aliases=("DynamicBatchSizeOptimizer",))
class DynamicBatchAndPatchSizeOptimizer(Automation):
    """Fits the batch to the memory: lq_size first, then the batch; the other way round when it has
    to shrink.

    A run begins at the smallest shape, so that the optimizer's state comes to exist where it cannot
    hurt, grows by bounded factors while little is known, and then goes where the memory model says
    that the target is reached. It has arrived while use is within the band: from `target - 0.5 *
    margin` to `target + 0.15 * margin`. Use above `target + margin` is an emergency and shrinks two
    rungs at once; no shape is chosen whose prediction, with its uncertainty, reaches that. All is a
    function of what was recorded: no clock, no random numbers.

    Args:
        bounds: the shapes that network, images and dataset allow.
        start: the lq_size and batch_size of the options: lq_size grows at this batch.
        total: bytes of the device, or the limit.
        enabled: whether the automation takes part in the run.
        target_vram_usage: share of the memory to use, between 0 and 1.
        safety_margin: share above the target that is kept free for what cannot be predicted; sets
            the width of the band around the target too. target_vram_usage + safety_margin must stay
            below 1.
        min_batch_size: smallest batch. Left out: what the network can be trained on.
        max_batch_size: largest batch.
        min_lq_size: smallest side in LQ pixels, on the network's grid. Left out: half the dataset's
            lq_size, or what the network needs.
        max_lq_size: largest side in LQ pixels, on the network's grid. Left out: what the images
            allow.
        adjustment_frequency: measured steps between looks at the memory; the first step at a new
            shape is not one.
        vram_history_size: shapes whose memory is remembered.
    """

    def __init__(
        self,
        bounds: ShapeBounds,
        start: Shape,
        total: int,
        *,
        enabled: bool = True,
        target_vram_usage: Annotated[float, Field(gt=0, lt=1)] = 0.85,
        safety_margin: Annotated[float, Field(gt=0, lt=1)] = 0.05,
        min_batch_size: Annotated[int, Field(ge=1)] | None = None,
        max_batch_size: Annotated[int, Field(ge=1)] = 256,
        min_lq_size: Annotated[int, Field(ge=1)] | None = None,
        max_lq_size: Annotated[int, Field(ge=1)] | None = None,
        adjustment_frequency: Annotated[int, Field(ge=1)] = 4,
        vram_history_size: Annotated[int, Field(ge=4)] = 64,
    ) -> None:
        super().__init__(enabled=enabled)
        if not 0 < target_vram_usage < 1:
            raise OptionsError(
                f"target_vram_usage is {target_vram_usage}; expected a share between 0 and 1"
            )
        if not 0 < safety_margin < 1 - target_vram_usage or safety_margin >= target_vram_usage:
            raise OptionsError(
                f"safety_margin is {safety_margin}; with target_vram_usage {target_vram_usage} "
                f"expected above 0 and below {min(1 - target_vram_usage, target_vram_usage):.2f}"
            )
        if min_lq_size is None and min_lq_default(bounds, start) > bounds.min_lq_size:
            min_lq_size = min_lq_default(bounds, start)
            if max_lq_size is not None:
                min_lq_size = min(min_lq_size, max(bounds.min_lq_size, max_lq_size))
        self.bounds = bounds.narrowed(
            min_lq_size=min_lq_size,
            max_lq_size=max_lq_size,
            min_batch_size=min_batch_size,
            max_batch_size=max_batch_size,
        )
        self.start = self.bounds.nearest(start)
        self.total = total
        self.target = target_vram_usage
        self.margin = safety_margin
        self.limit = self.target + self.margin
        self.band = (self.target - 0.5 * self.margin, self.target + 0.15 * self.margin)
        self.frequency = adjustment_frequency
        self.model = MemoryModel(bounds.size_multiple, bounds.frames, vram_history_size)
        self.shape = self.bounds.smallest
        self.oom_total = 0
        self.windows = 0
        self._search = ShapeSearch(self.bounds, self.start, self._estimate, self.model.pixels)
        self._readings: list[MemoryReading] = []
        self._entered: Shape | None = None  # shape of the last recorded step
        self._last: MemoryReading | None = None  # of the last window
        self._due = False
        self._outside: deque[int] = deque(maxlen=OUTSIDE_MEMORY)
        self._beyond = 0  # windows in a row outside the band
        self._arrived = False
        self._moves: list[tuple[int, int]] = []  # (window, direction)
        self._bans = Bans()
        self._held_until = self._holds = 0
        self._trades = self._no_trades = self._trade_again = 0
        self._look_again = self._fruitless = self._outside_then = (
            0  # searches that found nothing are not repeated
        )
        self._rests: str | None = None  # the reason to stay that was logged last

    # -- what the loop calls -----------------------------------------------------------------------

    def describe(self) -> str:
        """Target, bounds and start."""
        ladder = self.bounds.ladder
        bounds = self.bounds
        return (
            f"{self.target:.0%} of {gib(self.total)}: lq_size {ladder[0]} ({bounds.min_lq_due_to}) "
            f"to {ladder[-1]} ({bounds.max_lq_due_to}), batch {bounds.min_batch_size} to "
            f"{bounds.max_batch_size} ({bounds.max_batch_due_to}), beginning with {self.shape}"
        )

    def before_training(self) -> Shape:
        """The smallest shape, or the one that a checkpoint proved."""
        return self.shape

    def after_step(self, report: StepReport) -> Decision | None:
        """Record, and decide when a window is full."""
        if report.reading is None:
            return None
        self.record(report.shape, report.reading, settled=report.settled)
        return self.decide()

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision:
        """See `out_of_memory`."""
        return self.out_of_memory(shape, fitted)

    def scalars(self) -> dict[str, float]:
        """What the controller wants and expects; what is used, and at which sizes, is measured
        elsewhere.
        """
        points = {"vram/target_pct": 100 * self.target, "dynamic/oom_total": float(self.oom_total)}
        if self.model.count:
            points["vram/predicted_pct"] = 100 * self._estimate(self.shape).expected
        return points

    def record(self, shape: Shape, reading: MemoryReading, *, settled: bool = True) -> None:
        """Take in one step: the shape that entered the network and the peaks of that step.

        The first step at a new shape is not measured: it carries searches for kernels and first
        allocations. Nor is one that is not `settled`. A step in an emergency ends its window at
        once.
        """
        if shape != self._entered:
            self._entered = shape
            self._readings.clear()
            return
        if not settled:
            return
        self._readings.append(reading)
        if len(self._readings) < self.frequency and not self._alarming(reading):
            return
        self._last = sorted(self._readings, key=lambda r: r.used_share)[len(self._readings) // 2]
        if self._alarming(reading):
            self._last = reading
        self._readings.clear()
        self.total = self._last.total
        self.windows += 1
        self._outside.append(self._last.outside)
        self.model.observe(shape, self._last)
        self._due = shape == self.shape

    def decide(self) -> Decision | None:
        """What the last full window asks for; None to stay. A decision counts as carried out."""
        if not self._due or self._last is None:
            return None
        self._due = False
        used = self._last.used_share
        (low, high) = self.band
        if self._alarming(self._last):
            return self._shrink(f"{used:.1%} used, above the limit of {self.limit:.0%}", rungs=2)
        if low <= used <= high:
            self._arrived = True
            self._beyond = 0
            larger = self._larger_patches()
            if larger is not None:
                return self._move(larger, f"{used:.1%} used, and larger patches fit")
            return self._rest(f"target reached with {used:.1%} at {self.shape}")
        self._beyond += 1
        if self._arrived and self._beyond < PATIENCE:
            return None
        if used < low:
            return self._grow(used)
        if self.windows < self._held_until:
            return self._rest(
                f"{used:.1%} used, above the target, but moves went up and down: holding "
                f"{self.shape}"
            )
        return self._shrink(f"{used:.1%} used, above the target of {self.target:.0%}", rungs=1)

    def out_of_memory(self, shape: Shape, fitted: Shape | None = None) -> Decision:
        """A step at `shape` did not fit: ban its size, for longer each time, and go at least two
        rungs down.

        Args:
            shape: what did not fit.
            fitted: what the step was repeated with. Where `shape` should have fitted by all that is
                known, nothing is trusted but this.

        Raises:
            NothingSmallerError: if `shape` is the smallest there is.
        """
        self.oom_total += 1
        self._bans.add(shape, self.windows, self.oom_total)
        surprise = self.model.count > 0 and self._estimate(shape).expected < self.target
        self.model.observe_failure(shape, self.total - max(self._outside, default=0))
        smaller = self._after_failure(shape)
        if (
            surprise
            and fitted is not None
            and self.model.pixels(fitted) < self.model.pixels(smaller)
        ):
            smaller = self.bounds.nearest(fitted)
        self._entered = None
        self._readings.clear()
        return self._move(smaller, f"out of memory at {shape}")

    # -- deciding ----------------------------------------------------------------------------------

    def _alarming(self, reading: MemoryReading) -> bool:
        return reading.used_share > self.limit or reading.alloc_retries > 0

    def _estimate(self, shape: Shape) -> Estimate:
        prediction = self.model.predict(shape)
        outside = max(self._outside, default=0)
        return Estimate(
            (outside + prediction.bytes) / self.total, (outside + prediction.upper) / self.total
        )

    def _goal(self, *, growing: bool) -> Goal:
        """Where to aim: a little below the target, for noise moves use both ways and the band ends
        just above it.
        """
        most = self._bans.smallest(self.windows, self.model.pixels)
        if growing:
            most = min(
                self._half_way_to(most),
                self.model.largest * min(2.0**self.model.count, STRIDES[-1][0]),
            )
        low, high, ceiling = (self.target + part * self.margin for part in AIM)
        return Goal(low, high, ceiling, self.limit if growing else math.inf, most)

    def _grow(self, used: float) -> Decision | None:
        if self.windows < self._held_until:
            return self._rest(f"{used:.1%} used, but moves went up and down: holding {self.shape}")
        if (
            self.windows < self._look_again
            and abs(self._outside[-1] - self._outside_then) < 0.004 * self.total
        ):
            return None
        better = self._fill(self._goal(growing=True), used)
        if better is None or not self._worth_it(better, used):
            self._fruitless += 1
            self._look_again = self.windows + 2 ** min(5, self._fruitless)
            self._outside_then = self._outside[-1]
            return self._rest(f"{used:.1%} used: {self._why_not_more()}")
        factor = self.model.pixels(better) / self.model.pixels(self.shape)
        return self._move(better, f"{used:.1%} used, {factor:.1f} x the pixels")

    def _larger_patches(self) -> Shape | None:
        """For a run that has arrived by its batch: a shape that lands too, and has a larger
        lq_size.
        """
        if self._trades >= TRADES or self.shape.batch_size <= self.start.batch_size:
            return None
        if self.windows < max(self._held_until, self._trade_again):
            return None
        larger = self._search.fill(self._goal(growing=True))
        worth = larger is not None and larger.lq_size >= LARGER * self.shape.lq_size
        if larger is None or not worth or self._estimate(larger).expected < self.band[0]:
            self._no_trades += 1
            self._trade_again = self.windows + 2 ** min(8, self._no_trades)
            return None
        self._trades += 1
        return larger

    def _worth_it(self, shape: Shape, used: float) -> bool:
        """While little is known or far below the target any growth; else what comes closer to the
        target.
        """
        unsure = self.model.count < FEW_SHAPES or used < CLOSE * self.target
        if (
            unsure
            and used < self.target
            and self.model.pixels(shape) > self.model.pixels(self.shape)
        ):
            return True
        center = self.target - 0.2 * self.margin
        return abs(self._estimate(shape).expected - center) < abs(used - center) - 0.003

    def _fill(self, goal: Goal, used: float = 0.0) -> Shape | None:
        """Where the target is reached, or the way there while it is far or the margin too wide."""
        if used:
            missing = max(0.0, self.band[0] - used)
            goal = replace(goal, min_lq_size=(1 - LQ_FOR_USE * missing) * self.shape.lq_size)
        anywhere = replace(
            goal, limit=math.inf, max_pixels=self._bans.smallest(self.windows, self.model.pixels)
        )
        toward = self._search.fill(anywhere)
        if toward is None:
            return None
        strides = [
            replace(goal, high=share * goal.high, ceiling=share * goal.ceiling,
                    max_pixels=min(goal.max_pixels, factor * self.model.largest))
            for factor, share in STRIDES
        ]  # fmt: skip
        small = replace(
            strides[0], max_pixels=min(strides[0].max_pixels, SMALL * self.model.largest)
        )
        small = replace(small, limit=0.5 + 0.5 * self.limit)
        if any(
            self._search.fits(toward, replace(part, high=part.ceiling))
            for part in (*strides, small)
        ):
            return toward
        steps = [self._search.climb(toward, self.shape, part) for part in strides]
        return max(
            (step for step in steps if step is not None), key=self.model.pixels, default=None
        )

    def _half_way_to(self, banned: float) -> float:
        """With something banned, growth halves the distance to it each time, and ends where that is
        no real step.
        """
        if math.isinf(banned):
            return banned
        proven = self.model.largest_below(banned)
        half_way = (proven + banned) / 2
        return (
            half_way
            if half_way >= REAL_STEP * proven
            else max(proven, self.model.pixels(self.shape))
        )

    def _why_not_more(self) -> str:
        ceiling = self.bounds.ceiling(self.shape)
        if ceiling:
            return f"no more is possible ({', '.join(ceiling)})"
        windows = self._bans.ends_in(self.windows)
        if windows:
            return f"the next size ran out of memory and is not tried again for {windows} windows"
        return f"the next size would overshoot the target of {self.target:.0%}"

    def _shrink(self, reason: str, rungs: int) -> Decision | None:
        goal = self._goal(growing=False)
        used = self._last.used_share if self._last is not None else 1.0
        if rungs == 1:
            goal = replace(
                goal,
                min_lq_size=(LQ_KEPT - LQ_FOR_USE * (used - self.band[1])) * self.shape.lq_size,
            )
        smaller = self._search.shrink(self.shape, goal, rungs) or self._next_below(self.shape)
        if smaller is None:
            return self._rest(f"{reason}, but {self.shape} is the smallest shape")
        if rungs == 1 and not self._worth_it(smaller, used):
            return self._rest(f"{reason}; the next smaller shape is further from it")
        return self._move(smaller, reason)

    def _next_below(self, shape: Shape) -> Shape | None:
        """Half the batch, or the next smaller lq_size: for when the model knows nothing that
        fits.
        """
        if shape.batch_size > self.bounds.min_batch_size:
            return Shape(shape.lq_size, max(self.bounds.min_batch_size, shape.batch_size // 2))
        below = [side for side in self.bounds.ladder if side < shape.lq_size]
        smaller = [side for side in below if side * side * 2 <= shape.lq_size**2]
        return Shape((smaller or below[:1])[-1], shape.batch_size) if below else None

    def _after_failure(self, shape: Shape) -> Shape:
        found = (
            self._search.shrink(shape, self._goal(growing=False), rungs=2)
            if self.model.count
            else None
        )
        found = found or self._next_below(shape)
        if found is None:
            measured = (
                f"; {gib(self._last.reserved_peak)} were in use at the last step"
                if self._last
                else ""
            )
            raise NothingSmallerError(
                f"out of memory at the smallest shape, {shape}, on {gib(self.total)} of which "
                f"{gib(max(self._outside, default=0))} are taken by others{measured}. What helps: "
                "use_amp: true, gradient checkpointing, a smaller network, a lower min_lq_size or "
                "min_batch_size, closing other programs"
            )
        return found

    def _move(self, shape: Shape, reason: str) -> Decision:
        grows = self.model.pixels(shape) > self.model.pixels(self.shape)
        decision = Decision(
            shape, reason, self._estimate(shape).expected if self.model.count else 0.0
        )
        self.shape = shape
        self._beyond = 0
        self._rests = None
        self._due = False
        self._look_again = self._fruitless = self._no_trades = self._trade_again = 0
        self._moves.append((self.windows, 1 if grows else -1))
        self._moves = self._moves[-8:]
        recent = [
            direction
            for window, direction in self._moves
            if self.windows - window <= REVERSAL_MEMORY
        ]
        if sum(a != b for a, b in itertools.pairwise(recent)) >= REVERSALS:
            self._held_until = self.windows + HOLD_WINDOWS * 2 ** min(10, self._holds)
            self._holds += 1
            self._moves.clear()
        return decision

    def _rest(self, reason: str) -> None:
        """Stay, and say why when that is new."""
        kind = reason.partition("%")[2]
        if kind != self._rests:
            self._rests = kind
            log.info("%s", reason)

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that decisions rest on, as numbers, strings, lists and dictionaries."""
        return {
            "shape": [self.shape.lq_size, self.shape.batch_size],
            "total": self.total,
            "model": self.model.state_dict(),
            "windows": self.windows,
            "outside": list(self._outside),
            "arrived": self._arrived,
            "moves": [list(move) for move in self._moves],
            "bans": self._bans.state(),
            "held_until": self._held_until,
            "holds": self._holds,
            "trades": self._trades,
            "oom_total": self.oom_total,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at the proven shape; with other memory or other bounds, where the model says that
        the target is.
        """
        self.model.load_state_dict(state["model"])
        self.windows = int(state["windows"])
        self.oom_total = int(state["oom_total"])
        self._outside = deque(state["outside"], maxlen=OUTSIDE_MEMORY)
        self._arrived = bool(state["arrived"])
        self._holds = int(state["holds"])
        self._held_until = int(state["held_until"])
        self._trades = int(state["trades"])
        self._moves = [(int(window), int(direction)) for window, direction in state["moves"]]
        self._bans.load(state["bans"])
        proven = Shape(*state["shape"])
        same_memory = abs(state["total"] - self.total) <= 0.01 * self.total
        if same_memory and self.bounds.contains(proven):
            self.shape = proven
            return
        if not same_memory:
            self._bans.clear()
            self._held_until = self._trades = 0
        self._arrived = False
        self._moves.clear()
        resolved = self._fill(self._goal(growing=True)) if self.model.count else None
        self.shape = resolved or self.bounds.smallest
        log.info(
            "resumed %s on %s; the checkpoint had %s on %s",
            self.shape, gib(self.total), proven, gib(state["total"]),
        )  # fmt: skip


def min_lq_default(bounds: ShapeBounds, start: Shape) -> int:
    """Half the lq_size of the options, on the grid, and at least what the network needs."""
    multiple = bounds.size_multiple
    return max(
        bounds.min_lq_size, min(start.lq_size, bounds.max_lq_size) // 2 // multiple * multiple
    )
