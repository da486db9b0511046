"""`train.py` as a user starts it, in a process of its own, and what it says of itself."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.benchmarking.report.machine import ROOT
from scripts.benchmarking.report.outside import View, Watcher
from scripts.benchmarking.report.processes import Command, Ending

STEP = re.compile(r"^(\S+ \S+) INFO: \d+/\d+  ", re.M)
MOVE = re.compile(
    r"^(\S+ \S+) INFO: lq_size (\d+), batch (\d+) -> lq_size (\d+), batch (\d+): "
    r"predicted ([\d.]+)%",
    re.M,
)


class RunError(RuntimeError):
    """A run that did not come to its end."""


class NotBegunError(RunError):
    """A run whose time was up before its first step, which is no fault of its own."""


@dataclass
class TrainingRun:
    """A run that has ended.

    Attributes:
        log: of the run.
        curves: by tag: iteration -> value.
        watcher: saw it from outside.
        kernel_share: of the processor time of the run and its children, 0 to 1: what the system
            took for itself. NaN where the system does not tell.
        cut: it was interrupted because its time was up.
        folder: of the run.
    """

    log: str
    curves: dict[str, dict[int, float]]
    watcher: Watcher
    kernel_share: float
    cut: bool
    folder: Path

    def curve(self, tag: str) -> list[float]:
        """A curve at every iteration that has a shape; NaN where the curve has no point."""
        points = self.curves.get(tag, {})
        return [points.get(step, math.nan) for step in self.curves["dynamic/lq_size"]]

    def busy_share(self) -> float:
        """Share of the time between the first and the last step that kernels ran on the card."""
        times = STEP.findall(self.log)
        if not times:
            return math.nan
        return self.watcher.busy_between(seconds_of(times[0]), seconds_of(times[-1]))


def train(
    path: Path, view: View | None, limit_s: float = math.inf, arguments: Sequence[str] = ()
) -> TrainingRun:
    """Train with the options in a file, with a point of the curves at the iterations that they ask
    for.

    Args:
        path: of the options.
        view: of the process from outside.
        limit_s: after so many seconds the run is interrupted as by Ctrl-C, and counts as far as it
            came.
        arguments: further ones of the command.

    Raises:
        RunError: if it fails.
        NotBegunError: if it had not begun to train when its time was up.
    """
    options = yaml.safe_load(path.read_text(encoding="utf-8"))
    name = options["name"]
    before = _processor_times()
    command = Command([sys.executable, str(ROOT / "train.py"), "-opt", str(path), *arguments])
    watcher = Watcher(command.pid, view)
    try:
        # Threads of Python cannot wait for infinity.
        ending = command.wait(min(limit_s, 10.0**6), polite=True)
    finally:
        watcher.stop()
    if ending.code and not ending.timed_out:
        raise RunError(f"{name} {ending.describe(limit_s)}: {_complaint(ending)}")
    folder = Path(options["path"]["experiments_root"]) / name
    curves = read_curves(Path(options["path"]["tb_root"]) / name)
    if not curves.get("dynamic/lq_size"):
        raise NotBegunError(f"{name} had not begun to train after {ending.seconds:.0f} s")
    log = (folder / "log" / "train.log").read_text(encoding="utf-8")
    share = _kernel_share(before, _processor_times())
    return TrainingRun(log, curves, watcher, share, ending.timed_out, folder)


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Every point of every curve, by tag and iteration; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags: list[str] = events.Tags()["scalars"]
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


def seconds_of(stamp: str) -> float:
    """The time of a line of the log, as `time.time` counts."""
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007


def _complaint(ending: Ending) -> str:
    """The last thing that train.py said, which is its message."""
    return " / ".join(ending.last_lines(3))


def _processor_times() -> tuple[float, float]:
    """(the system's, all) seconds of the processor for the processes that have ended."""
    if sys.platform == "win32":
        return math.nan, math.nan
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_stime, used.ru_stime + used.ru_utime


def _kernel_share(before: tuple[float, float], after: tuple[float, float]) -> float:
    total = after[1] - before[1]
    return (after[0] - before[0]) / total if total else math.nan


def options_with_automation(limit_gib: float | None) -> dict[str, Any]:
    """The keys that switch the memory automation on."""
    automation = {"enabled": True, "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once"}}
    keys: dict[str, Any] = {"training_automations": automation}
    if limit_gib is not None:
        keys["vram_limit_gib"] = limit_gib
    return keys
