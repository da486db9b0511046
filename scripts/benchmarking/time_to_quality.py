#!/usr/bin/env python3
"""What to fill the memory with, and when: PSNR over time, over megapixels and over changes of the
weights, for sizes that stay and for each pace of the automation.

Each contestant is `train.py` as a user starts it, on the demo's photographs, with its options but
for the sizes, the pace and the seed, and is given the same time. The table has means over the seeds
of the PSNR at the end, and of the part of the time after which a contestant was as good as the best
sizes that stay were at the end. Nothing else should run on the machine.

With `--idle` time is modelled (`modelled_time.py`): what a device with so much idle time in each
step would take. Then runs do not disturb each other, and two go on at once:

    python scripts/benchmarking/time_to_quality.py --idle 8 --steps 1800
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import yaml
from rich.table import Table

from scripts.benchmarking.progressive import Curve, add_modelled_time, trained
from traiNNer.demo.photographs import make_demo_dataset
from traiNNer.engine.logs import print_table
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.text import plural

ROOT = Path(__file__).resolve().parents[2]
# Of the options; the automation begins with it.
SIDE = 32
BATCH = 8
# The demo's bound: its photographs are small.
LARGEST = 48
FIXED = ((16, 2), (16, 8), (32, 2), (SIDE, BATCH), (LARGEST, 32))
STAGES = [{"size": 16, "until": 0.4}, {"size": 32, "until": 0.75}, {"size": LARGEST}]


def pace(name: str, **more: Any) -> dict[str, Any]:
    """The automation with a pace."""
    settings = {"pace": name, "max_lq_size": LARGEST} | more
    return {"DynamicBatchAndPatchSizeOptimizer": settings}


# By name: side and batch of the options, automations.
CONTESTANTS: dict[str, tuple[int, int, dict[str, Any]]] = {
    **{f"{side} px x {batch}": (side, batch, {}) for side, batch in FIXED},
    "at_once": (SIDE, BATCH, pace("at_once")),
    "ramp": (SIDE, BATCH, pace("ramp")),
    "measured": (SIDE, BATCH, pace("measured")),
    "stages, batch fitted": (
        16,
        BATCH,
        {"ProgressiveSizes": {"stages": STAGES}} | pace("at_once"),
    ),
}
# None is the demo's own.
NETWORKS: dict[str, dict[str, Any] | None] = {
    "compact": None,
    "span": {"type": "span_s", "feature_channels": 16},
}
# Validations of a run: points of its curve.
POINTS = 10


@dataclass
class Results:
    """The curves of one contestant, one for each seed."""

    curves: list[Curve] = field(default_factory=list)

    def last(self) -> float:
        """Mean PSNR at the end."""
        return statistics.mean(curve.psnr[-1] for curve in self.curves)

    def spread(self) -> float:
        """How far the seeds are apart at the end, in dB."""
        ends = [curve.psnr[-1] for curve in self.curves]
        return max(ends) - min(ends)

    def part_to(self, psnr: float) -> float | None:
        """Mean part of the time after which a run is as good as that; None where one never is."""
        parts = [_first_at(curve, psnr) for curve in self.curves]
        known = [part for part in parts if part is not None]
        return statistics.mean(known) if len(known) == len(parts) else None


def _first_at(curve: Curve, psnr: float) -> float | None:
    reached = [place for place, value in enumerate(curve.psnr) if value >= psnr]
    if not reached:
        return None
    place = reached[0]
    if place == 0:
        return curve.seconds[0] / curve.seconds[-1]
    values = curve.psnr[place - 1 : place + 1]
    seconds = np.interp(psnr, values, curve.seconds[place - 1 : place + 1])
    return float(seconds) / curve.seconds[-1]


def train(folder: Path, name: str, seed: int, arguments: argparse.Namespace) -> Curve:
    """A run of one contestant."""
    side, batch, automations = CONTESTANTS[name]
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text(encoding="utf-8"))
    options["name"] = re.sub(r"\W+", "_", f"{name} {seed}")
    options["manual_seed"] = seed
    options["training_automations"] = {"enabled": bool(automations)} | automations
    options["datasets"]["train"] |= {"lq_size": side, "batch_size_per_gpu": batch}
    options["network_g"] = NETWORKS[arguments.network] or options["network_g"]
    hours = arguments.seconds / 3600
    del options["train"]["total_mpixels"]
    options["train"] |= {"total_hours": hours, "ema_half_life": hours / 20}
    options["val"] = {"val_freq": hours / POINTS}
    options["logger"] = {"print_freq": 10, "save_checkpoint_freq": hours * 2}
    pixels = SIDE**2 * BATCH
    return trained(folder, options, pixels, arguments)


def draw(results: dict[str, Results], path: Path, title: str) -> None:
    """The first seed's curves over time, work and changes of the weights."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(16, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(1, 3, sharey=True)
    best = max(max(one.curves[0].psnr) for one in results.values())
    for name, one in results.items():
        curve = one.curves[0]
        for axes, places in zip(plots, (curve.seconds, curve.mpixels, curve.updates), strict=True):
            axes.plot(places, curve.psnr, marker=".", label=name)
    for axes, label in zip(
        plots, ("seconds of training", "LQ megapixels", "changes of the weights"), strict=True
    ):
        # What comes before is the same steep slope for all of them.
        axes.set(xlabel=label, ylim=(best - 2, None))
        axes.grid(alpha=0.3)
    for axes in plots[1:]:
        axes.set(xscale="log")
        # Ticks between the powers of ten would lie over each other.
        axes.xaxis.set_minor_formatter(NullFormatter())
    plots[0].set(ylabel="PSNR (dB)")
    plots[1].legend(loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def table_of(results: dict[str, Results], title: str) -> Table:
    """One row for each contestant."""
    # With `--only` there may be none whose sizes stay.
    stay = [one for name, one in results.items() if not CONTESTANTS[name][2]]
    goal = max(one.last() for one in stay or results.values())
    table = Table(title=title)
    columns = (
        "sizes",
        "ends with",
        "iterations",
        "LQ Mpx",
        "PSNR",
        "seeds",
        f"{goal:.2f} dB after",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "sizes" else "right")
    for name, one in results.items():
        curve = one.curves[0]
        part = one.part_to(goal)
        table.add_row(
            name,
            curve.last,
            f"{curve.iterations:,}",
            f"{curve.mpixels[-1]:.1f}",
            f"{one.last():.2f}",
            f"+-{one.spread() / 2:.2f}",
            "-" if part is None else f"{part:.0%}",
        )
    return table


def main(argv: list[str] | None = None) -> int:
    """Train all of them, print the table and draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=45.0, help="length of each run (default: 45)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--network", choices=list(NETWORKS), default="compact")
    add_modelled_time(parser)
    parser.add_argument("--picture", type=Path, default=Path("time_to_quality.png"))
    arguments = parser.parse_args(argv)
    names = [name for name in CONTESTANTS if name in arguments.only]
    results = {name: Results() for name in names}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_demo_dataset(folder / "datasets" / "demo")
        runs = [(name, seed) for seed in arguments.seeds for name in names]
        # By a modelled clock, which others do not slow down, two at once.
        with ThreadPoolExecutor(1 if arguments.idle is None else 2) as pool:
            curves = pool.map(lambda run: train(folder, run[0], run[1], arguments), runs)
            for (name, seed), curve in zip(runs, curves, strict=True):
                results[name].curves.append(curve)
                print(f"{name}, seed {seed}: {curve.psnr[-1]:.2f} dB", file=sys.stderr)
    machine = describe_device(choose_device("auto"))
    seeds = plural(len(arguments.seeds), "seed")
    if arguments.idle is not None:
        machine = f"modelled for {arguments.steps} steps, idle {arguments.idle:g}"
    title = f"{arguments.network}, {arguments.seconds:g} s, {seeds}, {machine}"
    print_table(table_of(results, title))
    draw(results, arguments.picture, title)
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
