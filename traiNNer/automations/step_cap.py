"""How many pixels a step may have for other reasons than the memory: its time, the speed that
larger ones lost, and the pace of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from traiNNer.utils.shape import Shape

# Share of the pixels a second that a move may lose; medians of a few steps differ by less.
TOLERATED_LOSS = 0.1
# A step may take so many times its bound before the sizes go down: times scatter.
LATE = 1.25
# Speed falls where steps become large, by half within one move at most: so a move of more than that
# goes half of the way that the present speed allows.
FALL = 2.0


@dataclass
class StepCap:
    """What is known of the time of steps, and of the place in the run. All of it is state.

    Attributes:
        pixels: padded pixels of the present shape.
        seconds: of a step of that.
        rate: LQ pixels a second at the present shape; None while it is not known.
        former: the shape before the last growth, until the present one has been judged by it.
        former_rate: LQ pixels a second there.
        barred: padded pixels of the smallest shape that lost too much speed; 0 for none.
        progress: the part of the run that is done.
    """

    pixels: int = 0
    seconds: float = 0.0
    rate: float | None = None
    former: Shape | None = None
    former_rate: float | None = None
    barred: int = 0
    progress: float = 0.0

    def note(self, pixels: int, rate: float | None, seconds: float | None) -> None:
        """A step at the present shape, of so many padded pixels."""
        self.rate = rate
        if rate is None or seconds is None:
            self.seconds = 0.0
            return
        self.pixels = pixels
        self.seconds = seconds

    def moved(self, former: Shape, *, grows: bool) -> None:
        """The shape is another one from now on."""
        self.former = former if grows and self.rate is not None else None
        self.former_rate = self.rate
        self.rate = None
        self.seconds = 0.0

    def why(self, most: float, most_seconds: float | None) -> str:
        """What bounds a step to `most` padded pixels, for the log."""
        if most < self.most_pixels(most_seconds):
            return "growth waits for its part of the run (pace: ramp)"
        if self.barred:
            return "larger steps lost speed (throughput_guard: revert)"
        return f"a step would take more than {most_seconds:g} s (max_step_seconds)"

    def describe(self) -> str:
        """The speed here and, behind a move, before it; empty where it is not known."""
        if self.rate is None:
            return ""
        before = "" if not self.former_rate else f", {self.former_rate / 1e6:.3g} before"
        return f"{self.rate / 1e6:.3g} LQ megapixels a second{before}"

    def lost(self) -> float:
        """The share of the pixels a second that the last growth has lost; negative if it gained."""
        if self.former is None or not self.former_rate or self.rate is None:
            return 0.0
        return 1 - self.rate / self.former_rate

    def is_late(self, most_seconds: float | None) -> bool:
        """Whether a step takes too long by far."""
        return most_seconds is not None and self.seconds > LATE * most_seconds

    def most_pixels(self, most_seconds: float | None) -> float:
        """By the speed: what a step may have, in padded pixels."""
        most = self.barred - 1 if self.barred else math.inf
        if most_seconds is None or not self.seconds:
            return most
        factor = most_seconds / self.seconds
        if factor > 1:
            factor = max(min(FALL, factor), factor / FALL)
        return min(most, factor * self.pixels)


@dataclass(frozen=True)
class Ramp:
    """How fast the pixels of a step may rise from those of the options to those that fill the
    memory.

    Attributes:
        begin: part of the run after which they rise.
        end: part of the run from which on nothing but the memory bounds them.
    """

    begin: float = 0.2
    end: float = 0.8

    def most_pixels(self, progress: float, start: float, full: float) -> float:
        """What a step may have, in padded pixels: by equal factors in equal parts of the run.

        Args:
            progress: the part of the run that is done.
            start: padded pixels that a step may have from the beginning on.
            full: those of the shape that fills the memory.
        """
        if progress >= self.end:
            return math.inf
        way = max(0.0, (progress - self.begin) / (self.end - self.begin))
        return start * max(1.0, full / start) ** way
