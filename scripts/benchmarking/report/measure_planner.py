"""What the planner says of a step's memory, against the step itself."""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scripts.benchmarking.report.measure_landing import (
    CPU_KINDS,
    CPU_SIDE,
    GPU_SIDE,
    KINDS,
)
from scripts.benchmarking.report.outside import resident_view
from scripts.benchmarking.report.results import Cell, Column, read_findings
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.step_overhead import Setup, wait_for
from scripts.benchmarking.vram_real import NETWORKS
from traiNNer.automations import CudaMemory
from traiNNer.automations.cuda_memory import ASSUMED_CONTEXT_BYTES
from traiNNer.models import SRModel
from traiNNer.planning.planner import Images, plan_card, plan_memory
from traiNNer.planning.step_memory import FixedBytes, StepTracker
from traiNNer.utils.device import Runtime, configure_backends
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import GIB, MIB

GPU_SHAPES = (Shape(64, 8), Shape(128, 8), Shape(256, 4))
CPU_SHAPES = (Shape(32, 4), Shape(48, 8))
# The first step at a shape chooses its kernels, which takes memory that no later one does.
WARM_UP = 2
# An estimate that is so far below the truth, in per cent, would name shapes that do not fit.
FAR_PCT = 15.0
# Seconds below which no network's plan for cards is begun.
PLAN_S = 4.0
STEP_COLUMNS = (
    Column("network", "network"),
    Column("shape", "lq_size x batch"),
    Column("planned_mib", "planned", "MiB", 0),
    Column("measured_mib", "measured", "MiB", 0),
    Column("error_pct", "error of the plan", "%"),
)
CARD_COLUMNS = (
    Column("network", "network"),
    Column("memory_gib", "memory", "GiB"),
    Column("planned", "planned lq_size x batch"),
    Column("landed", "landed at"),
    Column("planned_pct", "planned use", "%"),
    Column("used_pct", "measured use", "%"),
    Column("ratio", "pixels of a batch, landed / planned", digits=2),
)


@dataclass(frozen=True)
class Model:
    """A network to plan for."""

    setup: Setup
    side: int


def measure(task: Task) -> None:
    """Single steps first; then the shapes for whole cards, against where runs landed."""
    configure_backends(deterministic=False, fast_matmul=False)
    task.notebook.command("python scripts/plan_vram.py -opt FILE --vram 8 12 24")
    context_bytes = ASSUMED_CONTEXT_BYTES
    if task.is_small:
        # This process has imported what a training does, and made no step yet.
        context_bytes = round(resident_view(os.getpid())[0])
        task.notebook.note(
            "On a CPU it is torch's allocator that is asked, by its profiler. A process that has "
            "imported torch stands for CUDA's context; what it keeps of its first steps is not "
            "planned, so runs land below the planned shapes."
        )
    models = [_model(name, small=task.is_small) for name in (CPU_KINDS if task.is_small else KINDS)]
    _measure_steps(task, models)
    _measure_cards(task, models, context_bytes)


def _model(name: str, *, small: bool) -> Model:
    kind = NETWORKS[name]
    parameters = kind.on_cpu if small else kind.on_gpu
    setup = Setup(kind.network, Shape(16, 1), parameters, frames=kind.frames)
    return Model(setup, CPU_SIDE if small else GPU_SIDE)


def _measure_steps(task: Task, models: list[Model]) -> None:
    table = task.notebook.table("planner", "a step of training, fp32, AdamW", STEP_COLUMNS)
    shapes = CPU_SHAPES if task.is_small else GPU_SHAPES
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            tracker = StepTracker(model.setup.options(Path(folder)))
            for shape in shapes:
                what = f"{model.setup.network} at {shape}"
                if not task.has_time(what):
                    continue
                planned = tracker.track(shape).peak
                setup = replace(model.setup, shape=shape)
                try:
                    measured = step_peak(setup, Path(folder), task.device, tracker.fixed)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    task.notebook.missing(f"{what}: the step does not fit this device")
                    continue
                error_pct = 100 * (planned / measured - 1)
                cells: dict[str, Cell] = {
                    "network": setup.network,
                    "shape": f"{shape.lq_size} x {shape.batch_size}",
                    "planned_mib": planned / MIB,
                    "measured_mib": measured / MIB,
                    "error_pct": error_pct,
                }
                task.notebook.add(table, **cells)
                if error_pct < -FAR_PCT and not task.is_small:
                    task.notebook.fault(
                        f"{what} takes {measured / MIB:,.0f} MiB, and the planner said "
                        f"{planned / MIB:,.0f}"
                    )


def step_peak(setup: Setup, folder: Path, device: torch.device, fixed: FixedBytes) -> int:
    """Bytes that tensors take at the peak of a real step."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    recipe = SRModel(setup.options(folder), Runtime(device), setup.build())
    batches = setup.batches(1)
    for _ in range(WARM_UP):
        recipe.step(batches)
    if device.type == "cuda":
        memory = CudaMemory(device)
        recipe.runner.memory = memory
        recipe.step(batches)
        wait_for(device)
        return memory.read().allocated_peak
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        recipe.step(batches)
    return fixed.total + _growth(profiler)


def _growth(profiler: Any) -> int:
    """The most bytes that were allocated and not freed since the profiler began."""
    events = profiler.profiler.kineto_results.events()
    memory = [event for event in events if event.name() == "[memory]"]
    memory.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in memory), initial=0))


def _measure_cards(task: Task, models: list[Model], context_bytes: int) -> None:
    table = task.notebook.table(
        "cards", "the shape for a card, planned and landed at", CARD_COLUMNS
    )
    landed = _landings(task)
    if not landed:
        task.notebook.missing("planned shapes against landings: no landing was measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            network = model.setup.network
            sizes = [size for name, size in landed if name == network]
            if not sizes or not task.has_time(f"the plan for {network}", PLAN_S):
                continue
            plan = plan_memory(model.setup.options(Path(folder)), Images(model.side))
            for size in sizes:
                if not task.has_time(f"the plan for {network} on {size:.1f} GiB"):
                    continue
                card = plan_card(plan, round(size * GIB), context_bytes=context_bytes)
                row = landed[network, size]
                planned = card.shape
                ratio = None
                if planned is not None:
                    side, batch = (int(number) for number in str(row["to"]).split(" x "))
                    ratio = Shape(side, batch).pixels() / planned.pixels()
                task.notebook.add(
                    table,
                    network=network,
                    memory_gib=size,
                    planned="-" if planned is None else f"{planned.lq_size} x {planned.batch_size}",
                    landed=row["to"],
                    planned_pct=100 * card.share,
                    used_pct=row["used_pct"],
                    ratio=ratio,
                )


def _landings(task: Task) -> dict[tuple[str, float], dict[str, Cell]]:
    """Rows of the landing, where that item was measured before, by network and memory."""
    tables = read_findings(task.folder / "landing.json").tables
    rows = next((table.rows for table in tables if table.name == "landing"), [])
    return {(str(row["network"]), float(row["memory_gib"] or 0)): row for row in rows}
