"""How processes that train together share the positions of one stream of samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Deal:
    """Of every step each process has its own samples, and together they are the next positions.

    Attributes:
        rank: of this process.
        shares: how many times the batch that is asked for each process takes, 1 or more. Where all
            are 1, positions go to the processes by turns, whatever the batch.
    """

    rank: int = 0
    shares: tuple[float, ...] = (1.0,)

    @cached_property
    def is_even(self) -> bool:
        """Whether all processes take the batch that is asked for."""
        return all(share == 1 for share in self.shares)

    def batches(self, batch_size: int) -> list[int]:
        """Samples of each process, where so many are asked for."""
        return [_rounded(batch_size * share) for share in self.shares]

    def own(self, batch_size: int) -> int:
        """Samples of this process."""
        return self.batches(batch_size)[self.rank]

    def total(self, batch_size: int) -> int:
        """Samples of all processes."""
        return sum(self.batches(batch_size))

    def asked(self, own: int) -> int:
        """The batch that was asked for, of which this process has taken `own` samples."""
        return max(1, _rounded(own / self.shares[self.rank]))

    def consumed(self, own: int, batch_size: int) -> int:
        """Positions that all have used, where this process has used `own` samples."""
        if self.is_even:
            return own * len(self.shares)
        return own // self.own(batch_size) * self.total(batch_size)

    def position(self, start: int, number: int, batch_size: int) -> int:
        """Where this process's sample `number` stands in the stream.

        Args:
            start: positions that are used.
            number: of the sample, from 0.
            batch_size: that is asked for.
        """
        if self.is_even:
            return start + number * len(self.shares) + self.rank
        batches = self.batches(batch_size)
        step, place = divmod(number, batches[self.rank])
        return start + step * sum(batches) + sum(batches[: self.rank]) + place


def _rounded(value: float) -> int:
    """The nearest whole number, halves up."""
    return int(value + 0.5)
