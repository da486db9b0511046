"""Readings of single steps, gathered in windows: one reading of a few steps at one shape."""

from __future__ import annotations

from dataclasses import dataclass, field

from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape

# Windows whose largest `outside` counts: other programs come and go, and who has just gone is
# likely to be back.
OUTSIDE_MEMORY = 3


@dataclass
class MeasuringWindow:
    """The window that is being filled, and what the last ones said. All of it is state.

    Attributes:
        total: bytes of the device, or the limit.
        entered: shape of the last recorded step.
        readings: of the steps so far.
        count: full windows so far; the time by which the automation goes.
        recent_outside: `outside` of the last windows, in bytes.
        last: the reading of the last full window.
    """

    total: int
    entered: Shape | None = None
    readings: list[MemoryReading] = field(default_factory=list)
    count: int = 0
    recent_outside: list[int] = field(default_factory=list)
    last: MemoryReading | None = None

    @property
    def outside(self) -> int:
        """Bytes that others are counted to hold."""
        return max(self.recent_outside, default=0)

    def take(
        self, shape: Shape, reading: MemoryReading, *, length: int, alarm: bool
    ) -> MemoryReading | None:
        """Take in a step; the reading of the window when that is full.

        The first step at a new shape is not measured: it carries searches for kernels and first
        allocations.

        Args:
            shape: that entered the network.
            reading: of that step.
            length: steps of a window.
            alarm: the reading is an emergency: it ends its window and stands for it.
        """
        if self.enters(shape):
            return None
        self.readings.append(reading)
        if len(self.readings) < length and not alarm:
            return None
        # the median: one step of a window may have had a guest
        middle = sorted(self.readings, key=lambda r: r.used_share)[len(self.readings) // 2]
        # an emergency may be a single step, and a median would hide it
        self.last = reading if alarm else middle
        self.readings = []
        self.total = self.last.total
        self.count += 1
        self.recent_outside = [*self.recent_outside, self.last.outside][-OUTSIDE_MEMORY:]
        return self.last

    def enters(self, shape: Shape) -> bool:
        """Note the shape of a step; whether it is another one, with which a window begins anew."""
        if shape == self.entered:
            return False
        self.entered = shape
        self.readings = []
        return True

    def interrupt(self) -> None:
        """Begin anew, whatever shape comes next."""
        self.entered = None
        self.readings = []
