"""Frames per second of networks for playback."""

from __future__ import annotations

from scripts.benchmarking.realtime_fps import OUT_OF_MEMORY, PeakMemory, Plan, Variant
from scripts.benchmarking.realtime_fps import measure as measure_network
from scripts.benchmarking.report.results import Column
from scripts.benchmarking.report.task import Task
from traiNNer.utils.device import configure_backends, is_emulated
from traiNNer.utils.text import MIB

# The lightest and the two that presets name, a stack of frames, then what is heavier.
NETWORKS = (
    "superultracompact", "span_s", "temporal_stack:span_s:5", "compact", "span",
    "temporal_stack:superultracompact:5",
)  # fmt: skip
CPU_NETWORKS = ("superultracompact", "temporal_stack:superultracompact:5")
SIZES = ((1280, 720), (1920, 1080))
CPU_SIZES = ((64, 36), (128, 72))
VARIANTS = ("fp32", "fp16-cl", "bf16-cl", "amp-fp16")
CPU_VARIANTS = ("fp32", "fp32-cl", "bf16-cl")
GPU_S = 0.5
CPU_S = 0.1
# Seconds for a network at a size below which it is not begun: four kinds of kernels are searched.
LEAST_S = 3.0
COLUMNS = (
    Column("network", "network"),
    Column("size", "input"),
    Column("variant", "variant"),
    Column("frames_per_s", "from memory to memory", "frames/s"),
    Column("alone_per_s", "the network alone", "frames/s"),
    Column("ratio", "against fp32", digits=2),
    Column("peak_mib", "peak memory", "MiB", 0),
    Column("failure", "failure"),
)


def measure(task: Task) -> None:
    """All networks at the smaller size first."""
    configure_backends(deterministic=False, fast_matmul=True)
    networks = CPU_NETWORKS if task.is_small else NETWORKS
    sizes = CPU_SIZES if task.is_small else SIZES
    names = CPU_VARIANTS if task.is_small else VARIANTS
    parsed = [Variant.parse(name) for name in names]
    variants = [
        v for v in parsed if v.name.startswith("fp32") or not is_emulated(task.device, v.dtype)
    ]
    plan = Plan(variants, seconds=CPU_S if task.is_small else GPU_S, rounds=1)
    flag = " --cpu" if task.is_small else ""
    shown = " ".join(f"{width}x{height}" for width, height in sizes)
    task.notebook.command(
        f"python scripts/benchmarking/realtime_fps.py{flag} --networks {' '.join(networks)} "
        f"--sizes {shown} --variants {' '.join(v.name for v in variants)}"
    )
    for variant in parsed:
        if variant not in variants:
            task.notebook.missing(f"playback in {variant.name}: this CPU only emulates it")
    table = task.notebook.table("playback", "playback, 2x, 8 bit to 8 bit", COLUMNS)
    peaks = PeakMemory(task.device)
    for width, height in sizes:
        for network in networks:
            size = f"{width}x{height}"
            if not task.has_time(f"{network} at {size}", 0.0 if task.is_small else LEAST_S):
                continue
            speeds = measure_network(network, (width, height), plan, task.device, peaks)
            for variant, speed in speeds.items():
                cells = {"network": network, "size": size, "variant": variant.name}
                if speed.failure:
                    task.notebook.add(table, **cells, failure=speed.failure)
                    # A small card is no fault; the cell says it.
                    if speed.failure != OUT_OF_MEMORY:
                        task.notebook.fault(
                            f"{network} at {size} in {variant.name} {speed.failure}"
                        )
                    continue
                task.notebook.add(
                    table,
                    **cells,
                    frames_per_s=speed.frames_per_s,
                    alone_per_s=speed.alone_per_s,
                    ratio=speed.ratio,
                    peak_mib=None if speed.peak_bytes is None else speed.peak_bytes / MIB,
                )
