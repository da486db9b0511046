#!/usr/bin/env python3
"""What training by several processes costs: a step of ours beside one of torch's
DistributedDataParallel, alternating in one run, and the share of it that goes to votes and sums.

Each process trains the same network on a batch of its own, with AdamW and L1: gloo on the CPU,
where all processes share the cores, nccl on GPUs.

    python scripts/benchmarking/ddp.py --processes 1 2 4
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.table import Table
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from scripts.benchmarking.step_overhead import Setup, bare_loop, framework_loop
from traiNNer.engine.launch import run_processes
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import Runtime, choose_device, configure_backends, describe_device
from traiNNer.utils.shape import Shape
from traiNNer.utils.team import Team, joined_team


class ToldTeam(Team):
    """Knows how long it has exchanged things."""

    seconds = 0.0

    def vote(self, *values: float, wants_end: bool = False) -> Any:
        return self._timed(lambda: super(ToldTeam, self).vote(*values, wants_end=wants_end))

    def average(self, bundles: Any, share: float) -> None:
        self._timed(lambda: super(ToldTeam, self).average(bundles, share))

    def _timed(self, action: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = action()
        self.seconds += time.perf_counter() - began
        return result


def measure(setup: Setup, rounds: int, device_option: str, out: Path) -> None:
    """In each process: the rounds, and the first one's figures in a file."""
    with joined_team() as joined:
        device = choose_device(0 if device_option == "cpu" else "auto", joined.local_rank)
        if device.type == "cpu":
            torch.set_num_threads(1)
        team = ToldTeam(joined.rank, joined.size, joined.local_rank, joined.local_size)
        team.open_sums(device)
        nccl = distributed.new_group(backend="nccl") if device.type == "cuda" else None
        runtime = Runtime(device, team=team)
        batches = setup.batches(pinned=device.type == "cuda")
        theirs: list[float] = []
        ours: list[float] = []
        exchanged: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            options = setup.options(Path(folder))
            for number in range(rounds + 1):
                network = setup.build().to(device).train()
                if not team.is_alone:
                    network = DistributedDataParallel(network, process_group=nccl)
                seconds = bare_loop(network, batches, setup.steps, device)
                network = setup.build().to(device).train()
                team.seconds = 0.0
                own = framework_loop(options, runtime, network, batches, fitted=False)
                if number:  # the first round warms up
                    theirs.append(1000 * seconds / setup.steps)
                    ours.append(1000 * own / setup.steps)
                    exchanged.append(team.seconds / own)
        team.close_sums()
        if joined.is_first:
            pairs = zip(ours, theirs, strict=True)
            figures = {
                "ddp": statistics.median(theirs),
                "ours": statistics.median(ours),
                "ratio": statistics.median(own / other for own, other in pairs),
                "exchanged": statistics.median(exchanged),
            }
            out.write_text(json.dumps(figures), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Measure each number of processes, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--network", default="span", help="name in the catalogue (default: span)")
    parser.add_argument("--lq_size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4, help="of each process (default: 4)")
    parser.add_argument("--steps", type=int, default=20, help="steps in a round (default: 20)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--figures", type=Path, help="write them there too, as JSON")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    setup = Setup(
        arguments.network, Shape(arguments.lq_size, arguments.batch), steps=arguments.steps
    )
    configure_backends(deterministic=False, fast_matmul=False)
    if arguments.out is not None:
        logging.disable()
        measure(setup, arguments.rounds, arguments.device, arguments.out)
        return 0
    table = Table(
        title=f"{arguments.network}, batch {arguments.batch} x {arguments.lq_size} px each, torch "
        f"{torch.__version__}, {describe_device(choose_device('auto'))}",
        title_justify="left",
    )
    for column in ("processes", "DDP ms", "ours ms", "ours / DDP", "votes and sums"):
        table.add_column(column, justify="right")
    code = 0
    all_figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.processes:
            out = Path(folder) / f"{count}.json"
            given = list(sys.argv[1:] if argv is None else argv)
            command = [sys.executable, str(Path(__file__).resolve()), *given, "--out", str(out)]
            code = code or run_processes(command, count)
            if not out.exists():
                continue
            figures = json.loads(out.read_text(encoding="utf-8"))
            all_figures[str(count)] = figures
            table.add_row(
                str(count),
                f"{figures['ddp']:.2f}",
                f"{figures['ours']:.2f}",
                f"{figures['ratio']:.3f}",
                f"{figures['exchanged']:.1%}",
            )
    print_table(table)
    if arguments.figures is not None:
        arguments.figures.write_text(json.dumps(all_figures), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
