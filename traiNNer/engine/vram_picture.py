"""One picture of how a run used the memory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

from traiNNer.utils.files import write_atomic


def save_vram_picture(path: Path, history: Sequence[dict[str, float]], title: str) -> None:
    """Draw use and target, lq_size, batch size and the times memory ran out over the iterations, as
    PNG.

    Args:
        path: of the picture.
        history: points with `iteration`, `lq_size`, `batch_size` and the tags of vram/ and
            dynamic/.
        title: above the picture.

    Raises:
        DiskError: if it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    memory, side, batch = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    iterations = [point["iteration"] for point in history]
    memory.plot(
        iterations, [point.get("vram/used_pct", float("nan")) for point in history], label="used"
    )
    memory.plot(
        iterations,
        [point.get("vram/target_pct", float("nan")) for point in history],
        "--",
        color="gray",
        label="target",
    )
    failed = [
        now["iteration"]
        for before, now in itertools.pairwise(history)
        if now.get("dynamic/oom_total", 0) > before.get("dynamic/oom_total", 0)
    ]
    for number, iteration in enumerate(failed):
        memory.axvline(
            iteration, color="tab:red", alpha=0.6, label="out of memory" if number == 0 else None
        )
    memory.set(ylabel="memory used (%)", ylim=(0, 105), title=title)
    memory.legend(loc="lower right")
    side.step(iterations, [point["lq_size"] for point in history], where="post", color="tab:green")
    side.set(ylabel="lq_size (px)", ylim=(0, None))
    batch.step(
        iterations, [point["batch_size"] for point in history], where="post", color="tab:purple"
    )
    batch.set(ylabel="batch size", xlabel="iteration", ylim=(0, None))
    for axes in (memory, side, batch):
        axes.grid(alpha=0.3)
    if _ends_early(history):
        # A climb at the very beginning would be a wall at the left edge.
        batch.set(xscale="log", xlabel="iteration (logarithmic)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())


def _ends_early(history: Sequence[dict[str, float]]) -> bool:
    """Whether the sizes stay for nine tenths of the run."""
    last = history[-1]
    sizes = ("lq_size", "batch_size")
    before = [p["iteration"] for p in history if any(p[size] != last[size] for size in sizes)]
    return bool(before) and before[-1] < last["iteration"] / 10
