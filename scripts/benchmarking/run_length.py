#!/usr/bin/env python3
"""Whether a run takes the time it was given: the same work with sizes that stay and with sizes that
grow, one after the other.

Each contestant is `train.py` as a user starts it, on the demo's photographs made small by 4 in each
direction, with the demo's options but for the network (span), the scale and the length: the
megapixels of so many iterations of 8 patches of 32 px. The memory is that of a newcomer, which is
to say half of what is available. Told are the seconds from the first step to the last, what the run
ended with, and the mean PSNR of the validation.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import yaml
from rich.table import Table

from traiNNer.demo.photographs import make_demo_dataset, shrink
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.images import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
SCALE = 4
STAY = {"enabled": False}
CONTESTANTS = {
    "sizes stay": STAY,
    "grow at once": {"enabled": True, "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once"}},
    "grow by a ramp": {"enabled": True, "DynamicBatchAndPatchSizeOptimizer": {"pace": "ramp"}},
    "grow as measured": {"enabled": True},
}
LINE = re.compile(r"^(\S+ \S+) INFO: (\d+) \(\S+ Mpx\)  .*?(lq_size \d+  batch \d+)", re.M)


def make_data(folder: Path) -> None:
    """The demo's photographs in pairs of scale 4."""
    make_demo_dataset(folder / "demo")
    for part in ("train", "val"):
        for path in sorted((folder / "demo" / part / "gt").glob("*.png")):
            gt = read_image(path)
            height = gt.shape[0] // SCALE * SCALE
            width = gt.shape[1] // SCALE * SCALE
            gt = gt[:height, :width]
            write_image(folder / part / "gt" / path.name, gt)
            write_image(folder / part / "lq" / path.name, shrink(gt, SCALE))


def train(folder: Path, name: str, iterations: int, automations: dict[str, object]) -> list[str]:
    """One contestant; the cells of its row."""
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text(encoding="utf-8"))
    del options["vram_limit_gib"]
    options |= {"name": name, "scale": SCALE, "network_g": {"type": "span"}}
    options["training_automations"] = automations
    for part in ("train", "val"):
        for kind in ("gt", "lq"):
            options["datasets"][part][f"dataroot_{kind}"] = str(folder / part / kind)
    options["train"] |= {"total_mpixels": iterations * 8 * 32**2 / 1e6, "warmup_iter": 0}
    options["train"]["ema_half_life"] = options["train"]["total_mpixels"] / 10
    options["val"] |= {"val_freq": 1e6, "compare_bicubic": False}
    options["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 1e6}
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    command = [sys.executable, str(ROOT / "train.py"), "-opt", str(path)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    log = (folder / "experiments" / name / "log" / "train.log").read_text(encoding="utf-8")
    lines = LINE.findall(log)
    times = [datetime.fromisoformat(time.replace(",", ".")) for time, _, _ in lines]
    seconds = (times[-1] - times[0]).total_seconds()
    psnr = re.findall(r"psnr ([\d.]+) dB", log)[-1]
    return [f"{seconds:.1f}", lines[-1][1], lines[-1][2], psnr]


def main() -> int:
    """Run all of them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=30, help="of the fixed run")
    arguments = parser.parse_args()
    table = Table(title=f"span x4 on {describe_device(choose_device('auto'))}")
    for column in ("", "seconds", "iterations", "last", "psnr dB"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        for label, automations in CONTESTANTS.items():
            row = train(folder, label.replace(" ", "_"), arguments.iterations, automations)
            table.add_row(label, *row)
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
