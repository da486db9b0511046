#!/usr/bin/env python3
"""What patch sizes are worth: PSNR over time for small ones, large ones, ones that grow in stages,
ones that are drawn for each batch, and those of the automation, at equal work.

Each contestant is `train.py` as a user starts it, on the demo's photographs, with its network and
memory and so many megapixels of LQ. Validation is not counted. The picture has a curve of each, the
table its length and its PSNR: at the end, and when the quickest had come to its end.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import yaml
from rich.table import Table

from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import choose_device, describe_device

ROOT = Path(__file__).resolve().parents[2]
SMALL = 16
MIDDLE = 32
LARGE = 64
FIT = {"DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "max_lq_size": LARGE}}
STAGES = [{"size": SMALL, "until": 0.4}, {"size": MIDDLE, "until": 0.75}, {"size": LARGE}]
RAMP = {"pace": "ramp", "ramp": {"from": 0.3, "until": 0.85}, "max_lq_size": LARGE}
# By name: side and batch of the options, automations.
CONTESTANTS: dict[str, tuple[int, int, dict[str, Any]]] = {
    f"{SMALL} px x 8": (SMALL, 8, {}),
    f"{MIDDLE} px x 8": (MIDDLE, 8, {}),
    f"{LARGE} px x 8": (LARGE, 8, {}),
    "stages, batch 8": (SMALL, 8, {"ProgressiveSizes": {"stages": STAGES}}),
    "stages, batch fitted": (SMALL, 8, {"ProgressiveSizes": {"stages": STAGES}} | FIT),
    "random, as 32 px x 8": (LARGE, 2, {"RandomSizes": {"sizes": [SMALL, MIDDLE, LARGE]}}),
    "automation, ramp": (MIDDLE, 8, {"DynamicBatchAndPatchSizeOptimizer": RAMP}),
    "automation, at once": (MIDDLE, 8, FIT),
}
# Validations of a run: points of its curve.
POINTS = 20
STEP = re.compile(r"^(\S+ \S+) INFO: (\d+) \(.*?lq_size (\d+)  batch (\d+)", re.M)
JUDGED = re.compile(
    r"^(\S+ \S+) INFO: validation at (\d+) on \S+ \(\d+ images, ([\d.]+) s\): psnr ([\d.]+) dB",
    re.M,
)


@dataclass(frozen=True)
class Curve:
    """What came of a contestant.

    Attributes:
        iterations: changes of the weights.
        seconds: from the first step to each validation, without validations.
        psnr: mean of each validation, in dB.
        updates: changes of the weights at each.
        mpixels: LQ megapixels at each.
        last: sizes at the end.
    """

    iterations: int
    seconds: list[float]
    psnr: list[float]
    updates: list[int]
    mpixels: list[float]
    last: str

    def at(self, seconds: float) -> float:
        """PSNR after so many seconds, between two validations by a straight line."""
        return float(np.interp(seconds, self.seconds, self.psnr))


def train(folder: Path, name: str, mpixels: float) -> Curve:
    """A run of one contestant."""
    side, batch, automations = CONTESTANTS[name]
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text(encoding="utf-8"))
    options["name"] = re.sub(r"\W+", "_", name)
    options["training_automations"] = {"enabled": bool(automations)} | automations
    options["datasets"]["train"] |= {"lq_size": side, "batch_size_per_gpu": batch}
    options["train"]["total_mpixels"] = mpixels
    options["val"] = {"val_freq": mpixels / POINTS}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": mpixels}
    return run_options(folder, options)


def run_options(
    folder: Path, options: dict[str, Any], program: Sequence[str] = (str(ROOT / "train.py"),)
) -> Curve:
    """What comes of a training with these options, in a folder that holds the data.

    Args:
        folder: where it runs.
        options: of the training.
        program: what trains, and its own arguments.
    """
    path = folder / f"{options['name']}.yml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    command = [sys.executable, *program, "-opt", str(path)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    log = folder / "experiments" / options["name"] / "log" / "train.log"
    return read_curve(log.read_text(encoding="utf-8"))


def add_modelled_time(parser: argparse.ArgumentParser) -> None:
    """Options by which the time of a run is modelled and not measured."""
    parser.add_argument(
        "--idle",
        type=float,
        metavar="X",
        help="model the time: the part of a step that does not depend on its size, as a multiple "
        "of what the pixels of the options' step take (0.1 for a small network on a CPU, 10 for "
        "one on a GPU that its steps leave idle)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=1000,
        help="of the options' sizes, that the modelled time has room for (1000)",
    )


def trained(
    folder: Path, options: dict[str, Any], pixels: int, arguments: argparse.Namespace
) -> Curve:
    """What comes of a training of `arguments.seconds`, by the clock on the wall or a modelled one.

    Args:
        folder: where it runs.
        options: of the training.
        pixels: LQ pixels of a step at the sizes that all contestants are compared with.
        arguments: those of `add_modelled_time`, and seconds.
    """
    idle = arguments.idle
    if idle is None:
        return run_options(folder, options)
    seconds = arguments.seconds
    rate = (idle + 1) * pixels * arguments.steps / seconds
    script = str(ROOT / "scripts" / "benchmarking" / "modelled_time.py")
    curve = run_options(
        folder, options, [script, "--idle-pixels", f"{idle * pixels}", "--rate", f"{rate}"]
    )
    # The log's are those of the wall; validations come after equal parts of the modelled ones.
    points = len(curve.psnr)
    return replace(curve, seconds=[seconds * (place + 1) / points for place in range(points)])


def read_curve(log: str) -> Curve:
    """The curve that a log tells of."""
    steps = STEP.findall(log)
    begun = _time_of(steps[0][0])
    validating = 0.0
    seconds: list[float] = []
    psnr: list[float] = []
    updates: list[int] = []
    mpixels: list[float] = []
    done = 0.0
    former = 0
    work: dict[int, float] = {}
    for _, iteration, side, batch in steps:
        done += (int(iteration) - former) * int(side) ** 2 * int(batch) / 1e6
        former = int(iteration)
        work[former] = done
    for stamp, update, took, value in JUDGED.findall(log):
        validating += float(took)
        seconds.append((_time_of(stamp) - begun).total_seconds() - validating)
        psnr.append(float(value))
        updates.append(int(update))
        mpixels.append(work[max(known for known in work if known <= int(update))])
    last = re.findall(r"lq_size (\d+)  batch (\d+)", log)[-1]
    return Curve(int(steps[-1][1]), seconds, psnr, updates, mpixels, " x ".join(last))


def _time_of(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp.replace(",", "."))


def draw(curves: dict[str, Curve], path: Path, title: str) -> None:
    """All curves in one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve.seconds, curve.psnr, marker=".", label=name)
    best = max(max(curve.psnr) for curve in curves.values())
    # What comes before is the same steep slope for all of them.
    axes.set(xlabel="seconds of training", ylabel="PSNR (dB)", title=title, ylim=(best - 3, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Train all of them, print the table and draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mpixels", type=float, default=10.0, help="length of each run (default: the demo's)"
    )
    parser.add_argument("--picture", type=Path, default=Path("progressive.png"))
    arguments = parser.parse_args(argv)
    curves: dict[str, Curve] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo_dataset(folder / "datasets" / "demo")
        for contestant in CONTESTANTS:
            curves[contestant] = train(folder, contestant, arguments.mpixels)
            print(f"{contestant}: {curves[contestant].psnr[-1]:.2f} dB", file=sys.stderr)
    machine = describe_device(choose_device("auto"))
    quickest = min(curve.seconds[-1] for curve in curves.values())
    table = Table(title=f"{arguments.mpixels:g} megapixels of LQ on {machine}")
    for column in ("sizes", "ends with", "iterations", "seconds", "PSNR", f"at {quickest:.0f} s"):
        table.add_column(column, justify="left" if column == "sizes" else "right")
    for contestant, curve in curves.items():
        cells = [contestant, curve.last, f"{curve.iterations:,}", f"{curve.seconds[-1]:.0f}"]
        table.add_row(*cells, f"{curve.psnr[-1]:.2f}", f"{curve.at(quickest):.2f}")
    print_table(table)
    winner = max(curves, key=lambda name: curves[name].psnr[-1])
    fastest = max(curves, key=lambda name: curves[name].at(quickest))
    print(f"best at the end: {winner}; best after {quickest:.0f} s: {fastest}")
    draw(curves, arguments.picture, f"demo network, {arguments.mpixels:g} Mpx, {machine}")
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
