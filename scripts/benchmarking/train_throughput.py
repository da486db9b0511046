#!/usr/bin/env python3
"""How fast networks are trained: samples a second and the memory's peak, by precision, layout,
compilation, optimizer and with a discriminator.

    python scripts/benchmarking/train_throughput.py --networks span_s --lq-size 64 --batch 8

Steps are those of the real recipe on pixels that are there already: nothing is read, validated or
saved. The variants of a network take turns, and ratios are to the first; the best turn counts,
because others on the machine only make a turn slower.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import yaml
from rich.table import Table

from scripts.benchmarking.realtime_fps import PeakMemory, check_networks, describe_failure
from traiNNer.engine.logs import print_table
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.trial import trial_work
from traiNNer.utils.device import (
    Runtime,
    autocast_dtype,
    choose_device,
    configure_backends,
    describe_device,
    is_emulated,
)
from traiNNer.utils.errors import OptionsError

NETWORKS = ("compact", "span_s", "realplksr_s", "esrgan_lite", "swinir_s")
GPU_VARIANTS = (
    "fp32",
    "fp16",
    "bf16",
    "bf16-cl",
    "bf16-cl-compile",
    "bf16-cl-unfused",
    "bf16-cl-gan",
)
CPU_VARIANTS = ("fp32", "fp32-cl", "bf16", "fp32-unfused", "fp32-gan")
# Characters of a reason in the table.
LONGEST = 80
PRECISIONS = ("fp32", "fp16", "bf16")
FLAGS = {
    "cl": "channels_last",
    "compile": "torch.compile",
    "unfused": "an optimizer that is not fused",
    "gan": "a discriminator (unet_sn)",
}


def parse_variant(text: str) -> str:
    """`TYPE[-FLAG...]`.

    Raises:
        ArgumentTypeError: for what is none.
    """
    precision, *flags = text.split("-")
    if precision not in PRECISIONS or not set(flags) <= FLAGS.keys():
        raise argparse.ArgumentTypeError(
            f"{text}: expected {', '.join(PRECISIONS)}, then any of "
            f"{', '.join(f'-{flag}' for flag in FLAGS)}"
        )
    return text


def options_of(network: str, variant: str, arguments: argparse.Namespace) -> TrainingOptions:
    """A training of the network in that variant.

    Raises:
        OptionsError: saying what does not go together.
    """
    precision, *flags = variant.split("-")
    optimizer: dict[str, Any] = {"type": "AdamW", "lr": 1e-4}
    if "unfused" in flags:
        optimizer["fused"] = False
    losses: list[dict[str, Any]] = [{"type": "charbonnier"}]
    values: dict[str, Any] = {
        "name": "throughput",
        "scale": arguments.scale,
        "use_amp": precision != "fp32",
        "amp_bf16": precision == "bf16",
        "use_channels_last": "cl" in flags,
        "use_compile": "compile" in flags,
        "datasets": {
            "train": {
                "type": "PairedImageDataset",
                "dataroot_gt": "gt",
                "dataroot_lq": "lq",
                "lq_size": arguments.lq_size,
                "batch_size_per_gpu": arguments.batch,
            }
        },
        "network_g": {"type": network},
        "train": {"total_iter": 1000, "optim_g": optimizer, "losses": losses},
        "val": {"val_enabled": False},
    }
    if "gan" in flags:
        values["network_d"] = {"type": "unet_sn"}
        values["train"]["optim_d"] = optimizer
        losses.append({"type": "gan", "loss_weight": 0.1})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "throughput.yml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return load_options(TrainingOptions, path, [])


@dataclass
class Training:
    """Steps of a training, and what came of them."""

    options: TrainingOptions
    runtime: Runtime
    seconds: float
    samples_per_s: float = 0.0
    lq_mpixels_per_s: float = 0.0

    def play(self) -> None:
        """Make the steps."""
        work = trial_work(self.options, self.runtime, self.seconds)
        self.samples_per_s = work.samples / work.seconds
        self.lq_mpixels_per_s = work.pixels / work.seconds / 1e6


@dataclass
class Figures:
    """The best of all turns of a variant, or why there is none."""

    samples_per_s: float = 0.0
    lq_mpixels_per_s: float = 0.0
    peak_bytes: int | None = None
    failure: str = ""


def measure(
    network: str, arguments: argparse.Namespace, device: torch.device, peaks: PeakMemory
) -> dict[str, Figures]:
    """A network in each variant."""
    found = {variant: Figures() for variant in arguments.variants}
    for _ in range(arguments.rounds):
        for variant, figures in found.items():
            if not figures.failure:
                _take_turn(figures, network, variant, arguments, device, peaks)
    return found


def _take_turn(
    figures: Figures,
    network: str,
    variant: str,
    arguments: argparse.Namespace,
    device: torch.device,
    peaks: PeakMemory,
) -> None:
    try:
        options = options_of(network, variant, arguments)
    except OptionsError as error:
        figures.failure = str(error).splitlines()[-1].strip()[:LONGEST]
        return
    amp_dtype = autocast_dtype(use_amp=options.use_amp, amp_bf16=options.amp_bf16)
    if amp_dtype is not None and is_emulated(device, amp_dtype):
        figures.failure = "this CPU has no arithmetic for it"
        return
    channels_last = options.use_channels_last is True
    runtime = Runtime(device, amp_dtype, channels_last, options.use_compile)
    if options.use_compile:
        # What was compiled before counts towards the limit of variants of the same code.
        torch.compiler.reset()
    try:
        training, peak = peaks.of(lambda: Training(options, runtime, arguments.seconds))
    except (RuntimeError, MemoryError) as error:
        figures.failure = describe_failure(error)
        return
    figures.samples_per_s = max(figures.samples_per_s, training.samples_per_s)
    figures.lq_mpixels_per_s = max(figures.lq_mpixels_per_s, training.lq_mpixels_per_s)
    if peak is not None:
        figures.peak_bytes = max(peak, figures.peak_bytes or 0)


def rows_of(network: str, found: dict[str, Figures]) -> list[list[str]]:
    """Of the table."""
    first = next(iter(found.values())).samples_per_s
    rows: list[list[str]] = []
    for variant, figures in found.items():
        if figures.failure:
            rows.append([network, variant, figures.failure, "", "", ""])
            continue
        ratio = f"{figures.samples_per_s / first:.2f}" if first else ""
        peak = "" if figures.peak_bytes is None else f"{figures.peak_bytes / 2**20:.0f}"
        rows.append(
            [
                network,
                variant,
                f"{figures.samples_per_s:.3g}",
                f"{figures.lq_mpixels_per_s:.3g}",
                ratio,
                peak,
            ]
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all of them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument(
        "--variants",
        nargs="+",
        type=parse_variant,
        metavar="VARIANT",
        help="fp32, fp16 or bf16, then any of "
        + ", ".join(f"-{flag} ({meaning})" for flag, meaning in FLAGS.items()),
    )
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--lq-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="of steps in a turn (3)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each variant (2)")
    parser.add_argument("--cpu", action="store_true", help="on the CPU even if there is a GPU")
    arguments = parser.parse_args(argv)
    device = choose_device(0 if arguments.cpu else "auto")
    try:
        check_networks(arguments.networks, arguments.scale)
    except OptionsError as error:
        parser.error(str(error))
    usual = CPU_VARIANTS if device.type == "cpu" else GPU_VARIANTS
    arguments.variants = arguments.variants or list(usual)
    configure_backends(deterministic=False, fast_matmul=True)
    peaks = PeakMemory(device)
    table = Table(
        title=f"training at {arguments.scale}x, batches of {arguments.batch} x "
        f"{arguments.lq_size} px, {describe_device(device)}, torch {torch.__version__}",
        title_justify="left",
    )
    for column in ("network", "variant", "samples/s", "LQ Mpx/s", "ratio", "peak MiB"):
        table.add_column(column, justify="left" if column in ("network", "variant") else "right")
    for network in arguments.networks:
        for row in rows_of(network, measure(network, arguments, device, peaks)):
            table.add_row(*row)
            print(*row, file=sys.stderr)
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
