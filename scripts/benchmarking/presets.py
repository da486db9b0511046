#!/usr/bin/env python3
"""Whether growth serves the presets: each as it stands beside the same with the options' sizes that
stay, in the same time, on small data and a small network of its kind.

Data are the demo's photographs and films; GT alone is enough, as LQ is made of it, as the preset
says or by bicubic interpolation. Networks have few channels and blocks, the warm-up is the first
twentieth of the run, and the moving average that of its last twentieth. Nothing else should run on
the machine, unless the time is modelled (`modelled_time.py`):

    python scripts/benchmarking/presets.py --seconds 40
    python scripts/benchmarking/presets.py --idle 0.1 --steps 600
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import yaml
from rich.table import Table

from scripts.benchmarking.progressive import Curve, add_modelled_time, trained
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.demo.video import make_demo_video
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.text import plural

ROOT = Path(__file__).resolve().parents[2]
# Small networks of the presets' kinds; those against a discriminator are left out, whose PSNR tells
# nothing, and finetune, which needs weights.
NETWORKS: dict[str, dict[str, Any]] = {
    "realtime": {"feature_channels": 16},
    "photo": {"dim": 16, "n_blocks": 4},
    "anime": {"num_filters": 8, "num_blocks": 2},
    "anime_otf": {"num_filters": 8, "num_blocks": 2},
    "denoise": {
        "width": 8,
        "middle_blk_num": 1,
        "enc_blk_nums": [1, 1, 1, 1],
        "dec_blk_nums": [1, 1, 1, 1],
    },
    "stream": {"feature_channels": 16},
    "stream_otf": {"feature_channels": 16},
}
# What `denoise` takes away, in place of pairs.
NOISE = [{"type": "gaussian_noise", "sigma": [15, 25]}]
# The photographs are small.
LARGEST = 64
# On a machine of two cores: of the process, most of which is torch itself.
LIMIT_GIB = 1.5
# Validations of a run.
POINTS = 4


def options_of(
    preset: str, data: Path, seconds: float, seed: int, *, grows: bool
) -> dict[str, Any]:
    """The preset on small data, for so long."""
    path = ROOT / "options" / f"{preset}.yml"
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    is_clips = "clips" in own["extends"]
    kind = "SingleGtVideoDataset" if is_clips else "SingleGtDataset"
    folder = data / ("video" if is_clips else "photographs")
    datasets: dict[str, Any] = {}
    for part in ("train", "val"):
        section: dict[str, Any] = {"type": kind, "dataroot_gt": str(folder / part / "gt")}
        if part == "train":
            section |= {"lq_size": 32, "batch_size_per_gpu": 8}
        if is_clips:
            section |= {"clip_size": 5} | ({"target": "center"} if part == "train" else {})
        if preset == "denoise":
            section["degradations"] = NOISE
        datasets[part] = section | own.get("datasets", {}).get(part, {})
    hours = seconds / 3600
    automation = own["training_automations"]["DynamicBatchAndPatchSizeOptimizer"]
    return {
        "extends": str(ROOT / "options" / "base" / "train.yml"),
        "name": re.sub(r"\W+", "_", f"{preset} {grows} {seed}"),
        "scale": own["scale"],
        "manual_seed": seed,
        "num_gpu": "auto",
        "vram_limit_gib": LIMIT_GIB,
        "datasets": datasets,
        "network_g": own["network_g"] | NETWORKS[preset],
        "training_automations": {
            "enabled": grows,
            "DynamicBatchAndPatchSizeOptimizer": automation | {"max_lq_size": LARGEST},
        },
        "train": own.get("train", {})
        | {
            "total_mpixels": None,
            "total_hours": hours,
            "warmup_iter": 0,
            "warmup": hours / 20,
            "ema_half_life": hours / 20,
        },
        "val": {"val_freq": hours / POINTS, "metrics": {"psnr": {"type": "psnr"}}},
        "logger": {"print_freq": 10, "save_checkpoint_freq": hours * 2},
    }


def mean_and_error(gains: list[float]) -> str:
    """The mean of the seeds' gains and, of two or more, its standard error.

    Two runs that differ by rounding alone end some tenths of a dB apart: one seed tells nothing.
    """
    mean = f"{statistics.mean(gains):+.2f}"
    if len(gains) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(gains) / math.sqrt(len(gains)):.2f}"


def main(argv: list[str] | None = None) -> int:
    """Train all of them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="of each run (default: 40)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    add_modelled_time(parser)
    arguments = parser.parse_args(argv)
    machine = describe_device(choose_device("auto"))
    if arguments.idle is not None:
        machine = f"modelled for {arguments.steps} steps, idle {arguments.idle:g}"
    table = Table(
        title=f"presets at the demo's size, {arguments.seconds:g} s, "
        f"{plural(len(arguments.seeds), 'seed')}, {machine}",
        title_justify="left",
    )
    columns = ("preset", "sizes that stay", "iterations", "PSNR", "grown to", "iterations", "PSNR")
    for column in (*columns, "gain"):
        table.add_column(column, justify="left" if column == "preset" else "right")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_demo_dataset(folder / "photographs")
        make_demo_video(folder / "video")
        for preset in arguments.only:
            ends: dict[bool, list[Curve]] = {False: [], True: []}
            for seed in arguments.seeds:
                for grows, curves in ends.items():
                    options = options_of(preset, folder, arguments.seconds, seed, grows=grows)
                    train = options["datasets"]["train"]
                    pixels = 32**2 * 8 * train.get("clip_size", 1)
                    curves.append(trained(folder, options, pixels, arguments))
            gains = [
                grown.psnr[-1] - stayed.psnr[-1]
                for stayed, grown in zip(ends[False], ends[True], strict=True)
            ]
            cells = [preset]
            for curves in ends.values():
                mean = statistics.mean(curve.psnr[-1] for curve in curves)
                cells += [curves[0].last, f"{curves[0].iterations:,}", f"{mean:.2f}"]
            cells.append(mean_and_error(gains))
            table.add_row(*cells)
            print(*cells, file=sys.stderr)
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
