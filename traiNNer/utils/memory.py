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
        """The worst of several readings of one device at one shape: the largest peaks, the smallest
        total.
        """
        return MemoryReading(
            max(r.allocated_peak for r in readings),
            max(r.reserved_peak for r in readings),
            max(r.outside for r in readings),
            min(r.total for r in readings),
            max(r.alloc_retries for r in readings),
            min(r.baseline for r in readings),
        )


@dataclass(frozen=True)
class MemoryLook:
    """Memory of one device at this moment, in bytes: no peaks, and nothing is forgotten by looking.

    Attributes:
        allocated: what tensors take; on a CPU what the process takes.
        reserved: what the process holds for them.
        outside: what the process's allocator does not hold, as in `MemoryReading`.
        total: what there is, or the limit that was set.
        available: what the system would still give, where that may be less than what is left of
            `total`: main memory, of which others take without being counted.
    """

    allocated: int
    reserved: int
    outside: int
    total: int
    available: int | None = None

    @property
    def used_share(self) -> float:
        """The share of `total` that is in use; 0.85 is 85 %."""
        return (self.outside + self.reserved) / self.total

    @property
    def headroom(self) -> int:
        """Bytes that can still be had."""
        left = max(0, self.total - self.outside - self.reserved)
        return left if self.available is None else min(left, self.available)


class MemoryBackend(Protocol):
    """What the automations ask of a device's memory.

    A step is measured between `start_window` and `read`. Only `start_window` forgets anything, so
    whoever else is curious may call `look` and `read` at any time, `look` from any thread.
    """

    @property
    def total(self) -> int:
        """Bytes that may be used."""
        ...

    def start_window(self) -> None:
        """Forget the peaks seen so far, and note what is taken already. Cheap enough for every
        step.
        """
        ...

    def read(self) -> MemoryReading:
        """The peaks since `start_window`. Waits for nothing on the device and changes nothing."""
        ...

    def look(self) -> MemoryLook:
        """What is taken now. Pure, cheap, and safe from any thread."""
        ...

    def release(self) -> None:
        """Give cached memory back; for changes of shape and after running out, never in the
        loop.
        """
        ...

    def describe(self) -> str:
        """What is measured, and what is not, in one line for the log."""
        ...

    def others(self) -> str:
        """Who else takes of this memory, in words; empty where that is not known. May take tenths
        of a second.
        """
        ...
