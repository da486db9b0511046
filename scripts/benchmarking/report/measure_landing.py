"""Where the memory automation lands: `train.py` with networks of four kinds on cards of several
sizes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from scripts.benchmarking.report.machine import Machine
from scripts.benchmarking.report.results import Column, Table
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.report.training_runs import NotBegunError, RunError, train
from scripts.benchmarking.vram_real import (
    NETWORKS,
    Kind,
    Landing,
    Settings,
    find_view,
    judge,
    make_options,
    make_pictures,
    write_options,
)
from traiNNer.utils.text import GIB

KINDS = ("plain conv", "stacked video", "window attention", "conv light")
LIMITS_GIB = (8.0, 12.0, 24.0)
# A run mostly arrives within 36 iterations; the rest shows that it stays.
GPU_SETTINGS = Settings("cuda", iterations=60, lq_size=64, batch=4)
# What a process holds before its first step is two thirds of so small a budget, and the rest is
# filled in seconds.
CPU_LIMITS_GIB = (1.2,)
CPU_KINDS = ("plain conv", "stacked video")
CPU_SETTINGS = Settings("cpu", iterations=40, lq_size=32, batch=4)
# Sides of the LQ pictures: patches end there, and batches begin to grow.
GPU_SIDE = 256
CPU_SIDE = 48
# Seconds of a run below which it is not begun: torch, CUDA and the reading processes start.
LEAST_S = 6.0
# A use this far from the target, in points of the memory, is no landing.
FAR_PCT = 5.0
COLUMNS = (
    Column("kind", "kind"),
    Column("network", "network"),
    Column("memory_gib", "memory", "GiB"),
    Column("from", "from lq_size x batch"),
    Column("to", "to lq_size x batch"),
    Column("used_pct", "used", "%"),
    Column("target_share_pct", "of the target", "%"),
    Column("driver_pct", "seen from outside", "%"),
    Column("allocated_gib", "peak of tensors", "GiB", 2),
    Column("reserved_gib", "peak of the allocator", "GiB", 2),
    Column("ooms", "out of memory"),
    Column("moves", "moves"),
    Column("iterations", "iterations to the band"),
    Column("error_p50_pct", "prediction error p50", "%"),
    Column("error_p95_pct", "p95", "%"),
    Column("samples_per_s", "speed", "samples/s"),
    Column("kernel_pct", "kernel's share of the CPU time", "%", 0),
)
ERROR_COLUMNS = (
    Column("of", "moves"),
    Column("count", "predictions"),
    Column("p50_pct", "p50", "%"),
    Column("p95_pct", "p95", "%"),
)


def measure(task: Task) -> None:
    """All runs, so that a report that is cut short has seen every kind and every size."""
    notebook = task.notebook
    limits = choose_limits(task.machine, notebook.missing)
    kinds = CPU_KINDS if task.is_small else KINDS
    settings = CPU_SETTINGS if task.is_small else GPU_SETTINGS
    flag = " --cpu" if task.is_small else ""
    notebook.command(f"python scripts/benchmarking/vram_real.py{flag}")
    table = notebook.table("landing", "where runs land", COLUMNS)
    errors = notebook.table("errors", "predicted against measured use", ERROR_COLUMNS)
    pairs = list(diagonal(kinds, limits))
    if find_view(task.machine) is None:
        notebook.missing("use seen from outside: no NVML (pip install nvidia-ml-py)")
    seen: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_pictures(folder, 16, CPU_SIDE if task.is_small else GPU_SIDE, settings.scale)
        for number, (name, limit) in enumerate(pairs):
            what = f"{NETWORKS[name].network} on {_size(limit)}"
            if not task.has_time(what, LEAST_S):
                continue
            # Fair shares would cut the slow ones; twice of it lets them end where others are quick.
            limit_s = min(task.left_s, 2 * task.left_s / (len(pairs) - number))
            try:
                landing = land(task, settings, NETWORKS[name], limit, folder, limit_s, table)
            except NotBegunError as error:
                notebook.missing(f"{what}: {error}")
                continue
            except RunError as error:
                notebook.fault(f"{what}: {error}")
                continue
            seen += landing.errors
            fill_errors(errors, seen)
            notebook.save()
            judge_landing(task, what, landing)


def land(
    task: Task,
    settings: Settings,
    kind: Kind,
    limit: float | None,
    folder: Path,
    limit_s: float,
    table: Table,
) -> Landing:
    """One run and its row.

    Raises:
        RunError: if it fails.
    """
    options = make_options(settings, kind, folder, limit, on=True)
    run = train(write_options(options, folder), find_view(task.machine), limit_s)
    total = limit * GIB if limit else task.machine.total_bytes
    landing = judge(run, total)
    label = next(name for name, one in NETWORKS.items() if one is kind)
    shares = [100 * error for _, error in landing.errors]
    task.notebook.add(
        table,
        kind=label,
        network=kind.network,
        memory_gib=total / GIB,
        **{"from": "{} x {}".format(*landing.start), "to": "{} x {}".format(*landing.end)},
        used_pct=landing.used,
        target_share_pct=100 * landing.used / landing.target,
        driver_pct=landing.driver,
        allocated_gib=landing.allocated_gib,
        reserved_gib=landing.reserved_gib,
        ooms=landing.ooms,
        moves=landing.moves,
        iterations=landing.arrived,
        error_p50_pct=float(np.percentile(shares, 50)) if shares else None,
        error_p95_pct=float(np.percentile(shares, 95)) if shares else None,
        samples_per_s=landing.samples_per_s,
        kernel_pct=100 * run.kernel_share,
    )
    if run.cut:
        task.notebook.missing(
            f"{kind.network} on {_size(limit)} was interrupted after {limit_s:.0f} s and "
            f"{len(run.curve('dynamic/lq_size'))} of {settings.iterations} iterations"
        )
    picture = run.folder / "memory.png"
    # The first run that draws one stands for all.
    target = task.folder.parent / "landing_run.png"
    if picture.is_file() and len(table.rows) == 1:
        shutil.copyfile(picture, target)
    return landing


def judge_landing(task: Task, what: str, landing: Landing) -> None:
    """Say what a reader should not have to find in the table."""
    if task.is_small:
        return
    if landing.used > landing.target + FAR_PCT:
        task.notebook.fault(
            f"{what} ended at {landing.used:.1f} %, above the target of {landing.target:.0f} %"
        )
    elif landing.used < landing.target - FAR_PCT:
        task.notebook.note(
            f"{what} ended at {landing.used:.1f} %: the bounds of images and network, too few "
            "iterations, or a fault; its log would tell."
        )


def choose_limits(machine: Machine, missing: Callable[[str], None]) -> list[float | None]:
    """Sizes of cards in GiB; None is the whole one. What is larger than the card is left out, which
    is said to `missing`.
    """
    if machine.kind != "cuda":
        return list(CPU_LIMITS_GIB)
    card = machine.total_bytes / GIB
    limits: list[float | None] = [limit for limit in LIMITS_GIB if limit < card]
    larger = [f"{limit:g}" for limit in LIMITS_GIB if limit >= card]
    if larger:
        missing(f"limits of {' and '.join(larger)} GiB: the card has {card:.1f} GiB")
    return [*limits, None]


def diagonal(
    kinds: Sequence[str], limits: Sequence[float | None]
) -> Iterator[tuple[str, float | None]]:
    """All pairs, in an order in which the first ones hold every kind and every limit."""
    for shift in range(len(limits)):
        for number, kind in enumerate(kinds):
            yield kind, limits[(number + shift) % len(limits)]


def fill_errors(table: Table, errors: list[tuple[int, float]]) -> None:
    """Percentiles over the moves of all runs so far."""
    table.rows.clear()
    late = [error for count, error in errors if count >= 4]
    for name, values in (("all", [error for _, error in errors]), ("after four shapes", late)):
        if values:
            p50, p95 = (100 * float(np.percentile(values, share)) for share in (50, 95))
            table.rows.append({"of": name, "count": len(values), "p50_pct": p50, "p95_pct": p95})


def _size(limit: float | None) -> str:
    return "the whole card" if limit is None else f"{limit:g} GiB"
