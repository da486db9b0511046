#!/usr/bin/env python3
"""What the framework adds to a training step: SRModel and the loop beside a bare PyTorch loop,
alternating in one run.

The third one is the framework with the memory automation on: it measures every step, and has
nowhere to move to.

All train the same network on the same tensors, with AdamW and L1, in short rounds that alternate.
Each pair of neighbouring rounds gives a ratio; their median does not care about what else the
machine did in between.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from traiNNer.automations import (
    AutomationContext,
    Automations,
    CpuMemory,
    CudaMemory,
    DynamicBatchAndPatchSizeOptimizer,
    ShapeBounds,
)
from traiNNer.data import Batch
from traiNNer.engine.folders import RunFolders
from traiNNer.engine.interrupts import Interrupts
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.part import Part
from traiNNer.engine.progress import Stopwatch
from traiNNer.engine.reporter import Reporter
from traiNNer.engine.run import Run
from traiNNer.engine.stream import StepStream
from traiNNer.engine.tracker import Tracker
from traiNNer.models import SRModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime, choose_device, describe_device
from traiNNer.utils.registry import ARCHS
from traiNNer.utils.seeds import seed_everything
from traiNNer.utils.shape import Shape


def make_options(arguments: argparse.Namespace, folder: str) -> TrainingOptions:
    """Options of a run without validation, checkpoints and moving average, as the bare loop has
    none of these.
    """
    dataset = {"type": "PairedImageDataset", "dataroot_gt": "unused", "dataroot_lq": "unused"}
    return TrainingOptions.model_validate(
        {
            "name": "overhead",
            "scale": arguments.scale,
            "datasets": {
                "train": dataset
                | {"lq_size": arguments.lq_size, "batch_size_per_gpu": arguments.batch}
            },
            "network_g": {"type": arguments.network},
            "path": {"experiments_root": folder, "tb_root": folder},
            "train": {
                "total_iter": arguments.steps,
                "optim_g": {"type": "AdamW", "lr": 1e-4},
                "losses": [{"type": "l1"}],
                "ema_decay": 0,
            },
            "val": {"val_enabled": False},
            "logger": {"print_freq": 100, "save_checkpoint_freq": 10**9},
        }
    )


class MemoryLoader:
    """The loop's loader without files: the same batches over and over."""

    epoch = 0.0
    samples_consumed = 0

    def __init__(self, batches: list[Batch]) -> None:
        self.dataset = self
        self._batches = itertools.cycle(batches)

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self.samples_consumed += len(batch)
        return batch

    def set_batch_size(self, batch_size: int) -> None:
        """There is one only."""

    def set_lq_size(self, lq_size: int) -> None:
        """There is one only."""

    def close(self) -> None:
        """Nothing to end."""


def bare_loop(network: nn.Module, batches: list[Batch], steps: int, device: torch.device) -> float:
    """Seconds of a training loop as one writes it by hand."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, fused=device.type in ("cuda", "cpu")
    )
    criterion = nn.L1Loss()
    start = time.perf_counter()
    for step in range(steps):
        batch = batches[step % len(batches)]
        lq: Tensor = batch.pair[0].to(device, non_blocking=True).float().div_(255)
        gt: Tensor = batch.pair[1].to(device, non_blocking=True).float().div_(255)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(network(lq), gt)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            loss.item()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def make_fit(options: TrainingOptions, device: torch.device) -> MemoryFit:
    """The automation with a single shape to choose from."""
    data = options.datasets.train
    shape = Shape(data.lq_size, data.batch_size_per_gpu)
    bounds = ShapeBounds(shape.lq_size, shape.lq_size, 1, shape.batch_size, shape.batch_size)
    memory = CudaMemory(device) if device.type == "cuda" else CpuMemory()
    automation = DynamicBatchAndPatchSizeOptimizer(
        AutomationContext(bounds, shape, memory.total),
        min_lq_size=shape.lq_size,
        max_batch_size=shape.batch_size,
    )
    return MemoryFit(Automations({"fit": automation}), memory)


def framework_loop(
    options: TrainingOptions,
    runtime: Runtime,
    network: nn.Module,
    batches: list[Batch],
    *,
    fitted: bool,
) -> float:
    """Seconds of the same in SRModel and the loop, curves included; the bare loop saves nothing
    either, so this one has no part that does.
    """
    recipe = SRModel(options, runtime, network)
    folders = RunFolders.of(options.name, options.path)
    tracker = Tracker(folders.tensorboard)
    tracker.open()
    loader: Any = MemoryLoader(batches)
    recipe.set_dynamic_wrappers(loader, loader)
    parts: list[Part] = [make_fit(options, runtime.device)] if fitted else []
    clock = Stopwatch()
    run = Run(
        options,
        recipe,
        StepStream(loader, clock),
        folders,
        (*parts, Reporter()),
        tracker,
        Interrupts(),
        clock,
    )
    start = time.perf_counter()
    run.train()
    if runtime.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    tracker.close()
    return seconds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="span", help="name in the catalogue (default: span)")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--lq_size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20, help="steps in a round (default: 20)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each loop (default: 15)")
    parser.add_argument("--cpu", action="store_true", help="on the CPU even if there is a GPU")
    arguments = parser.parse_args(argv)
    setup_logging()
    runtime = Runtime(choose_device(0 if arguments.cpu else "auto"))
    generator = torch.Generator().manual_seed(0)
    side = arguments.lq_size
    gt_side = arguments.lq_size * arguments.scale
    names = ["memory"] * arguments.batch

    def random_pixels(size: int) -> Tensor:
        shape = (arguments.batch, 3, size, size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def random_batch() -> Batch:
        lq = random_pixels(side)
        gt = random_pixels(gt_side)
        return Batch(lq, gt, list(range(arguments.batch)), names, names)

    batches = [random_batch() for _ in range(8)]
    times: dict[str, list[float]] = {"bare": [], "framework": [], "automation": []}
    with tempfile.TemporaryDirectory() as folder:
        options = make_options(arguments, folder)
        for number in range(arguments.rounds + 1):
            for name in list(times) if number % 2 else reversed(times):
                seed_everything(0)
                network = ARCHS[arguments.network](scale=arguments.scale).to(runtime.device).train()
                if name == "bare":
                    seconds = bare_loop(network, batches, arguments.steps, runtime.device)
                else:
                    seconds = framework_loop(
                        options, runtime, network, batches, fitted=name == "automation"
                    )
                if number:  # the first round warms up
                    times[name].append(seconds / arguments.steps * 1000)
    print(
        f"{describe_device(runtime.device)}, torch {torch.__version__}: {arguments.network} "
        f"x{arguments.scale}, batch {arguments.batch}, lq_size {arguments.lq_size}, "
        f"{arguments.rounds} rounds of {arguments.steps} steps"
    )
    for name, values in times.items():
        print(
            f"{name:<10} fastest {min(values):8.2f} ms a step, median "
            f"{statistics.median(values):8.2f}"
        )
    for name, other in (("framework", "bare"), ("automation", "framework")):
        ratios = [ours / theirs for ours, theirs in zip(times[name], times[other], strict=True)]
        fastest = min(times[name]) / min(times[other])
        print(
            f"{name} / {other}: {statistics.median(ratios):.3f} (median of neighbours; of the "
            f"fastest rounds {fastest:.3f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
