"""Between the loop and the automation that fits the run to the memory: measures steps, carries out
decisions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from traiNNer.automations import (
    Automation,
    CpuMemory,
    CudaMemory,
    Decision,
    MemoryBackend,
    MemoryReading,
    Shape,
    StepReport,
)
from traiNNer.data import Batch, DynamicDatasetWrapper
from traiNNer.engine.shape_bounds import elements_per_pixel, probe_size, shape_bounds
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.vram_picture import save_vram_picture
from traiNNer.models import BaseModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.arithmetic import ceil_div
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import DiskError
from traiNNer.utils.registry import AUTOMATIONS
from traiNNer.utils.text import GIB

log = logging.getLogger(__name__)
# Iterations of which each is a point of the picture: a run mostly arrives within them.
FIRST = 200
MOST_POINTS = 4000
# Per cent of the memory from the target within which a run has reached it.
ARRIVED_PCT = 3.0


def build_memory_fit(
    options: TrainingOptions, model: BaseModel, dataset: DynamicDatasetWrapper
) -> MemoryFit | None:
    """The automation that the options switch on and the memory it watches; None without one.

    Raises:
        OptionsError: for bounds that images or network cannot serve, or a limit that is out of its
            range.
    """
    active = options.training_automations.active
    if not active:
        if options.vram_limit_gib is not None:
            log.warning("vram_limit_gib has no effect: training_automations is not enabled")
        return None
    runtime = model.runtime
    train = options.datasets.train
    memory = open_memory(runtime, options.vram_limit_gib)
    if memory is None:
        log.warning(
            "the memory of %s cannot be watched: lq_size and batch stay as they are", runtime.device
        )
        return None
    name, parameters = next(iter(active.items()))
    elements = elements_per_pixel(
        model.network, torch.zeros(probe_size(options), device=runtime.device)
    )
    bounds = shape_bounds(options, dataset.largest_lq_size, elements)
    automation = AUTOMATIONS[name](
        bounds, Shape(train.lq_size, train.batch_size_per_gpu), memory.total, **parameters
    )
    log.info("%s: %s\n%s", name, automation.describe(), memory.describe())
    return MemoryFit(automation, memory, model)


def open_memory(runtime: Runtime, limit_gib: float | None) -> MemoryBackend | None:
    """The memory of the device that the run computes on; None for a device that does not tell.

    Raises:
        OptionsError: for a limit that is out of its range.
    """
    limit = None if limit_gib is None else int(limit_gib * 2**30)
    if runtime.device.type == "cuda":
        return CudaMemory(runtime.device, limit)
    return CpuMemory(limit) if runtime.device.type == "cpu" else None


@dataclass
class MemoryFit:
    """Measures every step and changes the sizes when the automation says so.

    Attributes:
        automation: decides.
        memory: is measured.
        model: trains, and knows what entered its network.
        tracker: takes the decisions as text, once training begins.
        reading: of the last step that was measured.
        moves: decisions so far.
        history: the curves so far, for the picture at the end.
    """

    automation: Automation
    memory: MemoryBackend
    model: BaseModel
    tracker: Tracker | None = None
    reading: MemoryReading | None = None
    moves: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def start(self, tracker: Tracker) -> None:
        """Begin at the shape that the automation wants."""
        self.tracker = tracker
        shape = self.automation.before_training()
        if shape is not None:
            self.model.recover_from_oom(shape.batch_size, shape.lq_size)
            log.info("begins with %s", shape)

    def before_step(self) -> None:
        """Forget the peaks before the step."""
        self.memory.start_window()

    def after_step(self, step: Sequence[Batch]) -> None:
        """Take in what the step took, and carry out what is decided for the next one."""
        model = self.model
        shape = Shape(model.received[-1], model.received[0])
        if model.out_of_memory_in_step:
            failed = Shape(step[0].lq_size, max(len(batch) for batch in step))
            decision = self.automation.after_out_of_memory(failed, shape)
        else:
            self.reading = self.memory.read()
            decision = self.automation.after_step(StepReport(model.iteration, shape, self.reading))
        if decision is not None or model.out_of_memory_in_step or model.iteration <= FIRST:
            self._remember()
        self._carry_out(decision)

    def scalars(self) -> dict[str, float]:
        """The curves of the memory at this iteration."""
        self._remember()
        return self.automation.scalars() | self._measured()

    def _remember(self) -> None:
        """Keep a point for the picture; of many, every other one of the older ones."""
        if self.history and self.history[-1]["iteration"] == self.model.iteration:
            return
        received = {
            "lq_size": float(self.model.received[-1]),
            "batch_size": float(self.model.received[0]),
        }
        point = {"iteration": float(self.model.iteration)} | received
        self.history.append(point | self.automation.scalars() | self._measured())
        if len(self.history) > MOST_POINTS:
            self.history = self.history[: MOST_POINTS // 2 : 2] + self.history[MOST_POINTS // 2 :]

    @property
    def used_pct(self) -> float:
        """Use of the memory at the peak of the last step that was measured."""
        return 0.0 if self.reading is None else 100 * self.reading.used_share

    def _measured(self) -> dict[str, float]:
        if self.reading is None:
            return {}
        return {
            "vram/used_pct": self.used_pct,
            "vram/peak_allocated_gib": self.reading.allocated_peak / GIB,
            "vram/peak_reserved_gib": self.reading.reserved_peak / GIB,
            "vram/outside_gib": self.reading.outside / GIB,
        }

    def _carry_out(self, decision: Decision | None) -> None:
        if decision is None:
            return
        shape = decision.shape
        before = Shape(self.model.received[-1], self.model.received[0])
        text = f"{before} -> {decision}{self._what_changes(before.batch_size, shape.batch_size)}"
        log.info("%s", text)
        self.moves += 1
        if self.tracker is not None:
            self.tracker.text("dynamic/decisions", text, self.model.iteration)
        self.memory.release()
        self.model.recover_from_oom(shape.batch_size, shape.lq_size)

    def _what_changes(self, before: int, after: int) -> str:
        """What another batch does to the samples of an iteration and to the learning rate."""
        train = self.model.options.train
        data = self.model.options.datasets.train
        if before == after:
            return ""
        if train.effective_batch_size is not None:
            passes = ceil_div(train.effective_batch_size, after)
            return f"; still {train.effective_batch_size} samples an iteration, in {passes}; learning rate unchanged"
        ratio = after / data.batch_size_per_gpu
        factor = {"none": 1.0, "sqrt": ratio**0.5, "linear": ratio}[train.lr_scaling]
        rate = "unchanged" if train.lr_scaling == "none" else f"x {factor:.3g}"
        return f"; {after * data.accum_iter} samples an iteration, learning rate {rate} (lr_scaling: {train.lr_scaling})"

    def save_picture(self, path: Path, title: str) -> None:
        """Draw the curves so far as PNG; a full disk is only said."""
        if not self.history:
            return
        try:
            save_vram_picture(path, self.history, title)
        except DiskError as error:
            log.warning("no picture of the memory: %s", error)

    def table(self) -> Table:
        """What the run came to: sizes, use, what it took to get there."""
        points = self.history
        received = self.model.received
        target = self.automation.scalars().get("vram/target_pct", math.nan)
        arrived = [
            p["iteration"]
            for p in points
            if abs(p.get("vram/used_pct", 0.0) - target) <= ARRIVED_PCT
        ]
        table = Table(title="memory", title_justify="left")
        for name in ("lq_size", "batch", "used", "target", "reached at", "moves", "out of memory"):
            table.add_column(name, justify="right")
        table.add_row(
            str(received[-1]), str(received[0]), f"{self.used_pct:.1f} %", f"{target:.0f} %",
            f"iteration {arrived[0]:.0f}" if arrived else "not yet", str(self.moves),
            str(self.model.out_of_memory_total),
        )  # fmt: skip
        return table

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "automation": self.automation.state_dict(),
            "history": self.history,
            "moves": self.moves,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.history = list(state["history"])
        self.moves = int(state["moves"])
        self.automation.load_state_dict(state["automation"])
