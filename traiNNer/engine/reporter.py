"""What a run tells while it goes: a line in the log, points on the curves, a bar on a terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from traiNNer.engine.part import Part
from traiNNer.engine.progress import ProgressBar, Speed, duration
from traiNNer.engine.run import Run
from traiNNer.engine.samples import samples_sheet
from traiNNer.models import StepResult
from traiNNer.utils.shape import Shape

log = logging.getLogger(__name__)
# Iterations of which each is a point on the curves of sizes and memory: most of a climb is in them.
FIRST_POINTS = 200
# Seconds after which a line is written, whatever print_freq says: a run that says nothing for
# longer looks as if it hung.
SILENCE_S = 30.0
# Percent of the time, above which a wait for data is worth a sentence; not at the beginning, which
# waits for processes to start.
LONG_WAIT_PCT = 10.0


class LossMeans:
    """Sums of losses that stay on the device until somebody reads them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of a step; those that are not finite are left out, for such a step is
        left out too, and counted elsewhere.
        """
        for label, loss in losses.items():
            counts = torch.isfinite(loss)
            finite = torch.where(counts, loss, torch.zeros_like(loss))
            self._sums[label] = self._sums.get(label, 0) + finite.float()
            self._counts[label] = self._counts.get(label, 0) + counts.float()

    def look(self) -> dict[str, float]:
        """The mean per step since the last reading (one synchronisation with the device); nan where
        no step was finite.
        """
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values()))
        counts = torch.stack(list(self._counts.values()))
        return dict(zip(self._sums, (sums / counts).tolist(), strict=True))

    def read(self) -> dict[str, float]:
        """The same, and start anew."""
        means = self.look()
        self._sums.clear()
        self._counts.clear()
        return means


class Reporter(Part):
    """Says every `print_freq` iterations what has happened since, and besides that at the first
    iteration with other sizes and after half a minute of silence.

    Args:
        data_advice: why data is waited for and what to do, asked once it is waited for long; its
            argument is whether processes read.
    """

    name = "reporter"

    def __init__(self, data_advice: Callable[[bool], str] | None = None) -> None:
        self._data_advice = data_advice
        self._losses = LossMeans()
        self._shape: Shape | None = None
        self._last_line = time.monotonic()
        self._bar: ProgressBar | None = None
        self._has_shown = False

    def start(self, run: Run) -> None:
        self._bar = ProgressBar(run.length.total, run.done)

    def after_step(self, run: Run, result: StepResult) -> None:
        self._losses.add(result.losses)
        # After a step, when the processes that read are there: what this one has open by then would
        # be theirs too.
        if not self._has_shown and run.tracker.is_open:
            self._has_shown = True
            sheet = samples_sheet(run.stream.loader)
            if sheet is not None:
                run.tracker.image("train/samples", sheet, run.iteration)
        if self._bar is not None:
            self._bar.reach(run.done, _place(run))
        # Not the shapes in between, of samples that were read ahead.
        asked = Shape(run.stream.loader.lq_size, run.stream.loader.batch_size)
        # Where sizes stay, print_freq says when to speak, of the first iteration too.
        may_move = run.memory is not None
        has_moved = may_move and result.shape != self._shape and result.shape == asked
        self._shape = result.shape
        is_silent = time.monotonic() - self._last_line >= SILENCE_S
        if run.is_nth(run.options.logger.print_freq):
            self._report(run, result)
            return
        if has_moved or is_silent:
            self._tell(run, result, self._losses.look(), run.clock.look())
        if has_moved or result.iteration <= FIRST_POINTS:
            run.tracker.scalars(self._sizes(run, result), run.iteration)

    def close(self, run: Run) -> None:  # noqa: ARG002
        if self._bar is not None:
            self._bar.close()

    def _report(self, run: Run, result: StepResult) -> None:
        """Here the host waits for the device."""
        losses = self._losses.read()
        run.recipe.flush_checks()
        speed = run.clock.read()
        self._tell(run, result, losses, speed)
        run.tracker.scalars(self._points(run, result, losses, speed), run.iteration)
        is_long = speed.data_wait_pct > LONG_WAIT_PCT and run.iteration > FIRST_POINTS
        if self._data_advice is not None and is_long:
            by_processes = bool(run.stream.loader.worker_pids)
            log.info(
                "%.0f %% of the time goes into waiting for data: %s",
                speed.data_wait_pct,
                self._data_advice(by_processes),
            )
            # Once: it does not become truer.
            self._data_advice = None

    def _tell(
        self, run: Run, result: StepResult, losses: Mapping[str, float], speed: Speed
    ) -> None:
        """A line, and the words beside the bar."""
        self._last_line = time.monotonic()
        remaining = duration(_seconds_left(run, result, speed))
        if self._bar is not None:
            self._bar.say(f"{_rate(speed.iterations_per_s)}, {remaining} left")
        log.info("%s", _line(run, result, losses, speed, remaining))

    def _points(
        self, run: Run, result: StepResult, losses: Mapping[str, float], speed: Speed
    ) -> dict[str, float]:
        """One point for every curve."""
        loader = run.stream.loader
        work = run.recipe.work
        guards = {phase.name: phase.guard for phase in run.recipe.phases}
        points = {f"losses/{label}": value for label, value in losses.items()}
        points |= self._sizes(run, result)
        points |= {
            "speed/iterations_per_s": speed.iterations_per_s,
            "speed/samples_per_s": speed.samples_per_s,
            "speed/lq_mpixels_per_s": speed.lq_mpixels_per_s,
            "speed/data_wait_pct": speed.data_wait_pct,
            "progress/samples": work.samples,
            "progress/mpixels": work.pixels / 1e6,
            "progress/hours": work.seconds / 3600,
            "progress/epoch": loader.epoch,
            "progress/nonfinite_steps": sum(guard.total for guard in guards.values()),
        }
        if len(guards) > 1:
            points |= {f"nonfinite/{name}": guard.total for name, guard in guards.items()}
        return points

    def _sizes(self, run: Run, result: StepResult) -> dict[str, float]:
        """A point for the curves that need no word from the device."""
        points: dict[str, float] = {}
        for part in run.parts:
            points |= part.scalars()
        # Last, so that no part says something else.
        points |= {f"lr/{name}": phase.learning_rate for name, phase in result.phases.items()}
        return points | {
            "dynamic/lq_size": result.shape.lq_size,
            "dynamic/batch_size": result.shape.batch_size,
            "dynamic/samples_per_iteration": result.samples,
            "dynamic/oom_total": run.recipe.out_of_memory_total,
        }


def _rate(iterations_per_s: float) -> str:
    """Four figures are enough, and keep the line within a console."""
    decimals = 2 if iterations_per_s < 100 else 0
    return f"{iterations_per_s:.{decimals}f} it/s"


def _place(run: Run) -> str:
    """Where the run is: the iteration and, where it is counted in something else, that."""
    length = run.length
    if length.key == "total_iter":
        return f"{run.iteration}/{length.number(length.total)}"
    place = f"{length.number(run.done)}/{length.number(length.total)} {length.measure.short}"
    return f"{run.iteration} ({place})"


def _seconds_left(run: Run, result: StepResult, speed: Speed) -> float:
    """Of the work that is left, at the sizes of this step and their speed, right after a move
    too.
    """
    left = max(0.0, run.length.total - run.done)
    pixels_of_one = {
        "iterations": result.pixels,
        "samples": result.pixels / result.samples,
        "pixels": 1.0,
    }
    counts = run.length.measure.counts
    if counts not in pixels_of_one:
        return left
    rate = run.clock.shape_speed.rate or speed.lq_mpixels_per_s * 1e6
    return left * pixels_of_one[counts] / max(rate, 1e-9)


def _line(
    run: Run, result: StepResult, losses: Mapping[str, float], speed: Speed, remaining: str
) -> str:
    """The log's line; its clauses are two blanks apart. The curves have more: a line is to fit into
    a console.
    """
    rates = (phase.learning_rate for phase in result.phases.values())
    shape = result.shape
    batch = f"batch {shape.batch_size}"
    samples = len(result.indices)
    if shape.batch_size != samples:
        batch += f" ({samples} accumulated)"
    if not run.team.is_even:
        batch += f" of {result.samples}"
    elif not run.team.is_alone:
        batch += f" x {run.team.size}"
    clauses = [
        _place(run),
        *(f"{label} {value:.5f}" for label, value in losses.items()),
        f"lr {', '.join(f'{rate:.2e}' for rate in rates)}",
        f"lq_size {shape.lq_size}",
        batch,
        *filter(None, (part.status() for part in run.parts)),
        _rate(speed.iterations_per_s),
        f"data wait {speed.data_wait_pct:.0f} %",
        f"left {remaining}",
    ]
    return "  ".join(clauses)
