"""What the host does in a step: handing work over, the loop around it, and being ready to go
back.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from scripts.benchmarking.report.results import Column
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.step_overhead import Setup, alternate, ratio_of, wait_for
from traiNNer.engine.logs import setup_logging
from traiNNer.models import SRModel
from traiNNer.models.rewind import Rewind
from traiNNer.utils.device import Runtime, configure_backends
from traiNNer.utils.shape import Shape

# A round is as long as the distance between two reports, so that one report is in each.
GPU_SETUPS = (
    Setup("span", Shape(64, 8), steps=100),
    Setup("swinir_s", Shape(64, 4), steps=100),
    Setup("compact", Shape(64, 8), steps=100),
    Setup("esrgan", Shape(64, 4), steps=100),
)
CPU_SETUPS = (Setup("compact", Shape(16, 2), {"num_feat": 16, "num_conv": 4}, steps=10),)
WARM_UP = 5
STEPS = 20
# A mark takes microseconds to milliseconds.
MARKS = 100
ROUNDS = 9
CPU_ROUNDS = 2
HOST_COLUMNS = (
    Column("network", "network"),
    Column("shape", "lq_size x batch"),
    Column("step_ms", "a step", "ms", 2),
    Column("host_ms", "the host's part", "ms", 2),
    Column("host_pct", "of the step", "%"),
    Column("rewind_us", "Rewind.mark", "us"),
    Column("rewind_pct", "of the step", "%", 2),
)
LOOP_COLUMNS = (
    Column("network", "network"),
    Column("shape", "lq_size x batch"),
    Column("bare_ms", "bare loop", "ms a step", 2),
    Column("framework_ms", "framework", "ms a step", 2),
    Column("automation_ms", "with automation", "ms a step", 2),
    Column("framework_ratio", "framework / bare", digits=3),
    Column("automation_ratio", "automation / framework", digits=3),
    Column("rounds", "rounds"),
)


def measure(task: Task) -> None:
    """The host's part of single steps first, then the loops against each other."""
    configure_backends(deterministic=False, fast_matmul=False)
    setup_logging()
    setups = CPU_SETUPS if task.is_small else GPU_SETUPS
    _measure_host(task, setups)
    _measure_loops(task, setups)


def _measure_host(task: Task, setups: tuple[Setup, ...]) -> None:
    notebook = task.notebook
    notebook.note(
        "The host's part is the time until it has handed a step over, the device idle before: near "
        "100 % the card waits for the host. On a CPU host and device are one."
    )
    table = notebook.table("host", "the host's part of a step, fp32", HOST_COLUMNS)
    for setup in setups:
        if not task.has_time(f"the host's part of a step of {setup.network}"):
            continue
        host_s, step_s, mark_s = time_steps(setup, task)
        notebook.add(
            table,
            network=setup.network,
            shape=f"{setup.shape.lq_size} x {setup.shape.batch_size}",
            step_ms=1000 * step_s,
            host_ms=1000 * host_s,
            host_pct=100 * host_s / step_s,
            rewind_us=1e6 * mark_s,
            rewind_pct=100 * mark_s / step_s,
        )


def time_steps(setup: Setup, task: Task) -> tuple[float, float, float]:
    """Medians in seconds: (until a step is handed over, until it is done, a mark of `Rewind`)."""
    device = task.device
    batches = setup.batches(1, pinned=device.type == "cuda")
    with tempfile.TemporaryDirectory() as folder:
        recipe = SRModel(setup.options(Path(folder)), Runtime(device), setup.build())
        hosts: list[float] = []
        steps: list[float] = []
        for number in range(WARM_UP + STEPS):
            wait_for(device)
            start = time.perf_counter()
            recipe.step(batches)
            handed_over = time.perf_counter()
            wait_for(device)
            if number >= WARM_UP:
                hosts.append(handed_over - start)
                steps.append(time.perf_counter() - start)
        rewind = Rewind(recipe.networks.passed_through, device)
        rewind.mark()
        marks: list[float] = []
        for _ in range(MARKS):
            wait_for(device)
            start = time.perf_counter()
            rewind.mark()
            marks.append(time.perf_counter() - start)
    return statistics.median(hosts), statistics.median(steps), statistics.median(marks)


def _measure_loops(task: Task, setups: tuple[Setup, ...]) -> None:
    table = task.notebook.table("loops", "the loop against a bare one", LOOP_COLUMNS)
    for number, setup in enumerate(setups):
        flag = " --cpu" if task.is_small else ""
        if not task.has_time(f"the loops with {setup.network}", 1.0):
            continue
        task.notebook.command(
            f"python scripts/benchmarking/step_overhead.py{flag} --network {setup.network} "
            f"--lq_size {setup.shape.lq_size} --batch {setup.shape.batch_size} "
            f"--steps {setup.steps}"
        )
        end = time.monotonic() + task.left_s / (len(setups) - number)
        rounds = CPU_ROUNDS if task.is_small else ROUNDS
        times = alternate(setup, Runtime(task.device), rounds, end)
        task.notebook.add(
            table,
            network=setup.network,
            shape=f"{setup.shape.lq_size} x {setup.shape.batch_size}",
            bare_ms=statistics.median(times["bare"]),
            framework_ms=statistics.median(times["framework"]),
            automation_ms=statistics.median(times["automation"]),
            framework_ratio=ratio_of(times, "framework", "bare"),
            automation_ratio=ratio_of(times, "automation", "framework"),
            rounds=len(times["bare"]),
        )
