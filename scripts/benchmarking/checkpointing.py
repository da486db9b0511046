#!/usr/bin/env python3
"""What gradient checkpointing saves and costs: memory and time of a step with it, as ratios to the
step without.

    python scripts/benchmarking/checkpointing.py

The memory is counted from tensors without content (as scripts/plan_vram.py does), so it is that of
any machine. The time is the best of steps that are made in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.table import Table

from traiNNer.archs.checkpointing import find_blocks
from traiNNer.engine.logs import print_table
from traiNNer.models import SRModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import StepTracker, planned_batch
from traiNNer.utils.device import Runtime, choose_device, describe_device
from traiNNer.utils.shape import Shape

NETWORKS = ("span", "realplksr_s", "realplksr", "esrgan", "swinir_s", "nafnet")


def options_of(network: str, scale: int, *, again: bool) -> TrainingOptions:
    """Options of a step."""
    data = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
    return TrainingOptions.model_validate(
        {
            "name": "checkpointing",
            "scale": scale,
            "use_checkpointing": again,
            "network_g": {"type": network},
            "datasets": {"train": data},
            "train": {
                "total_iter": 1000,
                "optim_g": {"type": "AdamW", "lr": 1e-4},
                "losses": [{"type": "l1"}],
            },
        }
    )


def times(kinds: list[TrainingOptions], shape: Shape, rounds: int) -> list[float]:
    """The best time of a step of each kind, made in turn."""
    runtime = Runtime(choose_device("auto"))
    recipes = [SRModel(options, runtime, SRModel.build_network(options)) for options in kinds]
    best = [float("inf")] * len(kinds)
    for _ in range(rounds + 1):
        for number, recipe in enumerate(recipes):
            batch = planned_batch(kinds[number], shape)
            start = time.perf_counter()
            recipe.step([batch])
            recipe.flush_checks()  # waits for the device
            best[number] = min(best[number], time.perf_counter() - start)
    return best


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="names of the networks")
    parser.add_argument("--lq_size", type=int, default=48, help="side in LQ pixels")
    parser.add_argument("--batch", type=int, default=2, help="patches in a step")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each kind")
    arguments = parser.parse_args(argv)
    shape = Shape(arguments.lq_size, arguments.batch)
    device = describe_device(choose_device("auto"))
    table = Table(title=f"{arguments.batch} patches of {arguments.lq_size} px, {device}")
    for column in ("network", "blocks", "peak memory", "time"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for network in arguments.networks:
        scale = 1 if network == "nafnet" else 2
        kinds = [options_of(network, scale, again=again) for again in (False, True)]
        before, after = (StepTracker(options).track(shape).peak for options in kinds)
        torch.manual_seed(0)
        plain, again = times(kinds, shape, arguments.rounds)
        blocks = len(find_blocks(SRModel.build_network(kinds[0])))
        table.add_row(network, str(blocks), f"{after / before:.2f}", f"{again / plain:.2f}")
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
