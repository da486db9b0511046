#!/usr/bin/env python3
"""What training from ground truth alone is worth: the demo's network trained on its pairs (LQ by
bicubic shrinking), and on the same GT alone, LQ made while training: noisy and compressed in a
fifth of the samples, clean in the others. Both take the demo's length. Both are judged, beside
bicubic enlargement, on the validation photographs with LQ by bicubic shrinking, and with noise of 8
levels and JPEG at 60 besides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import yaml
from rich.table import Table

from traiNNer.archs.loading import load_model
from traiNNer.data import SingleGtDataset
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.engine.logs import print_table
from traiNNer.engine.report import BICUBIC, compare
from traiNNer.engine.scoring import build_metrics
from traiNNer.options.entries import MetricOptions
from traiNNer.utils.device import choose_device, describe_device

ROOT = Path(__file__).resolve().parents[2]
SCALE = 2
SHRUNK = {"type": "to_lq", "modes": ["bicubic"], "antialias": 1.0}
# Around what is judged, as one who knows roughly what LQ has seen would write it.
TRAINED = [
    SHRUNK,
    {
        "sequence": [
            {"type": "gaussian_noise", "sigma": [6, 10], "grey": 0.0},
            {"type": "jpeg", "quality": [50, 70], "shifted": 0.5},
        ],
        "prob": 0.2,
    },
]
JUDGED = {
    "bicubic LQ": [SHRUNK],
    "noisy JPEG LQ": [
        SHRUNK,
        {"type": "gaussian_noise", "sigma": 8, "grey": 0.0},
        {"type": "jpeg", "quality": 60},
    ],
}


def train(folder: Path, name: str, section: dict[str, Any], mpixels: float) -> tuple[Path, float]:
    """A run of the demo with another training set: its weights, and the seconds that it took."""
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text(encoding="utf-8"))
    options["name"] = name
    kept = ("lq_size", "batch_size_per_gpu", "dataset_enlarge_ratio")
    own = {key: options["datasets"]["train"][key] for key in kept}
    options["datasets"] = {"train": section | own}
    options["train"]["total_mpixels"] = mpixels
    options["val"] = {"val_enabled": False}
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), "-opt", str(path)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    models = folder / "experiments" / name / "models"
    return max(models.glob("net_g_ema_*"), key=lambda file: file.stat().st_mtime), seconds


def score(dataset: SingleGtDataset, weights: Path) -> tuple[float, float]:
    """PSNR in dB of bicubic enlargement and of the network."""
    network = load_model(weights).network.eval()
    metrics = build_metrics({"psnr": MetricOptions.model_validate({"type": "psnr"})}, SCALE)
    with torch.inference_mode():
        result = compare("val", dataset, {"network": network}, metrics)
    return result.results[BICUBIC].means["psnr"], result.results["network"].means["psnr"]


def main(argv: list[str] | None = None) -> int:
    """Train, judge and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mpixels", type=float, default=10.0, help="length of each run (default: the demo's)"
    )
    arguments = parser.parse_args(argv)
    table = Table(title=f"PSNR in dB, x{SCALE}, on {describe_device(choose_device('auto'))}")
    for column in ("trained on", *JUDGED, "seconds"):
        table.add_column(column, justify="left" if column == "trained on" else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "datasets" / "demo"
        make_demo_dataset(data)
        gt = str(data / "train" / "gt")
        pairs = {"dataroot_gt": gt, "dataroot_lq": str(data / "train" / "lq_x2")}
        alone = {"dataroot_gt": gt, "degradations": TRAINED}
        contestants = {
            "pairs": {"type": "PairedImageDataset"} | pairs,
            "GT alone": {"type": "SingleGtDataset"} | alone,
        }
        sets = {
            label: SingleGtDataset(SCALE, str(data / "val" / "gt"), degradations=recipe)
            for label, recipe in JUDGED.items()
        }
        for label, section in contestants.items():
            run = label.replace(" ", "_")
            weights, seconds = train(folder, run, section, arguments.mpixels)
            scores = {name: score(dataset, weights) for name, dataset in sets.items()}
            if not table.rows:
                table.add_row("bicubic", *(f"{both[0]:.2f}" for both in scores.values()), "")
            row = [f"{both[1]:.2f}" for both in scores.values()]
            table.add_row(label, *row, f"{seconds:.0f}")
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
