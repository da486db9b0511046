"""What training by several processes costs, where there are several cards, beside torch's way."""

from __future__ import annotations

import json
import sys

import torch

from scripts.benchmarking.report.machine import ROOT
from scripts.benchmarking.report.processes import Command
from scripts.benchmarking.report.results import Column
from scripts.benchmarking.report.task import Task

# Below this, processes have hardly begun.
LEAST_S = 15.0
COLUMNS = (
    Column("processes", "processes"),
    Column("ddp", "DistributedDataParallel", "ms a step"),
    Column("ours", "ours", "ms a step"),
    Column("ratio", "ours / DDP", digits=3),
    Column("exchanged", "votes and sums", "of a step", 3),
)


def measure(task: Task) -> None:
    """Two processes, and as many as there are cards."""
    notebook = task.notebook
    cards = torch.cuda.device_count()
    if not task.is_small and cards < 2:
        notebook.missing("several processes: this machine has one card")
        return
    numbers = [2] if task.is_small else sorted({2, cards})
    size = ["--batch", "1", "--lq_size", "16", "--steps", "3", "--rounds", "2"]
    given = [*size, "--device", "cpu"] if task.is_small else ["--batch", "16", "--lq_size", "64"]
    script = "scripts/benchmarking/ddp.py"
    notebook.command(f"python {script} --processes {' '.join(map(str, numbers))} {' '.join(given)}")
    table = notebook.table("processes", "SPAN 2x by several processes", COLUMNS)
    for number in numbers:
        if not task.has_time(f"{number} processes", LEAST_S):
            continue
        out = task.folder / f"processes_{number}.json"
        words = ["--processes", str(number), *given, "--figures", str(out)]
        command = Command([sys.executable, str(ROOT / script), *words], own_group=True)
        limit_s = task.left_s
        ending = command.wait(limit_s)
        if not out.exists():
            notebook.fault(f"{number} processes {ending.describe(limit_s)}")
            continue
        figures = json.loads(out.read_text(encoding="utf-8"))
        notebook.add(table, processes=number, **figures[str(number)])
