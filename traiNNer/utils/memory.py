"""How much memory a training step needs: readings, where they come from, and what running out of it
looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class MemoryReading:
    """Memory of one device at one time, in bytes.

    Attributes:
        allocated_peak: the most that tensors took since the window began. Smooth and repeatable:
            fit on it.
        reserved_peak: the most that the process held since the window began. Constrain on it.
        outside: what the process's allocator does not hold: CUDA's context, libraries, other
            programs.
        total: what there is, or the limit that was set.
        alloc_retries: times since the window began that the allocator had to empty its cache to go
            on.
        baseline: what tensors took when the window began: weights, the optimizer's state, the
            process itself.
    """

    allocated_peak: int
    reserved_peak: int
    outside: int
    total: int
    alloc_retries: int = 0
    baseline: int = 0

    @property
    def used_share(self) -> float:
        """The share of `total` that was in use at the peak; 0.85 is 85 %."""
        return (self.outside + self.reserved_peak) / self.total

    @staticmethod
    def merged(readings: Sequence[MemoryReading]) -> MemoryReading:
        """The worst of several readings at one shape, of steps or of ranks: the largest peaks, the
        smallest total.
        """
        return MemoryReading(
            max(r.allocated_peak for r in readings),
            max(r.reserved_peak for r in readings),
            max(r.outside for r in readings),
            min(r.total for r in readings),
            max(r.alloc_retries for r in readings),
            min(r.baseline for r in readings),
        )


class MemoryBackend(Protocol):
    """What the automation asks of a device's memory."""

    @property
    def total(self) -> int:
        """Bytes that may be used."""
        ...

    def start_window(self) -> None:
        """Forget the peaks seen so far. Cheap enough for every step."""
        ...

    def read(self) -> MemoryReading:
        """The peaks since `start_window`. Waits for nothing on the device."""
        ...

    def release(self) -> None:
        """Give cached memory back; for changes of shape and after running out, never in the
        loop.
        """
        ...

    def describe(self) -> str:
        """What is measured, and what is not, in one line for the log."""
        ...
