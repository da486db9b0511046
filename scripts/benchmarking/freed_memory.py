#!/usr/bin/env python3
"""What it costs a CPU's training to give freed memory back: steps a second, the kernel's share of
the processor time, and how much a step takes, with blocks that are given back when they are freed,
with blocks that are kept until a trim (as the memory automation has it), and with what the C
library does by itself.

Each is a process of its own, and they take turns. Linux with glibc alone has these settings.

    python scripts/benchmarking/freed_memory.py --network span_s --lq_size 96 --batch 8
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

# As train.py sets them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.table import Table

from traiNNer.archs import build_network
from traiNNer.automations import CpuMemory
from traiNNer.automations.cpu_memory import LinuxProbe
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.text import GIB, MIB

MODES = ("given back", "kept", "glibc")
# Steps at the beginning that are not measured: kernels are chosen in them.
WARM_UP = 10


class Untouched(LinuxProbe):
    """Leaves the C library as it is."""

    def trim(self) -> None:
        """Not even that."""

    def keep_blocks(self, largest: int) -> None:
        """Nor this."""


class Returning(LinuxProbe):
    """Has all but small blocks given back when they are freed."""

    def trim(self) -> None:
        """Nothing is left for that."""

    def keep_blocks(self, largest: int) -> None:  # noqa: ARG002
        """None of them."""
        super().keep_blocks(0)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Train for so many seconds with one way of dealing with freed memory."""
    probes = {"given back": Returning, "kept": LinuxProbe, "glibc": Untouched}
    torch.manual_seed(0)
    network = build_network(arguments.network, scale=2)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    side = arguments.lq_size
    lq = torch.rand(arguments.batch, 3, side, side)
    gt = torch.rand(arguments.batch, 3, 2 * side, 2 * side)
    memory = CpuMemory(round(arguments.gib * GIB), probes[arguments.mode]())

    def step() -> int:
        memory.start_window()
        optimizer.zero_grad()
        (network(lq) - gt).abs().mean().backward()
        optimizer.step()
        return memory.read().reserved_peak

    for _ in range(WARM_UP):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    peaks: list[int] = []
    while time.perf_counter() - begin < arguments.seconds:
        peaks.append(step())
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    kernel = after.ru_stime - before.ru_stime
    return {
        "speed": len(peaks) / seconds,
        "kernel": 100 * kernel / (kernel + after.ru_utime - before.ru_utime),
        "least": min(peaks) / MIB,
        "most": max(peaks) / MIB,
    }


def main(argv: list[str] | None = None) -> int:
    """Measure the three by turns and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="span_s")
    parser.add_argument("--lq_size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--gib", type=float, default=4.0, help="the budget (default: 4)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round (default: 8)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.mode:
        print(json.dumps(measure(arguments)))
        return 0
    given = sys.argv[1:] if argv is None else argv
    rounds: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(arguments.rounds):
        for mode, results in rounds.items():
            command = [sys.executable, __file__, *given, "--mode", mode]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append(json.loads(output))
    table = Table(
        title=f"{arguments.network} 2x at {arguments.lq_size} px x {arguments.batch}, "
        f"{arguments.gib:g} GiB, {describe_device(choose_device('auto'))}",
        title_justify="left",
    )
    for column in ("freed memory is", "steps/s", "kernel, %", "peaks, MiB"):
        table.add_column(column, justify="left" if column.startswith("freed") else "right")
    for mode, results in rounds.items():
        speed, kernel, least, most = (
            statistics.median(result[name] for result in results)
            for name in ("speed", "kernel", "least", "most")
        )
        table.add_row(mode, f"{speed:.2f}", f"{kernel:.0f}", f"{least:,.0f} to {most:,.0f}")
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
