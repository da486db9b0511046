"""Whether a card would wait for its data: samples a second of the loader, with and without the
pixel store, and of degradations, beside what a network for playback trains on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch

from scripts.benchmarking.degradations import MARGIN, mean, picture
from scripts.benchmarking.degradations import SCALE as DEGRADED_SCALE
from scripts.benchmarking.loader import Setting, fill, make_pictures, our_batches, rate
from scripts.benchmarking.report.results import Column
from scripts.benchmarking.report.task import Task
from scripts.benchmarking.step_overhead import Setup, bare_loop
from traiNNer.data.degrading import DegradationRecipe
from traiNNer.utils.device import configure_backends, usable_cores
from traiNNer.utils.pixel_store import PixelStore
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.shape import Shape

SHAPE = Shape(64, 16)
CPU_SHAPE = Shape(32, 4)
NETWORK = "span_s"
PICTURES = 24
CPU_PICTURES = 4
# Seconds for each way of reading.
ROUND_S = 2.0
CPU_ROUND_S = 0.5
STEPS = 30
CPU_STEPS = 3
# As the loader takes by itself on a GPU.
MOST_WORKERS = 8
COLUMNS = (
    Column("way", "samples come from"),
    Column("readers", "readers"),
    Column("samples_per_s", "speed", "samples/s"),
    Column("share_pct", "of what the network takes", "%"),
)


def measure(task: Task) -> None:
    """The network first, then each way of reading."""
    notebook = task.notebook
    small = task.is_small
    shape = CPU_SHAPE if small else SHAPE
    notebook.command(f"python scripts/benchmarking/loader.py --batch {shape.batch_size}")
    notebook.command("python scripts/benchmarking/degradations.py")
    title = f"reading, {NETWORK} 2x at {shape.batch_size} x {shape.lq_size} px"
    table = notebook.table("data", title, COLUMNS)
    configure_backends(deterministic=False, fast_matmul=False)
    needed = trained_on(task, shape)
    notebook.add(table, way=f"(what {NETWORK} trains on)", samples_per_s=needed, share_pct=100.0)
    workers = 1 if small else min(MOST_WORKERS, usable_cores())
    # As in the processes that read.
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        seconds = CPU_ROUND_S if small else ROUND_S
        setting = Setting(Path(folder), "pairs", 2, shape.lq_size, shape.batch_size, 1, seconds)
        make_pictures(setting, CPU_PICTURES if small else PICTURES, "png")
        store = PixelStore(setting.root / "store")
        ways: dict[str, tuple[Callable[[], Iterator[int]], str]] = {
            "PNG files of 2040x1356": (
                lambda: our_batches(setting, None, workers),
                f"{workers} processes",
            ),
            "the pixel store": (
                lambda: our_batches(setting, store, 0, is_kept=True),
                "a thread",
            ),
        }
        for way, (start, readers) in ways.items():
            if not task.has_time(f"reading from {way}", 3 * seconds):
                continue
            if way == "the pixel store":
                fill(setting, store)
            speed = speed_of(start(), seconds)
            notebook.add(
                table,
                way=way,
                readers=readers,
                samples_per_s=speed,
                share_pct=100 * speed / needed,
            )
    if task.has_time("degradations", 2 * seconds):
        speed = degraded_per_s(shape, 2 if small else 10)
        notebook.add(
            table,
            way="GT alone, made LQ by realesrgan (4x)",
            readers="one core",
            samples_per_s=speed,
            share_pct=100 * speed / needed,
        )


def trained_on(task: Task, shape: Shape) -> float:
    """Samples a second of a bare loop over batches that are there."""
    steps = CPU_STEPS if task.is_small else STEPS
    setup = Setup(NETWORK, shape, steps=steps)
    batches = setup.batches(pinned=task.device.type == "cuda")
    network = setup.build().to(task.device).train()
    # Kernels are searched.
    bare_loop(network, batches, 2, task.device)
    seconds = bare_loop(network, batches, steps, task.device)
    return steps * shape.batch_size / seconds


def speed_of(batches: Iterator[int], seconds: float) -> float:
    """Samples a second, once processes have started."""
    rate(batches, seconds / 2)
    return rate(batches, seconds)


def degraded_per_s(shape: Shape, rounds: int) -> float:
    """Samples a second that one core degrades."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = DegradationRecipe("realesrgan", DEGRADED_SCALE, "bicubic")
    side = round((shape.lq_size + MARGIN) * DEGRADED_SCALE)
    piece = picture(side, 0)
    seconds = mean(lambda number: recipe(piece.copy(), hash_seed(number)), rounds)
    torch.set_num_threads(threads)
    return 1 / seconds
