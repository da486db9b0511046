#!/usr/bin/env python3
"""What several sizes of each patch cost a step: memory and time, as ratios to the largest alone.

python scripts/benchmarking/multi_scale.py

The memory is counted from tensors without content (as scripts/plan_vram.py does), so it is that of
any machine. The time is the best of steps that are made in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.table import Table

from traiNNer.engine.logs import print_table
from traiNNer.models import SRModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import StepTracker, planned_batch
from traiNNer.utils.device import Runtime, choose_device
from traiNNer.utils.shape import Shape

SCALES = (32, 64, 96)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="realplksr_s", help="name of the network")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES, help="sides in LQ pixels")
    parser.add_argument("--batch", type=int, default=2, help="patches in a step")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each kind")
    return parser.parse_args(argv)


def options_of(arguments: argparse.Namespace, scales: list[int], train: dict[str, Any]) -> Any:
    """Options of a step; `scales` of one size trains that alone."""
    data = {
        "type": "PairedImageDataset",
        "dataroot_gt": "gt",
        "dataroot_lq": "lq",
        "lq_size": max(scales),
        "batch_size_per_gpu": arguments.batch,
    }
    if len(scales) > 1:
        data["scales"] = scales
    return TrainingOptions.model_validate(
        {
            "name": "scales",
            "scale": 2,
            "network_g": {"type": arguments.network},
            "datasets": {"train": data},
            "train": {
                "total_iter": 1000,
                "optim_g": {"type": "AdamW", "lr": 1e-4},
                "losses": [{"type": "l1"}],
                **train,
            },
        }
    )


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    arguments = parse_arguments(argv)
    scales = list(arguments.scales)
    kinds = {
        "the largest size alone": options_of(arguments, [max(scales)], {}),
        "all sizes, each alone": options_of(arguments, scales, {}),
        "consistency, recomputed": options_of(
            arguments, scales, {"scale_consistency": {"recompute": True}}
        ),
        "consistency, all at once": options_of(
            arguments, scales, {"scale_consistency": {"recompute": False}}
        ),
    }
    shape = Shape(max(scales), arguments.batch)
    peaks = {name: StepTracker(options).track(shape).peak for name, options in kinds.items()}
    seconds = times(kinds, shape, arguments.rounds)
    table = Table(title=f"{arguments.network} at {scales}, {arguments.batch} patches a step")
    for column in ("step", "peak memory", "time"):
        table.add_column(column, justify="left" if column == "step" else "right")
    first = next(iter(kinds))
    for name in kinds:
        memory = f"{peaks[name] / peaks[first]:.2f}"
        table.add_row(name, memory, f"{seconds[name] / seconds[first]:.2f}")
    print_table(table)
    return 0


def times(kinds: dict[str, TrainingOptions], shape: Shape, rounds: int) -> dict[str, float]:
    """The best time of a step of each kind, made in turn."""
    runtime = Runtime(choose_device("auto"))
    recipes: dict[str, SRModel] = {}
    for name, options in kinds.items():
        torch.manual_seed(0)
        recipes[name] = SRModel(options, runtime, SRModel.build_network(options))
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(rounds + 1):
        for name, recipe in recipes.items():
            batch = planned_batch(kinds[name], shape)
            start = time.perf_counter()
            recipe.step([batch])
            recipe.flush_checks()  # waits for the device
            best[name] = min(best[name], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    sys.exit(main())
