"""The part that fits a run to its memory: hands measured steps to the automations, and carries out
what they decide.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from traiNNer.automations import (
    AutomationContext,
    Automations,
    CpuMemory,
    CudaMemory,
    Decision,
    StepReport,
)
from traiNNer.data import DynamicDatasetWrapper
from traiNNer.engine.memory_monitor import MemoryMonitor
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.engine.vram_picture import save_vram_picture
from traiNNer.models import BaseModel, StepResult
from traiNNer.models.base_model import learning_rate_scale
from traiNNer.options.length import whole_amount
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.bounds import elements_per_pixel, first_shape, probe_size, shape_bounds
from traiNNer.utils.arithmetic import ceil_div
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import DiskError
from traiNNer.utils.memory import MemoryBackend, MemoryReading
from traiNNer.utils.out_of_memory import first_line
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import GIB

log = logging.getLogger(__name__)
# Longest step on a CPU where the options say nothing: whoever waits for a line or for Ctrl-C waits
# so long, and larger steps bring a CPU nothing.
CPU_STEP_SECONDS = 10.0
# What the learning rate is multiplied by, as a power of the batch.
RATE_POWERS = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
# Iterations of which each is a point of the picture: a run mostly arrives within them.
FIRST = 200
# Points of the picture; more would not be seen on its thousand pixels.
MOST_POINTS = 4000
# Per cent of the memory from the target within which a run has reached it.
ARRIVED_PCT = 3.0


def open_memory(runtime: Runtime, limit_gib: float | None) -> MemoryBackend | None:
    """The memory of the device that the run computes on; None for a device that does not tell.

    Raises:
        OptionsError: for a limit that is out of its range.
    """
    limit = None if limit_gib is None else int(limit_gib * GIB)
    if runtime.device.type == "cuda":
        return CudaMemory(runtime.device, limit)
    if runtime.device.type != "cpu":
        return None
    memory = CpuMemory(limit)
    if limit is None and runtime.team.local_size > 1:
        # Half of the main memory that is available is for all processes of the machine.
        memory = CpuMemory(memory.total // runtime.team.local_size)
    return memory


def build_memory_fit(
    options: TrainingOptions,
    recipe: BaseModel,
    dataset: DynamicDatasetWrapper,
    memory: MemoryBackend | None = None,
) -> MemoryFit | None:
    """The automations that the options switch on and the memory they watch; None without any.

    Args:
        options: the checked options.
        recipe: trains.
        dataset: bounds the patches.
        memory: what is watched; None opens that of the device.

    Raises:
        OptionsError: for bounds that images or network cannot serve, or a limit that is out of its
            range.
    """
    active = options.training_automations.active
    if not active:
        if options.vram_limit_gib is not None:
            log.warning("vram_limit_gib has no effect: training_automations is not enabled")
        return None
    runtime = recipe.runtime
    memory = memory or open_memory(runtime, options.vram_limit_gib)
    if memory is None:
        log.warning(
            "the memory of %s cannot be watched: lq_size and batch stay as they are",
            runtime.device,
        )
        return None
    probe = torch.zeros(probe_size(options), device=runtime.device)
    elements = elements_per_pixel(recipe.main.module, probe)
    bounds = shape_bounds(options, dataset.largest_lq_size, elements)
    start = first_shape(options)
    step_seconds = CPU_STEP_SECONDS if runtime.device.type == "cpu" else None
    automations = Automations.build(
        active,
        AutomationContext(
            bounds,
            start,
            # A decision is for all processes, so it has to suit the one that has least.
            min(runtime.team.share(memory.total)),
            step_seconds,
            whole_amount(options.length),
            options.manual_seed,
            batches_per_step=batches_per_step(options),
            pace=options.training_automations.usual_pace,
            rate_power=RATE_POWERS[options.train.lr_scaling],
        ),
    )
    described = [f"{name}: {part.describe()}" for name, part in automations.parts.items()]
    log.info("%s\n%s", "\n".join(described), memory.describe())
    return MemoryFit(automations, memory)


def batches_per_step(options: TrainingOptions) -> int | None:
    """How many batches a step accumulates; None where that depends on the batch."""
    if options.train.effective_batch_size is not None:
        return None
    return options.datasets.train.accum_iter


class MemoryFit(Part):
    """Changes the sizes when the automations say so.

    Args:
        automations: decide.
        memory: is measured by the recipe, around every attempt at a phase.

    Attributes:
        moves: decisions so far.
        history: the curves so far, for the picture at the end.
    """

    name = "memory"

    def __init__(self, automations: Automations, memory: MemoryBackend) -> None:
        self.automations = automations
        self.memory = memory
        self.moves = 0
        self.history: list[dict[str, float]] = []
        self._reading: MemoryReading | None = None
        self._last_shape: Shape | None = None
        self._failures = 0
        self._searching = False
        self._memory_word = "memory"
        self._monitor: MemoryMonitor | None = None

    def start(self, run: Run) -> None:
        """Begin at the shape that the automations want, and have every attempt measured."""
        run.memory = self.memory
        if run.recipe.runtime.device.type != "cpu":
            self._memory_word = "VRAM"
        run.recipe.runner.memory = self.memory
        parts = self.automations.parts.values()
        run.recipe.runner.looks_at_noise = any(part.wants_noise for part in parts)
        run.stream.shape_of_batch = self.automations.shape_of_batch
        # A resumed run enters a shape that it knows, in a process that has not chosen its kernels:
        # cuDNN's searches take memory that no later step does.
        resumed = run.iteration > 0
        self._searching = resumed and run.recipe.runtime.device.type == "cuda"
        shape = self.automations.before_training(resumed=resumed)
        if shape is not None:
            run.recipe.recover_from_oom(shape.batch_size, shape.lq_size)
            log.info("begins with %s", shape)
        polls = max(part.polls_per_second for part in self.automations.parts.values())
        if polls:
            self._monitor = MemoryMonitor(self.memory, polls)
            self._monitor.start()

    def before_step(self, run: Run) -> None:
        """Take in what was seen of the memory since the last step."""
        if self._monitor is None:
            return
        decision = self.automations.watch(self._monitor.drain())
        if any(part.wants_memory_back for part in self.automations.parts.values()):
            gc.collect()
            self.memory.release()
            others = self.memory.others()
            log.warning("cached memory was given back%s", f"; {others}" if others else "")
        if decision is not None:
            self._carry_out(run, run.iteration, decision)

    def after_step(self, run: Run, result: StepResult) -> None:
        """Take in what the step took, and carry out what is decided for the next one."""
        self._last_shape = result.shape
        retries = result.retries
        self._failures = run.recipe.out_of_memory_total
        if retries:
            # What fitted after a failure is known to fit; what it took is not that of the shape
            # that was asked for, so it teaches nothing. Another phase may have fitted as it was.
            failed = max((retry.asked for retry in retries), key=Shape.pixels)
            fitted = min((retry.fitted for retry in retries), key=Shape.pixels)
            decision = self.automations.after_out_of_memory(failed, fitted)
        else:
            alignment = result.alignment
            shape = result.shape
            if alignment is None:
                self._reading = result.reading
            else:
                # The batch went through in two halves.
                shape = Shape(shape.lq_size, len(result.indices))
            settled = not self._searching
            rate = run.clock.shape_speed.rate
            report = StepReport(
                result.iteration,
                run.stream.stands_for(shape),
                # Of a step in two halves the peak is that of a half.
                self._reading,
                settled and alignment is None,
                rate,
                None if rate is None else result.pixels / rate,
                min(1.0, run.done / run.length.total),
                None if alignment is None else float(alignment),
            )
            decision = self.automations.after_step(report)
        self._searching = False
        is_eventful = decision is not None or bool(retries) or result.iteration <= FIRST
        if is_eventful or run.is_nth(run.options.logger.print_freq):
            self._remember(result)
        if decision is not None:
            self._carry_out(run, result.iteration, decision)

    def scalars(self) -> dict[str, float]:
        return self.automations.scalars() | self._measured()

    def status(self) -> str:
        return f"{self._memory_word} {self.used_pct:.1f} %"

    @property
    def used_pct(self) -> float:
        """Use of the memory at the peak of the last step that was measured."""
        return 0.0 if self._reading is None else 100 * self._reading.used_share

    def close(self, run: Run) -> None:
        """End the thread, and draw the curves so far; a full disk is only said."""
        if self._monitor is not None:
            self._monitor.stop()
        if not self.history:
            return
        try:
            path = picture_path(run.folders.root)
            save_vram_picture(
                path, self.history, f"{run.options.name} on {run.recipe.runtime.device}"
            )
        # Where the memory is short, the library that draws may not even be loaded.
        except (DiskError, ImportError, MemoryError) as error:
            log.warning("no picture of the memory: %s", first_line(error))

    def summary(self) -> Table | None:
        """What the run came to: sizes, use, what it took to get there."""
        if self._last_shape is None:
            return None
        target = self.automations.scalars().get("vram/target_pct", math.nan)
        arrivals = [
            point["iteration"]
            for point in self.history
            if abs(point.get("vram/used_pct", 0.0) - target) <= ARRIVED_PCT
        ]
        table = Table(title="memory", title_justify="left")
        cells = {
            "lq_size": str(self._last_shape.lq_size),
            "batch": str(self._last_shape.batch_size),
            "used": f"{self.used_pct:.1f} %",
            "target": "none" if math.isnan(target) else f"{target:.0f} %",
            "reached at": f"iteration {arrivals[0]:.0f}" if arrivals else "not yet",
            "moves": str(self.moves),
            "out of memory": str(self._failures),
        }
        for name in cells:
            table.add_column(name, justify="right")
        table.add_row(*cells.values())
        return table

    def state_dict(self) -> dict[str, Any]:
        return {
            "automations": self.automations.state_dict(),
            "history": self.history,
            "moves": self.moves,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = list(state["history"])
        self.moves = int(state["moves"])
        self.automations.load_state_dict(state["automations"])

    def _remember(self, result: StepResult) -> None:
        """Keep a point for the picture; where there are many, every other one of the older ones."""
        point = {
            "iteration": float(result.iteration),
            "lq_size": float(result.shape.lq_size),
            "batch_size": float(result.shape.batch_size),
            "dynamic/oom_total": float(self._failures),
        }
        self.history.append(point | self.scalars())
        if len(self.history) > MOST_POINTS:
            half = MOST_POINTS // 2
            self.history = self.history[:half:2] + self.history[half:]

    def _measured(self) -> dict[str, float]:
        if self._reading is None:
            return {}
        return {
            "vram/used_pct": self.used_pct,
            "vram/peak_allocated_gib": self._reading.allocated_peak / GIB,
            "vram/peak_reserved_gib": self._reading.reserved_peak / GIB,
            "vram/outside_gib": self._reading.outside / GIB,
        }

    def _carry_out(self, run: Run, iteration: int, decision: Decision) -> None:
        # Not what entered the network: after a shortage that is less than what was asked for.
        loader = run.stream.loader
        before = Shape(loader.lq_size, loader.batch_size)
        shape = decision.shape
        consequences = _what_changes(
            run.options,
            before.batch_size,
            shape.batch_size,
            loader.sampler.deal.total(shape.batch_size),
        )
        text = f"{before} -> {decision}{consequences}"
        log.info("%s", text)
        self.moves += 1
        run.tracker.text("dynamic/decisions", text, iteration)
        # Blocks of the former shape do not fit the next one; kept, they would count as used.
        self.memory.release()
        run.recipe.recover_from_oom(shape.batch_size, shape.lq_size)


def picture_path(root: Path) -> Path:
    """Where the picture of the memory is, below a run's folder."""
    return root / "memory.png"


def _what_changes(options: TrainingOptions, before: int, after: int, samples: int) -> str:
    """What another batch does to the samples of an iteration and to the learning rate.

    Args:
        options: of the run.
        before: the former batch.
        after: the next one.
        samples: that all processes have with it.
    """
    if before == after:
        return ""
    train = options.train
    data = options.datasets.train
    if train.effective_batch_size is not None:
        passes = ceil_div(train.effective_batch_size, samples)
        return (
            f"\n  still {train.effective_batch_size} samples an iteration, in {passes}; learning "
            "rate unchanged"
        )
    rate = "unchanged"
    if train.lr_scaling != "none":
        factor = learning_rate_scale(train.lr_scaling, samples / data.batch_size_per_gpu)
        rate = f"x {factor:.3g}"
    return (
        f"\n  {samples * data.accum_iter} samples an iteration, learning rate {rate} "
        f"(lr_scaling: {train.lr_scaling})"
    )
