#!/usr/bin/env python3
"""Trains networks of different kinds with the memory automation on, on the memory that is really
there, and reports.

Each run is `train.py` as a user starts it, in a process of its own, on pictures that this script
makes. What the run says of itself is read from its log and its TensorBoard curves; "driver" is what
somebody else sees of that process while it stands at its last shape: its resident memory on a CPU,
what NVML counts more than before the run on a GPU. The run before the arrow is the same with the
automation off, at the lq_size and batch of the options. The error of a prediction is that of a
move's predicted use against the use measured at the new shape, for moves after four measured shapes
(in brackets: the largest of all moves). "Kernel" is the share of the processor time that the system
took for itself, of the run and its reading processes together.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from scripts.benchmarking.report.machine import Machine, MachineError, ask
from scripts.benchmarking.report.outside import View, card_view, resident_view
from scripts.benchmarking.report.training_runs import (
    MOVE,
    STEP,
    RunError,
    TrainingRun,
    options_with_automation,
    seconds_of,
    train,
)
from traiNNer.utils.images import write_image
from traiNNer.utils.text import GIB

# Frames of a scene that is made for networks that take clips.
SCENE = 8
# Per cent of the memory within which a run has arrived: the target is 85.
BAND = (82.0, 87.0)


@dataclass(frozen=True)
class Kind:
    """A network that stands for others.

    Attributes:
        network: its name.
        on_gpu: its parameters there.
        on_cpu: its parameters there, where a step of the full one takes a minute.
        frames: of a clip; 0 for a network of images.
    """

    network: str
    on_gpu: dict[str, Any] = field(default_factory=dict)
    on_cpu: dict[str, Any] = field(default_factory=dict)
    frames: int = 0


STACK = {"arch": "span_s", "frames": 5}
NETWORKS = {
    "plain conv": Kind("compact", {}, {"num_feat": 16, "num_conv": 4}),
    "conv light": Kind("span"),
    "conv heavy": Kind("esrgan", {}, {"num_filters": 32, "num_blocks": 3}),
    "window attention": Kind("swinir_s"),
    "large kernels": Kind("realplksr", {}, {"dim": 32, "n_blocks": 6}),
    "stacked video": Kind("temporal_stack", STACK, STACK, frames=5),
}


@dataclass(frozen=True)
class Settings:
    """What the runs share.

    Attributes:
        kind_of_device: cuda or cpu.
        iterations: of a run with the automation.
        lq_size: of the options.
        batch: of the options.
        scale: of the networks.
        amp: bf16.
    """

    kind_of_device: str
    iterations: int = 70
    lq_size: int = 48
    batch: int = 4
    scale: int = 2
    amp: bool = False


@dataclass(frozen=True)
class Landing:
    """What a run with the automation came to.

    Attributes:
        start: its first lq_size and batch.
        end: its last lq_size and batch.
        moves: changes of shape.
        arrived: the first iteration within the band; None for never.
        used: per cent of the memory at the last step, as the run says.
        target: per cent that were aimed at.
        driver: per cent of the memory at the peak of the last shape, as somebody else saw it.
        reserved_gib: the most that torch's allocator held at the last step.
        allocated_gib: the most that tensors took in it.
        errors: of each move's prediction, as a share; with the number of shapes known by then.
        ooms: times that memory ran out.
        samples_per_s: at the last shape.
        mpixels_per_s: LQ pixels at the last shape.
    """

    start: tuple[int, int]
    end: tuple[int, int]
    moves: int
    arrived: int | None
    used: float
    target: float
    driver: float
    reserved_gib: float
    allocated_gib: float
    errors: tuple[tuple[int, float], ...]
    ooms: int
    samples_per_s: float
    mpixels_per_s: float

    @property
    def late_error(self) -> float:
        """The largest error after four shapes."""
        return max((error for count, error in self.errors if count >= 4), default=math.nan)

    @property
    def worst_error(self) -> float:
        """The largest error of all."""
        return max((error for _, error in self.errors), default=math.nan)


def make_pictures(folder: Path, count: int, side: int, scale: int) -> None:
    """Pairs of noise with structure: decoding takes as long as a photograph's. They lie in `gt` and
    `lq`, and once more as scenes in `scenes`.
    """
    chance = np.random.default_rng(0)
    for number in range(count):
        coarse = chance.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        noise = chance.integers(-8, 9, (side // 8 * 8, side // 8 * 8, 3))
        smooth = np.kron(coarse, np.ones((8, 8, 1), np.uint8)).astype(np.int16)
        lq = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        gt = np.kron(lq, np.ones((scale, scale, 1), np.uint8))
        for part, picture in (("lq", lq), ("gt", gt)):
            write_image(folder / part / f"{number}.png", picture)
            scene = folder / "scenes" / part / str(number // SCENE)
            write_image(scene / f"{number % SCENE:03}.png", picture)


def make_options(
    settings: Settings, kind: Kind, folder: Path, limit_gib: float | None, *, on: bool
) -> dict[str, Any]:
    """The options of a run on the pictures in a folder."""
    gpu = settings.kind_of_device != "cpu"
    root = folder / "scenes" if kind.frames else folder
    data: dict[str, Any] = {
        "type": "PairedVideoDataset" if kind.frames else "PairedImageDataset",
        "dataroot_gt": str(root / "gt"),
        "dataroot_lq": str(root / "lq"),
        "lq_size": settings.lq_size,
        "batch_size_per_gpu": settings.batch,
        "dataset_enlarge_ratio": 100,
    }
    if kind.frames:
        data |= {"clip_size": kind.frames, "target": "center"}
    # Without the automation nothing has to be found: a fifth tells how fast it is.
    iterations = settings.iterations if on else max(10, settings.iterations // 5)
    options: dict[str, Any] = {
        "name": f"{kind.network}_{limit_gib or 'whole'}_{'on' if on else 'off'}",
        "scale": settings.scale,
        "num_gpu": "auto" if gpu else 0,
        "use_amp": settings.amp,
        "datasets": {"train": data},
        "network_g": {"type": kind.network} | (kind.on_gpu if gpu else kind.on_cpu),
        "path": {"experiments_root": str(folder / "runs"), "tb_root": str(folder / "tb")},
        "train": {
            "total_iter": iterations,
            "optim_g": {"type": "AdamW", "lr": 1e-4},
            "losses": [{"type": "l1"}],
        },
        "val": {"val_enabled": False},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 10**6},
    }
    return options | options_with_automation(limit_gib) if on else options


def write_options(options: dict[str, Any], folder: Path) -> Path:
    """The YAML file of a run."""
    path = folder / f"{options['name']}.yml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    return path


def find_view(machine: Machine) -> View | None:
    """How a process is seen from outside: its resident memory, or what the card holds."""
    return card_view(machine.uuid) if machine.kind == "cuda" else resident_view


def judge(run: TrainingRun, total_bytes: float) -> Landing:
    """What a run with the automation came to, on so much memory."""
    used = run.curve("vram/used_pct")
    sizes = zip(run.curve("dynamic/lq_size"), run.curve("dynamic/batch_size"), strict=True)
    shapes = [(int(side), int(batch)) for side, batch in sizes]
    moves = MOVE.findall(run.log)
    arrived = next((i + 1 for i, share in enumerate(used) if BAND[0] <= share <= BAND[1]), None)
    last_move = seconds_of(moves[-1][0]) if moves else 0.0
    peak = run.watcher.peak_between(last_move, seconds_of(STEP.findall(run.log)[-1]))
    here = [i for i, shape in enumerate(shapes) if shape == shapes[-1]][1:]

    def mean_here(tag: str) -> float:
        values = run.curve(tag)
        return sum(values[i] for i in here) / max(1, len(here))

    return Landing(
        start=shapes[0],
        end=shapes[-1],
        moves=len(moves),
        arrived=arrived,
        used=used[-1],
        target=run.curve("vram/target_pct")[-1],
        driver=100 * peak / total_bytes,
        reserved_gib=run.curve("vram/peak_reserved_gib")[-1],
        allocated_gib=run.curve("vram/peak_allocated_gib")[-1],
        errors=prediction_errors(moves, shapes, used),
        ooms=int(run.curve("dynamic/oom_total")[-1]),
        samples_per_s=mean_here("speed/samples_per_s"),
        mpixels_per_s=mean_here("speed/lq_mpixels_per_s"),
    )


def prediction_errors(
    moves: list[tuple[str, ...]], shapes: list[tuple[int, int]], used: list[float]
) -> tuple[tuple[int, float], ...]:
    """(shapes known by then, error as a share) of each move whose prediction came to be measured.

    Args:
        moves: as `MOVE` finds them in the log.
        shapes: of each iteration.
        used: per cent of the memory in each iteration.
    """
    errors: list[tuple[int, float]] = []
    known: set[tuple[int, int]] = set()
    for _, *numbers, predicted in moves:
        sizes = [int(number) for number in numbers]
        known.add((sizes[0], sizes[1]))
        after = (sizes[2], sizes[3])
        measured = [u for u, shape in zip(used, shapes, strict=True) if shape == after]
        if measured and float(predicted):
            errors.append((len(known), abs(float(predicted) / measured[-1] - 1)))
    return tuple(errors)


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
    return parser.parse_args(argv)


COLUMNS = (
    "kind", "network", "GiB", "from", "to", "moves", "iterations", "used %", "driver %",
    "prediction error %", "OOMs", "samples/s", "LQ Mpx/s", "kernel %",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console = Console(width=200)
    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("kind", "network") else "right")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            # In a process of its own: a context here would count as another program's memory.
            machine = ask(folder / "machine.json", cpu=arguments.cpu)
            facts = f"{machine.name}, torch {machine.facts['torch']}"
            console.print(f"{facts}; {' '.join(sys.argv)}")
            make_pictures(folder, arguments.pictures, arguments.side, arguments.scale)
            for kind in arguments.networks:
                for row in compare(arguments, kind, folder, machine, console):
                    table.add_row(*row)
        except (MachineError, RunError) as error:
            console.print(error)
            return 1
        finally:
            if table.rows:
                console.print(table)
    return 0


def compare(
    arguments: argparse.Namespace, name: str, folder: Path, machine: Machine, console: Console
) -> list[list[str]]:
    """A row for each limit of a network: the automation on beside off."""
    kind = NETWORKS[name]
    settings = Settings(
        machine.kind, arguments.iterations, arguments.lq_size, arguments.batch, arguments.scale,
        arguments.amp,
    )  # fmt: skip

    def run(limit_gib: float | None, *, on: bool) -> TrainingRun:
        options = make_options(settings, kind, folder, limit_gib, on=on)
        return train(write_options(options, folder), find_view(machine))

    before = run(None, on=False)
    rows: list[list[str]] = []
    for limit in arguments.limits or ([1.5] if machine.kind == "cpu" else [8, 12, 24, 0]):
        with_automation = run(limit or None, on=True)
        total = limit * GIB if limit else machine.total_bytes
        landing = judge(with_automation, total)
        rows.append([name, kind.network, *_cells(before, with_automation, landing, total / GIB)])
        console.print(f"{name}: {landing}", highlight=False)
    return rows


def _cells(
    before: TrainingRun, after: TrainingRun, landing: Landing, total_gib: float
) -> list[str]:
    # The first third of a run without the automation warms up.
    steps = slice(len(before.curve("speed/samples_per_s")) // 3, None)
    slow = float(np.median(before.curve("speed/samples_per_s")[steps]))
    slow_px = float(np.median(before.curve("speed/lq_mpixels_per_s")[steps]))
    return [
        f"{total_gib:.1f}",
        "{} x {}".format(*landing.start),
        "{} x {}".format(*landing.end),
        str(landing.moves),
        "-" if landing.arrived is None else str(landing.arrived),
        f"{landing.used:.1f}",
        f"{landing.driver:.1f}",
        f"{100 * landing.late_error:.1f} ({100 * landing.worst_error:.1f})",
        str(landing.ooms),
        f"{slow:.1f} -> {landing.samples_per_s:.1f}",
        f"{slow_px:.3f} -> {landing.mpixels_per_s:.3f}",
        f"{100 * before.kernel_share:.0f} -> {100 * after.kernel_share:.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
