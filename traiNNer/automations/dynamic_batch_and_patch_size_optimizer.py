"""Grows lq_size and then the batch until a stated share of the memory is used, and shrinks them
before it runs out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from traiNNer.automations.bans import Bans
from traiNNer.automations.base import Automation, AutomationContext, Decision, StepReport
from traiNNer.automations.goodput import Goodput
from traiNNer.automations.measuring import MeasuringWindow
from traiNNer.automations.memory_model import MemoryModel
from traiNNer.automations.pace import Pace
from traiNNer.automations.route import Route
from traiNNer.automations.rules import Choice, Rules
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.automations.state import from_state, to_state
from traiNNer.automations.step_cap import Ramp, StepCap
from traiNNer.automations.target import Target
from traiNNer.automations.worth import can_measure, note_worth
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.errors import OptionsError, TrainingError
from traiNNer.utils.registry import AUTOMATIONS
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import gib

log = logging.getLogger(__name__)

# Relative difference up to which a memory is the same one: drivers reserve a little more or less
# from version to version.
SAME_MEMORY = 0.01


# Steps in a row at the smallest shape that do not fit, after which a run gives up: each of them
# went through in smaller chunks, so it could go on, but with crops of what it was to see.
STUCK_STEPS = 20


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
        context: the shapes that network, images and dataset allow; the lq_size and batch_size of
            the options (lq_size grows at this batch); bytes of the device, or the limit.
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
        pace: "measured" makes steps as large as brings the most progress a second, by the noise of
            the gradients and the time of steps, which it measures, and fills the memory at the end;
            "ramp" lets the pixels of a step rise over the run, from those of the options, so that
            many changes of the weights come first and large steps last; "at_once" fills the memory
            as soon as it is known how. Left out: measured; at_once beside ProgressiveSizes or
            RandomSizes, and in fit_memory.
        ramp: parts of the run, from which the pixels rise and until when; {from: 0.2, until: 0.8}
            where left out.
        final_share: with pace "measured", the last part of the run, in the first half of which the
            memory is filled.
        throughput_guard: what happens when a move loses more than 10 % of the LQ pixels a second:
            "off" nothing, "warn" it is said, "revert" it is taken back and not tried again.
        max_step_seconds: a step is not to take longer. Left out: 10 on a CPU, no bound on a GPU;
            never less than what the options' own sizes take.
    """

    def __init__(  # noqa: PLR0913 (its signature is the schema of its options)
        self,
        context: AutomationContext,
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
        pace: Literal["at_once", "ramp", "measured"] | None = None,
        ramp: dict[Literal["from", "until"], Annotated[float, Field(ge=0, le=1)]] | None = None,
        final_share: Annotated[float, Field(gt=0, le=1)] = 0.1,
        throughput_guard: Literal["off", "warn", "revert"] = "warn",
        max_step_seconds: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        super().__init__(context, enabled=enabled)
        self.target = Target(target_vram_usage, safety_margin)
        if min_lq_size is None:
            min_lq_size = min_lq_default(context, max_lq_size)
        bounds = context.bounds
        self._bounds = bounds.narrowed(
            min_lq_size=min_lq_size,
            max_lq_size=max_lq_size,
            min_batch_size=min_batch_size,
            max_batch_size=max_batch_size,
        )
        self.frequency = adjustment_frequency
        self.model = MemoryModel(bounds.size_multiple, bounds.frames, vram_history_size)
        self.shape = self._bounds.smallest
        self.oom_total = 0
        self._window = MeasuringWindow(context.total)
        self._pace = Pace()
        self._bans = Bans()
        self._cap = StepCap()
        pace = pace or context.pace
        if pace == "measured" and not can_measure(context, self._bounds):
            log.info(
                "pace: measured needs steps of one batch that has two halves; ramp in its place"
            )
            pace = "ramp"
        self.wants_noise = pace == "measured"
        self._goodput = None
        if self.wants_noise:
            self._goodput = Goodput(context.rate_power)
        self._ramp = build_ramp(ramp) if pace == "ramp" else None
        if self.wants_noise:
            self._ramp = Ramp(1 - final_share, 1 - final_share / 2)
        self._guard = throughput_guard
        self._most_seconds = max_step_seconds or context.step_seconds
        self._stuck = 0  # steps in a row that did not fit at the smallest shape
        self._in_force: Shape | None = None  # where it is another automation's wish
        self._rests = ""  # the reason to stay that was logged last
        self._use(self._bounds)

    @property
    def bounds(self) -> ShapeBounds:
        """Between the ends that its options set."""
        return self._bounds

    def describe(self) -> str:
        """Target, bounds, start and pace."""
        pace = "at once"
        if self._goodput is not None and self._ramp is not None:
            pace = f"by what larger steps are worth, to fill the memory from {self._ramp.begin:.0%}"
        elif self._ramp is not None:
            pace = f"from {self._ramp.begin:.0%} to {self._ramp.end:.0%} of the run"
        if self._most_seconds is not None:
            pace += f", a step in {self._most_seconds:g} s at most"
        return (
            f"{self.target.share:.0%} of {gib(self._window.total)}, beginning with {self.shape}"
            f"\n  growing {pace}\n  {self.bounds.describe()}"
        )

    def before_training(self, *, resumed: bool = False) -> Shape:
        """The smallest shape, or the one that a checkpoint proved."""
        last = self._window.last
        if resumed and last is not None and self.shape == self._window.entered:
            # Where the run had arrived the shape is right: another process is no reason to move.
            self._pace.stays |= self.target.holds(last.used_share, wide=False)
        return self.shape

    def after_step(self, report: StepReport) -> Decision | None:
        """Take in a step, and decide when a window is full. A decision counts as carried out.

        A step in an emergency ends its window at once. Steps at another shape than the one asked
        for (batches that were prefetched before) teach, but decide nothing.
        """
        reading = report.reading
        if reading is None:
            return None
        self._stuck = 0
        present = self._in_force or self.shape
        self._cap.progress = report.progress
        route = self._rules.route
        measured = self._goodput if report.shape == present else None
        if measured is not None and note_worth(measured, route, report):
            self._use(route.bounds)
        if report.shape == present:
            self._cap.note(self.model.pixels(present), report.rate, report.seconds)
        if not report.settled:
            self._window.enters(report.shape)
            return None
        alarm = self.target.alarming(reading)
        full = self._window.take(report.shape, reading, length=self.frequency, alarm=alarm)
        if full is None:
            return None
        self.model.observe(report.shape, full)
        if report.shape != present:
            return None
        choice = self._rules.judge(present, self._guard)
        if choice is None and present != self.shape:
            choice = self._rules.choose_beside(present, self.shape, full)
        # alone, and mostly beside others too, its own wish is what is measured
        choice = choice or self._rules.choose(self.shape, full)
        if choice.shape == present == self.shape:
            # what was looked for is here: that is no move
            return None
        return self._carry_out(choice)

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision | None:
        """A step at `shape` did not fit: ban its size, for longer each time, and go at least two
        rungs down.

        Args:
            shape: what did not fit.
            fitted: what the step was repeated with. Where `shape` should have fitted by all that is
                known, nothing is trusted but this.

        Raises:
            NothingSmallerError: if `shape` is the smallest there is, and that for many steps in a
                row: once or twice it may be a guest on the card.
        """
        route = self._rules.route
        self.oom_total += 1
        self._bans.add(shape, self._window.count, self.oom_total)
        # before the model learns of the failure, for afterwards it expects nothing else
        surprise = self.model.count > 0 and route.estimate(shape).expected < self.target.share
        self.model.observe_failure(shape, self._window.total - self._window.outside)
        smaller = route.after_failure(shape)
        if smaller is None:
            self._stuck += 1
            if self._stuck >= STUCK_STEPS:
                raise nothing_smaller(shape, self._window)
            log.warning(
                "out of memory at the smallest shape, %s: the step went through with %s, and the "
                "run goes on; after %d such steps in a row it ends",
                shape,
                fitted,
                STUCK_STEPS,
            )
            self._window.interrupt()
            return None
        if surprise and self.model.pixels(fitted) < self.model.pixels(smaller):
            smaller = fitted
        self._window.interrupt()
        # a batch that was cut to size may have been off the ladder
        smaller = route.bounds.nearest(smaller)
        return self._carry_out(Choice(smaller, f"out of memory at {shape}"))

    def scalars(self) -> dict[str, float]:
        """What the controller wants and expects; what is used, at which sizes, and how often memory
        ran out, is measured elsewhere.
        """
        points = {"vram/target_pct": 100 * self.target.share}
        if self._cap.rate is not None:
            points["speed/shape_lq_mpixels_per_s"] = self._cap.rate / 1e6
        expected = self.predict(self._in_force or self.shape)
        if expected is not None:
            points["vram/predicted_pct"] = 100 * expected
        if self._goodput is not None and self._goodput.looks:
            pixels = self.model.pixels(self._in_force or self.shape)
            points["goodput/noise_scale"] = self._goodput.noise
            points["goodput/worth"] = self._goodput.worth(pixels)
            points["goodput/pixels_per_s"] = self._cap.rate or 0.0
        return points

    def predict(self, shape: Shape) -> float | None:
        """The share of the memory that a step at `shape` should take; None before any was
        measured.
        """
        return self._rules.route.estimate(shape).expected if self.model.count else None

    def narrow(self, bounds: ShapeBounds) -> Decision | None:
        """Stay within `bounds`; a wish outside them becomes the shape inside that fits the
        memory.
        """
        route = self._rules.route
        if bounds == route.bounds:
            return None
        self._use(bounds)
        self._pace.look_anew()  # what no search found may be inside the new bounds
        if bounds.contains(self.shape):
            return None
        self.shape = self._fitting()
        self._rests = ""
        return Decision(self.shape, "the bounds have moved", self.predict(self.shape))

    def follow(self, shape: Shape) -> None:
        """Readings are those of `shape`, whoever asked for it."""
        self._in_force = None if shape == self.shape else shape

    def state_dict(self) -> dict[str, Any]:
        """Everything that decisions rest on, as numbers, strings, lists, dictionaries and None."""
        return {
            "shape": to_state(Shape, self.shape),
            "oom_total": self.oom_total,
            "stuck": self._stuck,
            "rests": self._rests,
            "window": to_state(MeasuringWindow, self._window),
            "pace": to_state(Pace, self._pace),
            "bans": to_state(Bans, self._bans),
            "cap": to_state(StepCap, self._cap),
            "goodput": to_state(Goodput | None, self._goodput),
            "model": self.model.state_dict(),
            "bounds": to_state(ShapeBounds, self._bounds),
            "allowed": to_state(ShapeBounds, self._rules.route.bounds),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly as the run would have; with other memory or other bounds, where the model
        says that the target is.
        """
        proven = from_state(Shape, state["shape"])
        window = from_state(MeasuringWindow, state["window"])
        pace = from_state(Pace, state["pace"])
        bans = from_state(Bans, state["bans"])
        total = self._window.total
        same_memory = abs(window.total - total) <= SAME_MEMORY * total
        same_bounds = from_state(ShapeBounds, state["bounds"]) == self._bounds
        allowed = from_state(ShapeBounds, state["allowed"]) if same_bounds else self._bounds
        self.model.load_state_dict(state["model"])
        self.oom_total = int(state["oom_total"])
        self._stuck = int(state["stuck"])
        self._bans = bans if same_memory else Bans()
        self._cap = from_state(StepCap, state["cap"])
        if self._goodput is not None and state.get("goodput") is not None:
            former = from_state(Goodput, state["goodput"])
            # The options may scale the rate in another way by now.
            self._goodput = replace(former, power=self._goodput.power)
        if same_memory and allowed.contains(proven):
            self.shape = proven
            self._rests = str(state["rests"])
            self._window = replace(window, total=total)
            self._pace = pace
            self._use(allowed)
            return
        # elsewhere nothing of the present moment holds, but what was learned does
        self._window = MeasuringWindow(
            total, count=window.count, recent_outside=window.recent_outside
        )
        self._pace = pace.elsewhere(same_memory=same_memory)
        self._use(allowed)
        self.shape = self._fitting()
        log.info(
            "resumed %s on %s; the checkpoint had %s on %s",
            self.shape, gib(total), proven, gib(window.total),
        )  # fmt: skip

    def _use(self, bounds: ShapeBounds) -> None:
        """Choose among the shapes of `bounds` from now on, by the parts as they are now."""
        asked = bounds.nearest(self.context.start)
        start = asked
        if self._goodput is not None and self._goodput.batch:
            start = bounds.nearest(replace(asked, batch_size=self._goodput.batch))
        route = Route(
            bounds,
            start,
            self.target,
            self.model,
            self._window,
            self._bans,
            self._cap,
            self._most_seconds,
            self._ramp,
            self._goodput,
            asked,
        )
        self._rules = Rules(route, self._pace)

    def _fitting(self) -> Shape:
        """Where to go on inside bounds that do not hold the present shape: where the memory is
        filled. The nearest one may have a larger lq_size, and not fit at the same batch.
        """
        route = self._rules.route
        inside = route.larger(route.bounds.nearest(self.shape)) if self.model.count else None
        return inside or route.bounds.smallest

    def _carry_out(self, choice: Choice) -> Decision | None:
        """Move to the chosen shape, or stay and say why when that is new."""
        shape = choice.shape
        if shape is None:
            # its figures change all the time
            kind = re.sub(r"[\d.]+", "", choice.reason)
            if choice.reason and kind != self._rests:
                self._rests = kind
                log.info("%s", choice.reason)
            return None
        speed = self._cap.describe()
        decision = Decision(shape, choice.reason, self.predict(shape), speed=speed)
        grows = self.model.pixels(shape) > self.model.pixels(self.shape)
        self._cap.moved(self.shape, grows=grows)
        self.shape = shape
        self._rests = ""
        self._pace.moved(self._window.count, grows=grows)
        return decision


def build_ramp(given: Mapping[Literal["from", "until"], float] | None) -> Ramp:
    """The ramp of the options.

    Raises:
        OptionsError: if it ends before it begins.
    """
    ramp = Ramp()
    if given is not None:
        ramp = Ramp(given.get("from", ramp.begin), given.get("until", ramp.end))
    if ramp.begin >= ramp.end:
        raise OptionsError(
            f"ramp goes from {ramp.begin:g} until {ramp.end:g}; expected parts of the run between "
            "0 and 1, the first one smaller"
        )
    return ramp


def nothing_smaller(shape: Shape, window: MeasuringWindow) -> NothingSmallerError:
    """The error of a run that does not fit, with what is known of it."""
    measured = ""
    if window.last is not None:
        measured = f"; {gib(window.last.reserved_peak)} were in use at the last step"
    return NothingSmallerError(
        f"out of memory at the smallest shape, {shape}, on {gib(window.total)} of which "
        f"{gib(window.outside)} are taken by others{measured}. What helps: use_amp: true, gradient "
        "checkpointing, a smaller network, a lower min_lq_size or min_batch_size, closing other "
        "programs"
    )


def min_lq_default(context: AutomationContext, max_lq_size: int | None) -> int | None:
    """Half the lq_size of the options, on the grid and not above `max_lq_size`; None where that is
    no more than the network needs.
    """
    bounds = context.bounds
    half = min(context.start.lq_size, bounds.max_lq_size) // 2
    side = round_down(half, bounds.size_multiple)
    if side <= bounds.min_lq_size:
        return None
    if max_lq_size is None:
        return side
    return min(side, max(bounds.min_lq_size, max_lq_size))
