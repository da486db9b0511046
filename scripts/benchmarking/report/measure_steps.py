"""Steps of training per second in every precision, layout, and compiled."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from scripts.benchmarking.realtime_fps import OUT_OF_MEMORY, PeakMemory, Variant, describe_failure
from scripts.benchmarking.report.results import Cell, Column
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.step_overhead import Setup, wait_for
from traiNNer.data import Batch
from traiNNer.models import SRModel
from traiNNer.models.graphed_forward import CALLS_UNTIL_SETTLED
from traiNNer.utils.device import Runtime, configure_backends, is_emulated
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import MIB

# Behind a variant's name: `use_cuda_graphs`.
GRAPHS = "-graphs"
# A common way to train, then one change after the other; what compiles takes longest to begin.
VARIANTS = (
    "fp32", "fp32-cl", "amp-bf16", "amp-bf16-cl", "amp-fp16-cl", "amp-fp16", "amp-bf16-cl-graphs",
    "amp-bf16-cl-compile",
)  # fmt: skip
CPU_VARIANTS = ("fp32", "fp32-cl", "amp-bf16")
GPU_SETUPS = (
    Setup("span", Shape(64, 16)),
    Setup("compact", Shape(64, 16)),
    Setup("swinir_s", Shape(64, 8)),
)
CPU_SETUPS = (Setup("compact", Shape(16, 2), {"num_feat": 16, "num_conv": 4}),)
# The first steps choose kernels and make the optimizer's state.
WARM_UP = 4
# Turns that the variants of a network take, so that a card that grows warm slows all of them.
ROUNDS = 3
ROUND_S = 0.8
CPU_ROUND_S = 0.2
# Seconds that compiling a network's step is given at least.
COMPILE_S = 20.0
COLUMNS = (
    Column("network", "network"),
    Column("shape", "lq_size x batch"),
    Column("variant", "variant"),
    Column("steps_per_s", "speed", "steps/s"),
    Column("ratio", "against fp32", digits=2),
    Column("peak_mib", "peak memory", "MiB", 0),
    Column("first_s", "first steps", "s"),
    Column("failure", "failure"),
)


@dataclass
class Contestant:
    """A recipe that takes steps."""

    recipe: SRModel
    batches: list[Batch]

    def steps(self, seconds: float, at_least: int = 1) -> float:
        """Seconds of a step, the mean over so many seconds."""
        device = self.recipe.runtime.device
        wait_for(device)
        start = time.perf_counter()
        count = 0
        while count < at_least or time.perf_counter() - start < seconds:
            self.recipe.step([self.batches[count % len(self.batches)]])
            count += 1
            # The host runs ahead of the device, and would hand over far more than fits the time.
            if count % 4 == 0:
                wait_for(device)
        wait_for(device)
        return (time.perf_counter() - start) / count

    def play(self) -> None:
        """The first steps."""
        has_graphs = self.recipe.runner.graph is not None
        self.steps(0.0, CALLS_UNTIL_SETTLED + 1 if has_graphs else WARM_UP)


def measure(task: Task) -> None:
    """Network by network; within one the variants take turns."""
    configure_backends(deterministic=False, fast_matmul=False)
    task.notebook.note(
        "fp32 has TensorFloat-32 in convolutions, which is torch's default, and not in matrix "
        "products (`fast_matmul`). `cl` is channels_last, `amp` mixed precision. Batches lie in "
        "main memory and are copied in every step; nothing is read from a disk."
    )
    table = task.notebook.table("steps", "steps of training, AdamW, L1", COLUMNS)
    setups = CPU_SETUPS if task.is_small else GPU_SETUPS
    names = CPU_VARIANTS if task.is_small else VARIANTS
    parsed = [replace(Variant.parse(name.removesuffix(GRAPHS)), name=name) for name in names]
    for number, setup in enumerate(setups):
        end = time.monotonic() + task.left_s / (len(setups) - number)
        variants = _choose(task, setup, parsed)
        if variants and task.has_time(setup.network):
            rows = _measure_network(task, setup, variants, end)
            for row in rows:
                task.notebook.add(table, **row)


def _choose(task: Task, setup: Setup, variants: list[Variant]) -> list[Variant]:
    """Without those that this device only emulates."""
    chosen: list[Variant] = []
    for variant in variants:
        if variant.amp and is_emulated(task.device, variant.dtype):
            task.notebook.missing(f"{setup.network} in {variant.name}: this CPU only emulates it")
        else:
            chosen.append(variant)
    return chosen


def _measure_network(
    task: Task, setup: Setup, variants: list[Variant], end: float
) -> list[dict[str, Cell]]:
    device = task.device
    times: dict[str, list[float]] = {variant.name: [] for variant in variants}
    facts: dict[str, dict[str, Cell]] = {variant.name: {} for variant in variants}
    peaks = PeakMemory(device)
    batches = setup.batches(pinned=device.type == "cuda")
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            for variant in variants:
                fact = facts[variant.name]
                if "failure" in fact or not _has_time(task, setup, variant, end, turn):
                    continue
                start = time.perf_counter()
                running: Contestant | None = None
                try:
                    running, peak = peaks.of(
                        lambda v=variant: _build(setup, Path(folder), device, v, batches)
                    )
                    fact["peak_mib"] = None if peak is None else peak / MIB
                    fact.setdefault("first_s", time.perf_counter() - start)
                    seconds = CPU_ROUND_S if task.is_small else ROUND_S
                    times[variant.name].append(running.steps(seconds))
                except (RuntimeError, MemoryError) as error:
                    failure = describe_failure(error)
                    fact["failure"] = failure
                    # A small card is no fault; the cell says it.
                    if failure != OUT_OF_MEMORY:
                        task.notebook.fault(f"{setup.network} in {variant.name} {failure}")
                running = None
                gc.collect()
    return _rows(setup, times, facts)


def _has_time(task: Task, setup: Setup, variant: Variant, end: float, turn: int) -> bool:
    """Later turns are left out in silence: they make a figure better, and nothing is missing."""
    left = min(end, task.end) - time.monotonic()
    needed = COMPILE_S if variant.compile and turn == 0 else 0.0
    if turn:
        return left > 0 and not variant.compile
    if left > needed:
        return True
    task.notebook.missing(f"{setup.network} in {variant.name}: the time was up")
    return False


def _build(
    setup: Setup, folder: Path, device: torch.device, variant: Variant, batches: list[Batch]
) -> Contestant:
    if variant.compile:
        torch.compiler.reset()
    amp_dtype = variant.dtype if variant.amp else None
    runtime = Runtime(device, amp_dtype, variant.channels_last, variant.compile)
    options = setup.options(folder)
    if variant.name.endswith(GRAPHS):
        options = options.model_copy(update={"use_cuda_graphs": "auto"})
    return Contestant(SRModel(options, runtime, setup.build()), batches)


def _rows(
    setup: Setup, times: dict[str, list[float]], facts: dict[str, dict[str, Cell]]
) -> list[dict[str, Cell]]:
    medians = {name: statistics.median(values) for name, values in times.items() if values}
    reference = medians.get("fp32")
    rows: list[dict[str, Cell]] = []
    for name, fact in facts.items():
        if not fact:
            continue
        row: dict[str, Cell] = {
            "network": setup.network,
            "shape": f"{setup.shape.lq_size} x {setup.shape.batch_size}",
            "variant": name,
        }
        if name in medians:
            row["steps_per_s"] = 1 / medians[name]
            row["ratio"] = None if reference is None else reference / medians[name]
        rows.append(row | fact)
    return rows
