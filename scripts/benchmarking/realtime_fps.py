#!/usr/bin/env python3
"""Frames per second and peak memory of the networks for playback and streams, in every precision
and layout.

python scripts/benchmarking/realtime_fps.py --networks span_s temporal_stack:span_s:5 --sizes
1280x720 1920x1080

What is measured is what playback pays for one more frame: 8-bit frames go to the device, through
the network, and an 8-bit frame comes back. `alone` is the network by itself. A network over stacked
frames sees all its frames for each one that it makes; one that makes every frame of a clip is timed
over a clip of seven, and divided by seven.

fp16 and bf16 are weights and frames in that type, as players run them; amp-fp16 and amp-bf16 are
autocast, as test.py does it. The variants of a network take turns, so that they can be compared;
other machines' figures cannot.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from traiNNer.archs import ArchSpec, build_network
from traiNNer.automations.cpu_memory import choose_probe
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.device import Runtime, choose_device, configure_backends, describe_device
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.registry import ARCHS, UnknownNameError

NETWORKS = (
    "superultracompact", "ultracompact", "compact", "span_s", "span", "plksr_tiny",
    "temporal_stack:superultracompact:5", "temporal_stack:span_s:5", "deform_align", "recurrent",
)  # fmt: skip
GPU_SIZES = ("1280x720", "1920x1080")
CPU_SIZES = ("160x90", "320x180")
GPU_VARIANTS = ("fp32", "amp-fp16", "fp16", "fp16-cl", "bf16-cl")
CPU_VARIANTS = ("fp32", "fp32-cl", "amp-bf16", "bf16-cl")
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Frames of a clip for networks that make all of them.
CLIP = 7
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Variant:
    """How a network runs: `[amp-]TYPE[-cl][-compile]`."""

    name: str
    dtype: torch.dtype
    amp: bool
    channels_last: bool
    compile: bool

    @classmethod
    def parse(cls, name: str) -> Variant:
        """Raises ArgumentTypeError for what is none."""
        parts = name.split("-")
        amp = parts[0] == "amp"
        parts = parts[parts[0] == "amp" :]
        flags = parts[1:]
        if (
            not parts
            or parts[0] not in TYPES
            or not set(flags) <= {"cl", "compile"}
            or (amp and parts[0] == "fp32")
        ):
            raise argparse.ArgumentTypeError(
                f"{name}: expected fp32, fp16, bf16, amp-fp16 or amp-bf16, then -cl "
                "(channels_last) and -compile"
            )
        return cls(name, TYPES[parts[0]], amp, "cl" in flags, "compile" in flags)


class Contestant:
    """A network in one variant, with frames to run it on.

    Args:
        network: in evaluation mode, on the CPU, in float32.
        frames: uint8 on the CPU: `(1, 3, H, W)`, or `(1, T, 3, H, W)` for a network that takes
            clips.
        outputs: frames that one run makes.
    """

    def __init__(
        self,
        network: nn.Module,
        frames: Tensor,
        outputs: int,
        variant: Variant,
        device: torch.device,
    ) -> None:
        self.runtime = Runtime(
            device, variant.dtype if variant.amp else None, variant.channels_last
        )
        self.dtype = torch.float32 if variant.amp else variant.dtype
        self.network: Callable[[Tensor], Tensor] = self.runtime.place(network).to(self.dtype)
        if variant.compile:
            # What was compiled before counts towards the limit of variants of the same code, beyond
            # which torch computes without compiling and says nothing that anybody would see.
            torch.compiler.reset()
            self.network = torch.compile(network)
        self.frames = frames.pin_memory() if device.type == "cuda" else frames
        self.outputs = outputs

    def load(self) -> Tensor:
        """The frames on the device, in [0, 1]."""
        frames = self.frames.to(self.runtime.device, non_blocking=True).to(self.dtype).div_(255)
        return (
            frames.contiguous(memory_format=self.runtime.memory_format)
            if frames.ndim == 4
            else frames
        )

    @torch.inference_mode()
    def play(self) -> None:
        """From 8 bit in memory to 8 bit in memory."""
        self._forward(self.load()).clamp_(0, 1).mul_(255).round_().to(torch.uint8).cpu()

    @torch.inference_mode()
    def seconds(self, budget_s: float) -> tuple[float, float]:
        """Medians: (a frame from memory to memory, a frame in the network alone)."""
        whole = []
        alone = []
        end = time.perf_counter() + budget_s
        loaded = self.load()
        while time.perf_counter() < end or not whole:
            whole.append(self._timed(self.play))
            alone.append(self._timed(lambda: self._forward(loaded)))
        return statistics.median(whole) / self.outputs, statistics.median(alone) / self.outputs

    def _forward(self, frames: Tensor) -> Tensor:
        with self.runtime.autocast():
            return self.network(frames)

    def _timed(self, run: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.runtime.device.type == "cuda":
            torch.cuda.synchronize()
        elif self.runtime.device.type == "mps":
            torch.mps.synchronize()


class Playable(Protocol):
    """Something that can be run once."""

    def play(self) -> None:
        """Run."""
        ...


P = TypeVar("P", bound=Playable)


class PeakMemory:
    """What a run takes at most: the allocator's peak on a GPU, the growth of resident memory on a
    CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._probe = choose_probe() if device.type == "cpu" else None

    def of(self, prepare: Callable[[], P]) -> tuple[P, int | None]:
        """The contestant after a first run, and bytes; None where nothing can be read."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            contestant = self._run(prepare)
            return contestant, torch.cuda.max_memory_reserved(self._device)
        if self._probe is None:
            return self._run(prepare), None
        self._probe.trim()
        self._probe.reset()
        before, _ = self._probe.read()
        contestant = self._run(prepare)
        return contestant, self._probe.read()[1] - before

    @staticmethod
    def _run(prepare: Callable[[], P]) -> P:
        contestant = prepare()
        contestant.play()
        return contestant


def find(text: str) -> tuple[str, dict[str, object], ArchSpec]:
    """Name, parameters and facts of `NAME`, or `temporal_stack:ARCH[:FRAMES]`."""
    name, *rest = text.split(":")
    parameters: dict[str, object] = {}
    if rest:
        parameters = {"arch": rest[0], "frames": int(rest[1]) if len(rest) > 1 else 5}
    return name, parameters, ARCHS[name].for_parameters(parameters)


def make_frames(
    spec: ArchSpec, parameters: dict[str, object], size: tuple[int, int]
) -> tuple[Tensor, int]:
    """Frames of noise for one run, their sides cut to what the network takes; and how many frames
    it makes of them.
    """
    width, height = (round_down(side, spec.size_multiple) for side in size)
    clip = spec.frames_of(parameters) or CLIP if spec.temporal else None
    shape = (1, 3, height, width) if clip is None else (1, clip, 3, height, width)
    frames = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return frames, CLIP if spec.target == "all" else 1


@dataclass(frozen=True)
class Speed:
    """A network at a size in one variant.

    Attributes:
        frames_per_s: from memory to memory.
        alone_per_s: of the network by itself.
        ratio: to the first variant's frames_per_s; None if that one failed.
        peak_bytes: at most; None where nothing can be read.
        failure: why there are no figures; empty if there are.
    """

    frames_per_s: float = 0.0
    alone_per_s: float = 0.0
    ratio: float | None = None
    peak_bytes: int | None = None
    failure: str = ""

    def cells(self) -> list[str]:
        """Of the table."""
        if self.failure:
            return [self.failure, "", "", ""]
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        peak = "unknown" if self.peak_bytes is None else f"{self.peak_bytes / 2**20:.0f}"
        return [f"{self.frames_per_s:.3g}", f"{self.alone_per_s:.3g}", ratio, peak]


@dataclass(frozen=True)
class Plan:
    """How everything is measured.

    Attributes:
        variants: that take turns; the first is what the others are compared with.
        scale: of the networks.
        seconds: for a network in a variant and round.
        rounds: turns of each variant.
    """

    variants: Sequence[Variant]
    scale: int = 2
    seconds: float = 2.0
    rounds: int = 3


def measure(
    text: str, size: tuple[int, int], plan: Plan, device: torch.device, peaks: PeakMemory
) -> dict[Variant, Speed]:
    """A network at a size, in each variant."""
    name, parameters, spec = find(text)
    frames, outputs = make_frames(spec, parameters, size)

    def contestant(variant: Variant) -> Contestant:
        network = build_network(name, scale=plan.scale, **parameters).eval()
        return Contestant(network, frames, outputs, variant, device)

    times: dict[Variant, list[tuple[float, float]]] = {variant: [] for variant in plan.variants}
    memory: dict[Variant, int | None] = {}
    failures: dict[Variant, str] = {}
    for turn in range(plan.rounds):
        for variant in plan.variants if turn % 2 else reversed(plan.variants):
            if variant in failures:
                continue
            try:
                running, peak = peaks.of(lambda variant=variant: contestant(variant))
                memory[variant] = None if peak is None else max(peak, memory.get(variant) or 0)
                times[variant].append(running.seconds(plan.seconds))
            except (RuntimeError, MemoryError) as error:
                failures[variant] = describe_failure(error)
            running = None
    first = times[plan.variants[0]]
    reference = statistics.median(seconds for seconds, _ in first) if first else None
    speeds: dict[Variant, Speed] = {}
    for variant in plan.variants:
        if variant in failures:
            speeds[variant] = Speed(failure=failures[variant])
            continue
        whole, alone = (statistics.median(values) for values in zip(*times[variant], strict=True))
        ratio = None if reference is None else reference / whole
        speeds[variant] = Speed(1 / whole, 1 / alone, ratio, memory[variant])
    return speeds


def describe_failure(error: Exception) -> str:
    """In a cell of a table."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"fails: {lines[0][:80]}"


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of WxH."""
    try:
        width, height = (int(side) for side in text.lower().split("x"))
    except ValueError:
        width = height = 0
    if min(width, height) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected WIDTHxHEIGHT, for example 1280x720")
    return width, height


def check_networks(networks: Sequence[str], scale: int) -> None:
    """Raise OptionsError for what cannot be built, before anything is measured."""
    for text in networks:
        try:
            name, parameters, _ = find(text)
            with torch.device("meta"):
                build_network(name, scale=scale, **parameters)
        except (UnknownNameError, OptionsError, ValueError) as error:
            raise OptionsError(f"--networks {text}: {error}") from error


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME",
                        help="in the catalogue, or temporal_stack:ARCH:FRAMES (default: ten of "
                             "them)")  # fmt: skip
    parser.add_argument("--sizes", nargs="+", type=parse_size, metavar="WxH",
                        help="of the input (default: 1280x720 1920x1080; on a CPU 160x90 "
                             "320x180)")  # fmt: skip
    parser.add_argument("--variants", nargs="+", type=Variant.parse, metavar="VARIANT",
                        help=f"default: {' '.join(GPU_VARIANTS)}; on a CPU "
                             f"{' '.join(CPU_VARIANTS)}; add -compile for torch.compile. Ratios "
                             "are to the first")  # fmt: skip
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="for a network in a variant and round (default: 2)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each variant (default: 3)")
    parser.add_argument("--cpu", action="store_true", help="on the CPU even if there is a GPU")
    arguments = parser.parse_args(argv)
    device = choose_device(0 if arguments.cpu else "auto")
    small = device.type == "cpu"
    arguments.sizes = arguments.sizes or [
        parse_size(size) for size in (CPU_SIZES if small else GPU_SIZES)
    ]
    arguments.variants = arguments.variants or [
        Variant.parse(v) for v in (CPU_VARIANTS if small else GPU_VARIANTS)
    ]
    try:
        check_networks(arguments.networks, arguments.scale)
    except OptionsError as error:
        parser.error(str(error))
    configure_backends(deterministic=False, fast_matmul=True)
    peaks = PeakMemory(device)
    print(f"{describe_device(device)}, torch {torch.__version__}, x{arguments.scale}")
    print(
        f"\n| network | input | variant | frames/s | alone | ratio to {arguments.variants[0].name} "
        "| peak MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    plan = Plan(arguments.variants, arguments.scale, arguments.seconds, arguments.rounds)
    for size in arguments.sizes:
        for text in arguments.networks:
            for variant, speed in measure(text, size, plan, device, peaks).items():
                cells = [text, f"{size[0]}x{size[1]}", variant.name, *speed.cells()]
                print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
