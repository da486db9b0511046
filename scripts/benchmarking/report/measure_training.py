"""A short real training with the memory automation on: the demo, on a larger network on a GPU."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

import traiNNer.metrics  # noqa: F401 - fills the registry
from scripts.benchmarking.report.machine import ROOT
from scripts.benchmarking.report.processes import Command
from scripts.benchmarking.report.results import Column
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.report.training_runs import NotBegunError, RunError, TrainingRun, train
from scripts.benchmarking.vram_real import find_view, write_options
from traiNNer.data import PairedImageDataset
from traiNNer.demo.photographs import SCALE, make_demo_dataset
from traiNNer.engine.report import BICUBIC, compare
from traiNNer.ops.resize import resize
from traiNNer.utils.registry import METRICS

# On a GPU the demo's own network would leave it idle.
GPU_NETWORK = {"type": "compact", "num_feat": 64, "num_conv": 16}
GPU_BOUNDS = {"max_lq_size": 128, "max_batch_size": 64}
GPU_LIMIT_GIB = 6.0
GPU_ITERATIONS = 2000
CPU_ITERATIONS = 60
GPU_RESUMED = 200
CPU_RESUMED = 12
# Two starts of train.py, with what it imports.
LEAST_RESUME_S = 20.0
# Seconds that an interrupted run takes to save and end, and its curves to be read.
ENDING_S = 5.0
# Validations of a run: the first shows where it began to be better than bicubic.
VALIDATIONS = 4
CPU_VALIDATIONS = 2
PSNR = "val/demo_val/psnr"
COLUMNS = (
    Column("network", "network"),
    Column("iterations", "iterations"),
    Column("from", "from lq_size x batch"),
    Column("to", "to lq_size x batch"),
    Column("used_pct", "memory used", "%"),
    Column("ooms", "out of memory"),
    Column("bicubic_db", "PSNR bicubic", "dB", 2),
    Column("first_db", "first validation", "dB", 2),
    Column("last_db", "last", "dB", 2),
    Column("samples_per_s", "speed", "samples/s"),
    Column("wait_pct", "waited for data", "%"),
    Column("idle_pct", "card without work", "%"),
)
END_COLUMNS = (
    Column("killed", "saved before the kill"),
    Column("ended", "gone on with to"),
    Column("total", "of"),
)
CURVE_COLUMNS = (
    Column("iteration", "iteration"),
    Column("psnr_db", "PSNR", "dB", 2),
    Column("bicubic_db", "PSNR bicubic", "dB", 2),
)


def measure(task: Task) -> None:
    """Train until the end, or until the time is up."""
    notebook = task.notebook
    notebook.command("python train.py -opt options/demo.yml")
    table = notebook.table("training", "the demo's photographs, 2x, memory automation on", COLUMNS)
    curve = notebook.table("psnr", "validation", CURVE_COLUMNS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_demo_dataset(folder / "demo")
        bicubic = score_bicubic(folder / "demo")
        options = make_options(task, folder)
        try:
            view = find_view(task.machine)
            run = train(write_options(options, folder), view, task.left_s - ENDING_S)
        except NotBegunError as error:
            notebook.missing(str(error))
            return
        except RunError as error:
            notebook.fault(str(error))
            return
        if run.cut:
            notebook.missing(
                f"the last of {options['train']['total_iter']:,} iterations of the training: the "
                "time was up"
            )
        points = run.curves.get(PSNR, {})
        for iteration, value in points.items():
            notebook.add(curve, iteration=iteration, psnr_db=value, bicubic_db=bicubic)
        notebook.add(table, **_row(run, options["network_g"]["type"], bicubic, points))
        picture = run.folder / "memory.png"
        if picture.is_file():
            shutil.copyfile(picture, task.folder.parent / "training_run.png")
        if task.has_time("a kill and a resume", LEAST_RESUME_S):
            try:
                kill_and_resume(task, options, folder)
            except RunError as error:
                notebook.fault(str(error))


def kill_and_resume(task: Task, options: dict[str, Any], folder: Path) -> None:
    """A run like the one before is killed behind its first checkpoint and goes on to its end."""
    notebook = task.notebook
    table = notebook.table("ends", "killed by SIGKILL, and gone on with", END_COLUMNS)
    total = CPU_RESUMED if task.is_small else GPU_RESUMED
    options = options | {"name": "killed", "val": {"val_enabled": False}}
    options["train"] = options["train"] | {"total_iter": total}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": total // 4}
    path = write_options(options, folder)
    states = folder / "experiments" / "killed" / "training_states"
    command = Command([sys.executable, str(ROOT / "train.py"), "-opt", str(path)], own_group=True)
    while not list(states.glob("*.state")) and task.left_s > 0 and command.is_running:
        time.sleep(0.05)
    command.end()
    saved = max((int(state.stem) for state in states.glob("*.state")), default=0)
    if not saved:
        notebook.missing("a kill and a resume: the time was up before the first checkpoint")
        return
    run = train(path, None, task.left_s, ["--auto_resume"])
    ended = max(run.curves["dynamic/lq_size"])
    notebook.add(table, killed=saved, ended=ended, total=total)
    if f"resumed {states}/{saved}.state" not in run.log:
        notebook.fault(f"the run that was killed behind iteration {saved} was not gone on with")
    elif ended < total and not run.cut:
        notebook.fault(f"the run that was gone on with ended at {ended} of {total}")


def make_options(task: Task, folder: Path) -> dict[str, Any]:
    """The demo's, on data in a folder."""
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text(encoding="utf-8"))
    for part, section in options["datasets"].items():
        section["dataroot_gt"] = str(folder / "demo" / part / "gt")
        section["dataroot_lq"] = str(folder / "demo" / part / f"lq_x{SCALE}")
    iterations = CPU_ITERATIONS if task.is_small else GPU_ITERATIONS
    options["num_gpu"] = 0 if task.machine.kind == "cpu" else "auto"
    options["path"] = {
        "experiments_root": str(folder / "experiments"),
        "tb_root": str(folder / "tb"),
    }
    # The demo's length and its average are in megapixels.
    for key in ("total_mpixels", "ema_half_life"):
        del options["train"][key]
    options["train"] |= {"total_iter": iterations, "ema_decay": 0.99}
    options["val"] = {"val_freq": iterations // (CPU_VALIDATIONS if task.is_small else VALIDATIONS)}
    options["val"]["metrics"] = {"psnr": {"type": "psnr"}}
    options["logger"] = {"print_freq": 10, "save_checkpoint_freq": 10**6}
    if not task.is_small:
        options["network_g"] = dict(GPU_NETWORK)
        options["vram_limit_gib"] = GPU_LIMIT_GIB
        automation = options["training_automations"]
        automation["DynamicBatchAndPatchSizeOptimizer"] = dict(GPU_BOUNDS)
    return options


def score_bicubic(data: Path) -> float:
    """Mean PSNR in dB of the validation photographs enlarged by antialiased bicubic
    interpolation.
    """
    images = PairedImageDataset(
        SCALE, str(data / "val" / "gt"), str(data / "val" / f"lq_x{SCALE}")
    ).for_validation()
    metrics = {"psnr": METRICS["psnr"](scale=SCALE)}

    def enlarged(lq: Tensor) -> Tensor:
        return resize(lq, (lq.shape[-2] * SCALE, lq.shape[-1] * SCALE))

    comparison = compare("val", images, {"itself": enlarged}, metrics)
    return comparison.results[BICUBIC].means["psnr"]


def _row(
    run: TrainingRun, network: str, bicubic: float, points: dict[int, float]
) -> dict[str, str | float | int | None]:
    sides = run.curve("dynamic/lq_size")
    batches = run.curve("dynamic/batch_size")
    # The first point holds the start of the reading processes and the search for kernels.
    speeds = run.curve("speed/samples_per_s")[1:]
    waits = run.curve("speed/data_wait_pct")[1:]
    return {
        "network": network,
        "iterations": max(run.curves["dynamic/lq_size"]),
        "from": f"{sides[0]:.0f} x {batches[0]:.0f}",
        "to": f"{sides[-1]:.0f} x {batches[-1]:.0f}",
        "used_pct": run.curve("vram/used_pct")[-1],
        "ooms": int(run.curve("dynamic/oom_total")[-1]),
        "bicubic_db": bicubic,
        "first_db": next(iter(points.values()), None),
        "last_db": list(points.values())[-1] if points else None,
        "samples_per_s": _mean(speeds),
        "wait_pct": _mean(waits),
        "idle_pct": 100 * (1 - run.busy_share()),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
