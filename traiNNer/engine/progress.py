"""How fast the run is, measured between two readings; a bar on a terminal, plain lines
elsewhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from traiNNer.engine.logs import console
from traiNNer.utils.shape import Shape


@dataclass(frozen=True)
class Speed:
    """Rates over the iterations since the last reading; validation and saving are not counted."""

    iterations_per_s: float
    samples_per_s: float
    lq_mpixels_per_s: float
    data_wait_pct: float


# Steps at a shape whose time is looked at, one by one; their median is the shape's. They are few,
# for on a GPU the host waits for each of them.
STEPS_TIMED = 8


class ShapeSpeed:
    """LQ pixels a second at the present shape, by its first steps but the very first, which
    searches for kernels and takes memory anew.

    Args:
        wait: for the device, where the host runs ahead of it.

    Attributes:
        now: seconds since any moment; a benchmark may have its own.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.wait = wait
        self.now: Callable[[], float] = time.perf_counter
        self._shape: Shape | None = None
        self._rates: list[float] = []
        self._last = 0.0

    @property
    def rate(self) -> float | None:
        """LQ pixels a second; None before a second step at the shape."""
        return statistics.median(self._rates) if self._rates else None

    def count(self, shape: Shape, pixels: int, outside: float) -> None:
        """One step more.

        Args:
            shape: that entered the network.
            pixels: LQ pixels of the step.
            outside: seconds of it in which nothing was trained.
        """
        if len(self._rates) >= STEPS_TIMED and shape == self._shape:
            return
        self.wait()
        now = self.now()
        if shape == self._shape:
            self._rates.append(pixels / max(now - self._last - outside, 1e-9))
        else:
            self._shape = shape
            self._rates = []
        self._last = now


class Stopwatch:
    """Counts iterations, samples and pixels against a clock that nobody sets.

    Attributes:
        shape_speed: that of the present shape; its clock is that of all.
    """

    def __init__(self) -> None:
        self.shape_speed = ShapeSpeed()
        self._began = self.now()
        self._outside_step = 0.0
        self.restart()

    def now(self) -> float:
        """Seconds since any moment."""
        return self.shape_speed.now()

    def begin(self, earlier: float) -> None:
        """The training begins; `earlier` are the seconds of its former sittings."""
        self._began = self.now() - earlier
        self.restart()

    @property
    def seconds(self) -> float:
        """Of the whole run so far, all sittings together."""
        return self.now() - self._began

    def restart(self) -> None:
        """Begin to count here."""
        self._start = self.now()
        self._outside = self._waiting = 0.0
        self._iterations = self._samples = self._pixels = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent on waiting for data."""
        start = self.now()
        yield
        self._waiting += self.now() - start

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Time that is not training: validating, saving."""
        start = self.now()
        yield
        seconds = self.now() - start
        self._outside += seconds
        self._outside_step += seconds

    def count(self, shape: Shape, samples: int, pixels: int) -> None:
        """One iteration at `shape`, over `samples` samples of `pixels` LQ pixels in all."""
        self.shape_speed.count(shape, pixels, self._outside_step)
        self._outside_step = 0.0
        self._iterations += 1
        self._samples += samples
        self._pixels += pixels

    def look(self) -> Speed:
        """The rates since the last reading."""
        seconds = max(self.now() - self._start - self._outside, 1e-9)
        return Speed(
            self._iterations / seconds,
            self._samples / seconds,
            self._pixels / seconds / 1e6,
            100 * self._waiting / seconds,
        )

    def read(self) -> Speed:
        """The same, and start anew."""
        speed = self.look()
        self.restart()
        return speed


def duration(seconds: float) -> str:
    """For example 0:03:20."""
    return str(timedelta(seconds=round(seconds)))


def bar_columns() -> tuple[ProgressColumn, ...]:
    """Count, bar, time and words."""
    # The words may hold names of files, which are no markup.
    words = TextColumn("{task.description}", markup=False)
    count = TextColumn("{task.fields[count]}", markup=False)
    return count, BarColumn(), TimeElapsedColumn(), words


class ProgressBar:
    """A live bar on a terminal; nothing elsewhere."""

    def __init__(self, total: float, done: float) -> None:
        self._total = total
        self._done = done
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(*bar_columns(), console=console, transient=True)
        self._task: TaskID | None = None
        if self._progress is not None:
            self._task = self._progress.add_task(
                "", total=total, completed=round(done), count=f"{done}/{total}"
            )
            self._progress.start()

    def advance(self) -> None:
        """One more of those that are counted."""
        self.reach(self._done + 1, f"{self._done + 1}/{self._total}")

    def reach(self, done: float, count: str) -> None:
        """So much is done, and `count` says it in words."""
        self._done = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, count=count)

    def say(self, text: str) -> None:
        """The words beside the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=text)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
