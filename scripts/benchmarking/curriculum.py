#!/usr/bin/env python3
"""What a curriculum is worth: PSNR over samples with all pictures alike, and with the easy ones
first, on the demo's photographs with as many flat pictures mixed in.

    python scripts/benchmarking/curriculum.py

Each contestant is `train.py` as a user starts it, with the demo's network and sizes that stay, once
for each seed. The table has the mean of the seeds, and how far they are from each other.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import yaml
from rich.table import Table

from traiNNer.data.shrinking import shrink
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.images import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
SECTION = {"start": 0.3, "until": 0.5, "floor": 4}
CONTESTANTS: dict[str, dict[str, Any] | None] = {
    "all alike": None,
    "curriculum: loss": SECTION | {"difficulty": "loss"},
    "curriculum: texture": SECTION | {"difficulty": "texture"},
    "curriculum: loss, temperature 0.2": SECTION | {"difficulty": "loss", "temperature": 0.2},
}
# Validations of a run; the table has some of them.
POINTS = 8
SHOWN = (2, 4, 8)
# Standard deviation in pixels of what is left of a photograph in a flat picture.
FLAT = 25.0


def make_data(folder: Path) -> None:
    """The demo's pictures, and of each for training a blurred one."""
    make_demo_dataset(folder)
    for path in sorted((folder / "train" / "gt").glob("*.png")):
        flat = cv2.GaussianBlur(read_image(path), (0, 0), FLAT).astype(np.uint8)
        height, width = (side // 2 * 2 for side in flat.shape[:2])
        flat = np.ascontiguousarray(flat[:height, :width])
        name = f"flat_{path.name}"
        write_image(folder / "train" / "gt" / name, flat)
        write_image(folder / "train" / "lq_x2" / name, shrink(flat, 2, "bicubic"))


def train(folder: Path, name: str, seed: int, mpixels: float) -> list[float]:
    """PSNR at each validation of a run."""
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text(encoding="utf-8"))
    options["name"] = re.sub(r"\W+", "_", f"{name}_{seed}")
    options["manual_seed"] = seed
    options["training_automations"] = {"enabled": False}
    del options["vram_limit_gib"]
    section = CONTESTANTS[name]
    if section is not None:
        options["datasets"]["train"]["curriculum"] = section
    # The demo's own folders would be made anew.
    for part, kind in (("train", "gt"), ("train", "lq"), ("val", "gt"), ("val", "lq")):
        inner = "lq_x2" if kind == "lq" else kind
        options["datasets"][part][f"dataroot_{kind}"] = str(folder / "data" / part / inner)
    options["train"]["total_mpixels"] = mpixels
    options["val"] = {"val_freq": mpixels / POINTS}
    options["logger"] = {"print_freq": 1000, "save_checkpoint_freq": mpixels}
    path = folder / f"{options['name']}.yml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    command = [sys.executable, str(ROOT / "train.py"), "-opt", str(path)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    log = folder / "experiments" / options["name"] / "log" / "train.log"
    return [float(value) for value in re.findall(r"psnr ([\d.]+) dB, ssim", log.read_text())]


def main(argv: list[str] | None = None) -> int:
    """Train all of them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mpixels", type=float, default=10.0, help="length of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each contestant")
    arguments = parser.parse_args(argv)
    device = describe_device(choose_device("auto"))
    table = Table(
        title=f"{arguments.mpixels:g} megapixels of LQ, {arguments.seeds} seeds, {device}"
    )
    table.add_column("order")
    for place in SHOWN:
        table.add_column(f"PSNR at {place / POINTS:.0%}", justify="right")
    table.add_column("spread at the end", justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder / "data")
        for contestant in CONTESTANTS:
            curves = [
                train(folder, contestant, seed, arguments.mpixels)
                for seed in range(arguments.seeds)
            ]
            means = [statistics.fmean(curve[place - 1] for curve in curves) for place in SHOWN]
            ends = [curve[-1] for curve in curves]
            cells = [f"{mean:.2f}" for mean in means]
            table.add_row(contestant, *cells, f"{max(ends) - min(ends):.2f}")
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
