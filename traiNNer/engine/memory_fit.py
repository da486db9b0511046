"""Between the loop and the automation that fits the run to the memory: measures steps, carries out decisions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

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
from traiNNer.automations.memory import GIB
from traiNNer.data import Batch, DynamicDatasetWrapper
from traiNNer.engine.shape_bounds import elements_per_pixel, probe_size, shape_bounds
from traiNNer.engine.tracker import Tracker
from traiNNer.models import BaseModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS

log = logging.getLogger(__name__)


def build_automation(
    options: TrainingOptions, model: BaseModel, dataset: DynamicDatasetWrapper
) -> tuple[Automation, MemoryBackend] | None:
    """The automation that the options switch on and the memory it watches; None without one.

    Raises:
        OptionsError: for bounds that images or network cannot serve, or a device whose memory cannot be watched.
    """
    active = options.training_automations.active
    if not active:
        if options.vram_limit_gib is not None:
            log.warning("vram_limit_gib has no effect: training_automations is not enabled")
        return None
    runtime, train = model.runtime, options.datasets.train
    memory = open_memory(runtime, options.vram_limit_gib)
    name, parameters = next(iter(active.items()))
    elements = elements_per_pixel(model.network, torch.zeros(probe_size(options), device=runtime.device))
    bounds = shape_bounds(options, dataset.largest_lq_size, elements)
    automation = AUTOMATIONS[name](bounds, Shape(train.lq_size, train.batch_size_per_gpu), memory.total, **parameters)
    log.info("%s: %s\n%s", name, automation.describe(), memory.describe())
    return automation, memory


def open_memory(runtime: Runtime, limit_gib: float | None) -> MemoryBackend:
    """The memory of the device that the run computes on.

    Raises:
        OptionsError: for a device whose memory cannot be watched, or a limit that is out of its range.
    """
    limit = None if limit_gib is None else int(limit_gib * 2**30)
    if runtime.device.type == "cuda":
        return CudaMemory(runtime.device, limit)
    if runtime.device.type == "cpu":
        return CpuMemory(limit)
    raise OptionsError(f"training_automations: the memory of {runtime.device} cannot be watched; set enabled: false")


@dataclass
class MemoryFit:
    """Measures every step and changes the sizes when the automation says so.

    Attributes:
        automation: decides.
        memory: is measured.
        model: trains, and knows what entered its network.
        tracker: takes the decisions as text.
        reading: of the last step that was measured.
        history: the curves so far, for the picture at the end.
    """

    automation: Automation
    memory: MemoryBackend
    model: BaseModel
    tracker: Tracker
    reading: MemoryReading | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def start(self) -> None:
        """Begin at the shape that the automation wants."""
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
        if model.out_of_memory_in_step:
            failed = Shape(step[0].lq_size, max(len(batch) for batch in step))
            fitted = Shape(model.received[-1], model.received[0])
            self._carry_out(self.automation.after_out_of_memory(failed, fitted))
            return
        reading = self.memory.read()
        self.reading = reading
        shape = Shape(model.received[-1], model.received[0])
        self._carry_out(self.automation.after_step(StepReport(model.iteration, shape, reading)))

    def note(self, lq_size: int, batch_size: int) -> dict[str, float]:
        """The curves of the memory at this iteration; they are kept for the picture at the end as well."""
        scalars = self.automation.scalars() | self._measured()
        point = {"iteration": float(self.model.iteration), "lq_size": float(lq_size), "batch_size": float(batch_size)}
        self.history.append(point | scalars)
        return scalars

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
        self.tracker.text("dynamic/decisions", text, self.model.iteration)
        self.memory.release()
        self.model.recover_from_oom(shape.batch_size, shape.lq_size)

    def _what_changes(self, before: int, after: int) -> str:
        """What another batch does to the samples of an iteration and to the learning rate."""
        train, data = self.model.options.train, self.model.options.datasets.train
        if before == after:
            return ""
        if train.effective_batch_size is not None:
            passes = -(-train.effective_batch_size // after)
            return f"; still {train.effective_batch_size} samples an iteration, in {passes}; learning rate unchanged"
        ratio = after / data.batch_size_per_gpu
        factor = {"none": 1.0, "sqrt": ratio**0.5, "linear": ratio}[train.lr_scaling]
        rate = "unchanged" if train.lr_scaling == "none" else f"x {factor:.3g}"
        return (
            f"; {after * data.accum_iter} samples an iteration, learning rate {rate} (lr_scaling: {train.lr_scaling})"
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.automation.state_dict()
