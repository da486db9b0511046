"""Sizes that ran out of memory, and for how long they are not tried again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from traiNNer.utils.shape import Shape

# Windows for which a size that failed is not tried again; twice as many at each further failure.
# 25 windows of 4 steps are long beside a shrink, and short beside a run.
BAN_WINDOWS = 25
# Doublings after which a ban grows no longer: by then it outlasts any run.
DOUBLINGS = 10


@dataclass(frozen=True)
class Ban:
    """`shape`, and all that is as large, is not tried before window `until`."""

    shape: Shape
    until: int


@dataclass
class Bans:
    """What is banned. Time is counted in windows."""

    entries: list[Ban] = field(default_factory=list)

    def add(self, shape: Shape, now: int, failures: int) -> None:
        """Ban `shape` for the longer, the more failures there were (this one included)."""
        length = BAN_WINDOWS * 2 ** min(DOUBLINGS, failures - 1)
        self.entries = [*self._standing(now), Ban(shape, now + length)]

    def most_pixels(self, now: int, pixels: Callable[[Shape], int]) -> float:
        """The most pixels that no ban forbids; infinite without one."""
        return min((pixels(ban.shape) - 1 for ban in self._standing(now)), default=math.inf)

    def ends_in(self, now: int) -> int:
        """Windows until the first of them ends; 0 without one."""
        return min((ban.until - now for ban in self._standing(now)), default=0)

    def _standing(self, now: int) -> list[Ban]:
        return [ban for ban in self.entries if ban.until > now]
