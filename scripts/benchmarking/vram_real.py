#!/usr/bin/env python3
"""Trains networks of different kinds with the memory automation on, on the memory that is really
there, and reports.

Each run is `train.py` as a user starts it, in a process of its own, on pictures that this script
makes. What the run says of itself is read from its log and its TensorBoard curves; "driver" is what
somebody else sees of that process while it stands at its last shape: its resident memory on a CPU,
NVML's figure on a GPU. `before` is the same run with the automation off, at the lq_size and batch
of the options. The error of a prediction is that of a move's predicted use against the use measured
at the new shape, for moves after four measured shapes (in brackets: the largest of all moves).
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import psutil
import torch
import yaml
from rich.console import Console
from rich.table import Table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.images import write_image
from traiNNer.utils.text import GIB

ROOT = Path(__file__).resolve().parents[2]
# Kind: network, its parameters on a GPU and on a CPU (where a step of the full one takes a minute).
NETWORKS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "conv light": ("span", {}, {}),
    "conv heavy": ("esrgan", {}, {"num_filters": 32, "num_blocks": 3}),
    "window attention": ("swinir_s", {}, {}),
    "large kernels": ("realplksr", {}, {"dim": 32, "n_blocks": 6}),
}
MOVE = re.compile(
    r"^(\S+ \S+) INFO: lq_size (\d+), batch (\d+) -> lq_size (\d+), batch (\d+): "
    r"predicted ([\d.]+)%",
    re.M,
)

STEP = re.compile(r"^(\S+ \S+) INFO: \d+/\d+  ", re.M)


@dataclass
class Watcher:
    """Looks from outside at what a process holds."""

    pid: int
    device: torch.device
    seen: list[tuple[float, float]] = field(default_factory=list)  # (time, bytes)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        look = self._resident if self.device.type == "cpu" else self._nvml()
        while not self._end.wait(0.01):
            try:
                self.seen.append((time.time(), look()))
            except psutil.Error:
                return

    def _resident(self) -> float:
        return psutil.Process(self.pid).memory_info().rss

    def _nvml(self) -> Any:
        import pynvml  # pyright: ignore[reportMissingImports] (optional)

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(self.device.index or 0)
        return lambda: float(pynvml.nvmlDeviceGetMemoryInfo(handle).used)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def peak_between(self, first: float, last: float) -> float:
        """Most bytes held between two times."""
        return max((size for when, size in self.seen if first <= when <= last), default=math.nan)


def make_pictures(folder: Path, count: int, side: int, scale: int) -> None:
    """Pairs of noise with structure: decoding takes as long as a photograph's."""
    chance = np.random.default_rng(0)
    for number in range(count):
        coarse = chance.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        lq = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        lq = np.clip(lq.astype(np.int16) + chance.integers(-8, 9, lq.shape), 0, 255).astype(
            np.uint8
        )
        write_image(folder / "lq" / f"{number}.png", lq)
        write_image(
            folder / "gt" / f"{number}.png", np.kron(lq, np.ones((scale, scale, 1), np.uint8))
        )


def options_of(
    arguments: argparse.Namespace, kind: str, folder: Path, limit: float | None, *, on: bool
) -> Path:
    """The YAML file of a run."""
    name, on_gpu, on_cpu = NETWORKS[kind]
    gpu = arguments.device.type != "cpu"
    automation = {"enabled": True, "DynamicBatchAndPatchSizeOptimizer": {"enabled": True}}
    data = {
        "type": "PairedImageDataset",
        "dataroot_gt": str(folder / "gt"),
        "dataroot_lq": str(folder / "lq"),
    }
    data |= {
        "lq_size": arguments.lq_size,
        "batch_size_per_gpu": arguments.batch,
        "dataset_enlarge_ratio": 100,
    }
    iterations = arguments.iterations if on else max(10, arguments.iterations // 5)
    options = {
        "name": f"{name}_{limit or 'whole'}_{'on' if on else 'off'}",
        "scale": arguments.scale,
        "num_gpu": "auto" if gpu else 0,
        "use_amp": arguments.amp,
        "datasets": {"train": data},
        "network_g": {"type": name} | (on_gpu if gpu else on_cpu),
        "path": {"experiments_root": str(folder / "runs"), "tb_root": str(folder / "tb")},
        "train": {
            "total_iter": iterations,
            "optim_g": {"type": "AdamW", "lr": 1e-4},
            "losses": [{"type": "l1"}],
        },
        "val": {"val_enabled": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 10**6},
    }
    if on:
        options |= {"training_automations": automation, "vram_limit_gib": limit}
    path = folder / f"{options['name']}.yml"
    path.write_text(yaml.safe_dump(options))
    return path


def run(path: Path, device: torch.device) -> tuple[str, dict[str, list[float]], Watcher]:
    """Train; (log, curves by tag, what was seen from outside)."""
    options = yaml.safe_load(path.read_text())
    command = [sys.executable, str(ROOT / "train.py"), "-opt", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )
    watcher = Watcher(process.pid, device)
    output, _ = process.communicate()
    watcher.stop()
    if process.returncode:
        raise RuntimeError(f"{path.name} ended with {process.returncode}:\n{output[-2000:]}")
    log = (
        Path(options["path"]["experiments_root"]) / options["name"] / "log" / "train.log"
    ).read_text()
    folder = Path(options["path"]["tb_root"]) / options["name"]
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    # Every iteration is a point; before a tag's first one there is nothing to tell.
    curves = {
        tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]
    }
    steps = curves["dynamic/lq_size"]
    return (
        log,
        {tag: [curve.get(step, math.nan) for step in steps] for tag, curve in curves.items()},
        watcher,
    )


def seconds(stamp: str) -> float:
    """The time of a line of the log."""
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007


def judge(
    log: str, curves: dict[str, list[float]], watcher: Watcher, total: float
) -> dict[str, Any]:
    """What a run with the automation came to."""
    used = curves["vram/used_pct"]
    sides = curves["dynamic/lq_size"]
    batches = curves["dynamic/batch_size"]
    speed = curves["speed/samples_per_s"]
    shapes = list(zip(sides, batches, strict=True))
    errors: list[tuple[int, float]] = []
    known: set[tuple[float, float]] = set()
    moves = MOVE.findall(log)
    for _, *sizes, predicted in moves:
        before = tuple(map(float, sizes[:2]))
        after = tuple(map(float, sizes[2:]))
        known.add((before[0], before[1]))
        measured = [u for u, shape in zip(used, shapes, strict=True) if shape == after]
        if measured and float(predicted):
            errors.append((len(known), abs(float(predicted) / measured[-1] - 1)))
    arrived = next((i for i, share in enumerate(used) if 82 <= share <= 87), None)
    last = seconds(moves[-1][0]) if moves else 0.0
    late = [error for count, error in errors if count >= 4]
    here = [i for i, shape in enumerate(shapes) if shape == shapes[-1]][1:]
    return {
        "start": shapes[0],
        "end": shapes[-1],
        "moves": len(moves),
        "arrived": arrived,
        "used": used[-1],
        "driver": 100 * watcher.peak_between(last, seconds(STEP.findall(log)[-1])) / total,
        "late": max(late, default=math.nan),
        "worst": max((error for _, error in errors), default=math.nan),
        "ooms": int(curves["dynamic/oom_total"][-1]),
        "samples": sum(speed[i] for i in here) / max(1, len(here)),
        "pixels": sum(curves["speed/lq_mpixels_per_s"][i] for i in here) / max(1, len(here)),
    }


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--limits", type=float, nargs="*", help="vram_limit_gib of the runs; 0 is the whole card"
    )
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--iterations", type=int, default=70)
    parser.add_argument("--lq-size", type=int, default=48, help="of the options")
    parser.add_argument("--batch", type=int, default=4, help="of the options")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--side", type=int, default=256, help="of the LQ pictures, in pixels")
    parser.add_argument("--amp", action="store_true", help="bf16")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args(argv)
    arguments.device = choose_device(0 if arguments.cpu else "auto")
    if arguments.limits is None:
        arguments.limits = [1.5] if arguments.device.type == "cpu" else [8, 12, 24, 0]
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console = Console(width=200)
    console.print(
        f"{describe_device(arguments.device)}, torch {torch.__version__}; {' '.join(sys.argv)}"
    )
    table = Table()
    for column in (
        "kind",
        "network",
        "GiB",
        "from",
        "to",
        "moves",
        "iterations",
        "used %",
        "driver %",
        "prediction error %",
        "OOMs",
        "samples/s",
        "LQ Mpx/s",
    ):
        table.add_column(column, justify="left" if column in ("kind", "network") else "right")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_pictures(folder, arguments.pictures, arguments.side, arguments.scale)
        for kind in arguments.networks:
            _, before, _ = run(
                options_of(arguments, kind, folder, None, on=False), arguments.device
            )
            steps = slice(len(before["speed/samples_per_s"]) // 3, None)
            slow, slow_px = (
                float(np.median(before[tag][steps]))
                for tag in ("speed/samples_per_s", "speed/lq_mpixels_per_s")
            )
            for limit in arguments.limits:
                log, curves, watcher = run(
                    options_of(arguments, kind, folder, limit or None, on=True), arguments.device
                )
                whole = (
                    torch.cuda.mem_get_info()[1]
                    if arguments.device.type == "cuda"
                    else psutil.virtual_memory().total
                )
                total = limit * GIB if limit else whole
                outcome = judge(log, curves, watcher, total)
                table.add_row(
                    kind,
                    NETWORKS[kind][0],
                    f"{total / GIB:.1f}",
                    "{:.0f} x {:.0f}".format(*outcome["start"]),
                    "{:.0f} x {:.0f}".format(*outcome["end"]),
                    str(outcome["moves"]),
                    "-" if outcome["arrived"] is None else str(outcome["arrived"] + 1),
                    f"{outcome['used']:.1f}",
                    f"{outcome['driver']:.1f}",
                    f"{100 * outcome['late']:.1f} ({100 * outcome['worst']:.1f})",
                    str(outcome["ooms"]),
                    f"{slow:.1f} -> {outcome['samples']:.1f}",
                    f"{slow_px:.3f} -> {outcome['pixels']:.3f}",
                )
                console.print(f"{kind}: {outcome}", highlight=False)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
