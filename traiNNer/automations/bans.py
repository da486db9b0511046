"""Sizes that ran out of memory, and for how long they are not tried again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from traiNNer.utils.shape import Shape

# Windows for which a size that failed is not tried again; twice as many at each further failure.
BAN_WINDOWS = 25


@dataclass
class Bans:
    """What is banned, by the window until which it is. Time is counted in windows."""

    _until: list[tuple[Shape, int]] = field(default_factory=list)

    def add(self, shape: Shape, now: int, failures: int) -> None:
        """Ban `shape` for the longer, the more failures there were (this one included)."""
        self._until.append((shape, now + BAN_WINDOWS * 2 ** min(10, failures - 1)))

    def smallest(self, now: int, pixels: Callable[[Shape], int]) -> float:
        """The most pixels that no ban forbids; infinite without one. What has ended is
        forgotten.
        """
        self._until = [(shape, until) for shape, until in self._until if until > now]
        return min((pixels(shape) - 1 for shape, _ in self._until), default=math.inf)

    def ends_in(self, now: int) -> int:
        """Windows until the first of them ends; 0 without one."""
        return min((until - now for _, until in self._until), default=0)

    def clear(self) -> None:
        """Forget all."""
        self._until.clear()

    def state(self) -> list[list[int]]:
        """For a checkpoint."""
        return [[shape.lq_size, shape.batch_size, until] for shape, until in self._until]

    def load(self, state: Iterable[Iterable[int]]) -> None:
        """Go on from what `state` gave."""
        self._until = [
            (Shape(lq_size, batch), until)
            for lq_size, batch, until in (map(int, ban) for ban in state)
        ]
