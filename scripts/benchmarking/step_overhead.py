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
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from traiNNer.data.deal import Deal
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
from traiNNer.models import SRModel, StepResult
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime, choose_device, configure_backends, describe_device
from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import ARCHS, DISCRIMINATORS
from traiNNer.utils.seeds import seed_everything
from traiNNer.utils.shape import Shape

# Batches that are made once and taken in turns.
BATCHES = 8
# Of the adversarial loss beside that of pixels.
GAN_WEIGHT = 0.1
LOOPS = ("bare", "framework", "automation")


@dataclass(frozen=True)
class Setup:
    """What is trained, and how.

    Attributes:
        network: its name.
        parameters: of the network.
        shape: of a batch.
        scale: of the network.
        frames: of a clip; 0 for a network of images.
        steps: in a round.
        discriminator: that the network is trained against; empty for none.
    """

    network: str
    shape: Shape
    parameters: dict[str, Any] = field(default_factory=dict)
    scale: int = 2
    frames: int = 0
    steps: int = 20
    discriminator: str = ""

    def options(self, folder: Path) -> TrainingOptions:
        """Options of a run without validation, checkpoints and moving average, as the bare loop has
        none of these.
        """
        dataset: dict[str, Any] = {
            "type": "PairedVideoDataset" if self.frames else "PairedImageDataset",
            "dataroot_gt": "unused",
            "dataroot_lq": "unused",
            "lq_size": self.shape.lq_size,
            "batch_size_per_gpu": self.shape.batch_size,
        }
        if self.frames:
            dataset |= {"clip_size": self.frames, "target": "center"}
        adam = {"type": "AdamW", "lr": 1e-4}
        train: dict[str, Any] = {
            "total_iter": self.steps,
            "optim_g": adam,
            "losses": [{"type": "l1"}],
            "ema_decay": 0,
        }
        options: dict[str, Any] = {
            "name": "overhead",
            "scale": self.scale,
            "datasets": {"train": dataset},
            "network_g": {"type": self.network} | self.parameters,
            "path": {"experiments_root": str(folder), "tb_root": str(folder)},
            "train": train,
            "val": {"val_enabled": False},
            "logger": {"print_freq": 100, "save_checkpoint_freq": 10**9},
        }
        if self.discriminator:
            options["network_d"] = {"type": self.discriminator}
            train["optim_d"] = adam
            train["losses"].append({"type": "gan", "loss_weight": GAN_WEIGHT})
        return TrainingOptions.model_validate(options)

    def build(self) -> nn.Module:
        """The network, with the same weights every time."""
        seed_everything(0)
        return ARCHS[self.network](scale=self.scale, **self.parameters)

    def build_critic(self) -> nn.Module | None:
        """The discriminator; None without one."""
        return DISCRIMINATORS[self.discriminator]() if self.discriminator else None

    def batches(self, count: int = BATCHES, *, pinned: bool = False) -> list[Batch]:
        """Batches of noise, the same every time; `pinned` as a GPU's loader gives them."""
        generator = torch.Generator().manual_seed(0)
        size = self.shape.batch_size
        names = ["memory"] * size

        def pixels(*shape: int) -> Tensor:
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

        made: list[Batch] = []
        for _ in range(count):
            side = self.shape.lq_size
            clip = (self.frames,) if self.frames else ()
            lq = pixels(size, *clip, 3, side, side)
            gt = pixels(size, 3, side * self.scale, side * self.scale)
            batch = Batch(lq, gt, list(range(size)), names, names)
            made.append(batch.pin_memory() if pinned else batch)
        return made


class MemoryLoader:
    """The loop's loader without files: the same batches over and over."""

    deal = Deal()
    epoch = 0.0
    samples_consumed = 0
    replaced_total = 0
    worker_pids = ()

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.dataset = self
        self.batch_size = len(batches[0])
        self.lq_size = batches[0].lq_size
        self._batches = itertools.cycle(batches)

    @property
    def sampler(self) -> MemoryLoader:
        """It has none of its own."""
        return self

    def request(self, position: int) -> None:
        """There are no samples to be shown.

        Raises:
            DataError: always.
        """
        raise DataError(f"nothing is drawn at {position}")

    def next_batch(self, at_most: int | None = None, shape: Shape | None = None) -> Batch:
        """The next one, whatever is asked for."""
        del at_most, shape
        batch = next(self._batches)
        self.samples_consumed += len(batch)
        return batch

    def set_batch_size(self, batch_size: int) -> None:
        """There is one only."""

    def set_lq_size(self, lq_size: int) -> None:
        """There is one only."""

    def close(self) -> None:
        """Nothing to end."""


class LoopClock(Part):
    """Seconds from the first step to the end of the last one, on the device too.

    What comes before and after is no part of a step.

    Args:
        device: where the steps are taken.
        fit: the automation, whose picture of each round nobody would look at.
    """

    name = "loop_clock"

    def __init__(self, device: torch.device, fit: MemoryFit | None = None) -> None:
        self.seconds = 0.0
        self._fit = fit
        self._device = device
        self._start = 0.0

    def start(self, run: Run) -> None:  # noqa: ARG002
        wait_for(self._device)
        self._start = time.perf_counter()

    def after_step(self, run: Run, result: StepResult) -> None:  # noqa: ARG002
        if run.is_over:
            wait_for(self._device)
            self.seconds = time.perf_counter() - self._start
            if self._fit is not None:
                # Without a history none is drawn, which takes as long as many steps.
                self._fit.history.clear()


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """LQ and GT as float32 in [0, 1]."""
    lq, gt = (each.to(device, non_blocking=True).float().div_(255) for each in batch.pair)
    return lq, gt


def bare_loop(
    network: nn.Module, batches: Sequence[Batch], steps: int, device: torch.device
) -> float:
    """Seconds of a training loop as one writes it by hand."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, fused=device.type in ("cuda", "cpu")
    )
    criterion = nn.L1Loss()
    wait_for(device)
    start = time.perf_counter()
    for step in range(steps):
        lq, gt = on_device(batches[step % len(batches)], device)
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(network(lq), gt)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            loss.item()
    wait_for(device)
    return time.perf_counter() - start


def bare_gan_loop(
    network: nn.Module,
    critic: nn.Module,
    batches: Sequence[Batch],
    steps: int,
    device: torch.device,
) -> float:
    """Seconds of a loop of two networks as one writes it by hand."""
    fused = device.type in ("cuda", "cpu")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=fused)
    optimizer_d = torch.optim.AdamW(critic.parameters(), lr=1e-4, fused=fused)
    criterion = nn.L1Loss()
    softplus = nn.functional.softplus
    wait_for(device)
    start = time.perf_counter()
    for step in range(steps):
        lq, gt = on_device(batches[step % len(batches)], device)
        critic.requires_grad_(requires_grad=False)
        optimizer.zero_grad(set_to_none=True)
        made = network(lq)
        (criterion(made, gt) + GAN_WEIGHT * softplus(-critic(made)).mean()).backward()
        optimizer.step()
        critic.requires_grad_(requires_grad=True)
        optimizer_d.zero_grad(set_to_none=True)
        told = softplus(-critic(gt)).mean() + softplus(critic(made.detach())).mean()
        told.backward()
        optimizer_d.step()
        if (step + 1) % 100 == 0:
            told.item()
    wait_for(device)
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
    batches: Sequence[Batch],
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
    loader.deal = Deal(runtime.team.rank, (1.0,) * runtime.team.size)
    recipe.set_dynamic_wrappers(loader, loader)
    fit = make_fit(options, runtime.device) if fitted else None
    parts: list[Part] = [] if fit is None else [fit]
    clock = Stopwatch()
    loop_clock = LoopClock(runtime.device, fit)
    run = Run(
        options,
        recipe,
        StepStream(loader, clock),
        loader,
        folders,
        (*parts, Reporter(), loop_clock),
        tracker,
        Interrupts(),
        clock,
    )
    run.train()
    tracker.close()
    return loop_clock.seconds


def alternate(
    setup: Setup, runtime: Runtime, rounds: int, end: float = float("inf")
) -> dict[str, list[float]]:
    """Milliseconds of a step in each loop, round by round.

    Args:
        setup: what is trained.
        runtime: device and precision.
        rounds: that count; one more before them warms up.
        end: on the monotonic clock, after which no round is begun.
    """
    batches = setup.batches(pinned=runtime.device.type == "cuda")
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        options = setup.options(Path(folder))
        for number in range(rounds + 1):
            if number > 1 and time.monotonic() > end:
                break
            for name in LOOPS if number % 2 else reversed(LOOPS):
                network = setup.build().to(runtime.device).train()
                critic = setup.build_critic()
                if name == "bare" and critic is not None:
                    critic = critic.to(runtime.device).train()
                    seconds = bare_gan_loop(network, critic, batches, setup.steps, runtime.device)
                elif name == "bare":
                    seconds = bare_loop(network, batches, setup.steps, runtime.device)
                else:
                    fitted = name == "automation"
                    seconds = framework_loop(options, runtime, network, batches, fitted=fitted)
                if number:  # the first round warms up
                    times[name].append(seconds / setup.steps * 1000)
    return times


def ratio_of(times: dict[str, list[float]], name: str, other: str) -> float:
    """How many times as long a step takes, as the median of neighbouring rounds."""
    pairs = zip(times[name], times[other], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


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
    parser.add_argument("--gan", default="", help="a discriminator to train against (none)")
    parser.add_argument("--cpu", action="store_true", help="on the CPU even if there is a GPU")
    arguments = parser.parse_args(argv)
    setup_logging()
    # As train.py has it: without the search for kernels a GPU would be measured in another state.
    configure_backends(deterministic=False, fast_matmul=False)
    runtime = Runtime(choose_device(0 if arguments.cpu else "auto"))
    shape = Shape(arguments.lq_size, arguments.batch)
    setup = Setup(
        arguments.network,
        shape,
        scale=arguments.scale,
        steps=arguments.steps,
        discriminator=arguments.gan,
    )
    times = alternate(setup, runtime, arguments.rounds)
    against = f"against {arguments.gan} " if arguments.gan else ""
    print(
        f"{describe_device(runtime.device)}, torch {torch.__version__}: {arguments.network} "
        f"{against}"
        f"x{arguments.scale}, batch {arguments.batch}, lq_size {arguments.lq_size}, "
        f"{arguments.rounds} rounds of {arguments.steps} steps"
    )
    for name, values in times.items():
        print(
            f"{name:<10} fastest {min(values):8.2f} ms a step, median "
            f"{statistics.median(values):8.2f}"
        )
    for name, other in (("framework", "bare"), ("automation", "framework")):
        fastest = min(times[name]) / min(times[other])
        print(
            f"{name} / {other}: {ratio_of(times, name, other):.3f} (median of neighbours; of the "
            f"fastest rounds {fastest:.3f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
