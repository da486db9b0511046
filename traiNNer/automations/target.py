"""Which share of the memory is aimed at, and what is too much."""

from __future__ import annotations

import math
from dataclasses import dataclass

from traiNNer.automations.shape_search import Goal
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.memory import MemoryReading

# Where moves go, in safety margins from the target: at least, at most, and at most where nothing
# lies between. A little below it, for noise moves use both ways and the band ends just above.
AIM = (-0.45, -0.05, 0.13)
# The band around the target in which a run stays, in safety margins: wider than the aim, so that a
# run that has landed does not leave it by noise.
BAND = (-0.5, 0.15)
# The wider one of a run that had arrived and was resumed: its new process holds some megabytes more
# or less at the same shape (7 MiB of 1.1 GiB on a CPU; on a card the fragments differ), which is
# no reason to leave a shape that was right.
WIDE_BAND = (-1.0, 0.4)
# The middle of the aim, in safety margins: of two shapes, the one closer to it is better.
CENTER = -0.2


@dataclass(frozen=True)
class Target:
    """Shares of the memory between 0 and 1.

    Attributes:
        share: to use.
        margin: kept free above it for what cannot be predicted.

    Raises:
        OptionsError: if they do not leave anything below the whole memory.
    """

    share: float
    margin: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise OptionsError(
                f"target_vram_usage is {self.share}; expected a share between 0 and 1"
            )
        most = min(1 - self.share, self.share)
        if not 0 < self.margin < 1 - self.share or self.margin >= self.share:
            raise OptionsError(
                f"safety_margin is {self.margin}; with target_vram_usage {self.share} "
                f"expected above 0 and below {most:.2f}"
            )

    @property
    def limit(self) -> float:
        """Use above this is an emergency."""
        return self.share + self.margin

    @property
    def low(self) -> float:
        """Lower end of the band in which a run has arrived."""
        return self.share + BAND[0] * self.margin

    @property
    def high(self) -> float:
        """Upper end of the band."""
        return self.share + BAND[1] * self.margin

    def holds(self, used: float, *, wide: bool) -> bool:
        """Whether a run that uses this share is where it should be."""
        low, high = WIDE_BAND if wide else BAND
        return self.share + low * self.margin <= used <= self.share + high * self.margin

    @property
    def center(self) -> float:
        """What a move would best come to."""
        return self.share + CENTER * self.margin

    def alarming(self, reading: MemoryReading) -> bool:
        """Whether a step was about to fail: above the limit, or saved by emptying the cache."""
        return reading.used_share > self.limit or reading.alloc_retries > 0

    def goal(self, *, limit: float = math.inf, max_pixels: float = math.inf) -> Goal:
        """What a search looks for; see `Goal`."""
        low, high, ceiling = (self.share + part * self.margin for part in AIM)
        return Goal(low, high, ceiling, limit, max_pixels)
