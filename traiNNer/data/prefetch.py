"""What was asked of the workers and is not handed out yet: how much, in which portions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from traiNNer.data.sample import Batch
from traiNNer.utils.arithmetic import ceil_div
from traiNNer.utils.errors import DataError


@dataclass(frozen=True, slots=True)
class Unit:
    """A list of requests on its way through a worker; of 0 samples where nothing was to be asked
    for.
    """

    samples: int
    lq_size: int


class Prefetch:
    """The samples between the stream of requests and the training step, in order: `received` ones,
    then asked ones.

    A DataLoader keeps `slots` lists of requests under way, whatever they ask for. So memory is
    bounded by what a list asks for: a unit of as many samples as a share of `prefetch_bytes` holds,
    no more than a batch, or of none at all while the bounds are reached. The bytes of a sample are
    measured on those that arrived; before the first one, a single sample is under way. A sample
    that is larger than the whole bound travels alone.

    Units end where batches end, so that in the long run a batch is made of whole units, and of one
    unit, without copying, where the bounds allow.

    Args:
        slots: lists that the DataLoader keeps under way; 0 reads nothing ahead.
        prefetch_bytes: bound on the tensors under way.
        prefetch_batches: how many batches may be under way (or as many samples as there are slots,
            if that is more).
    """

    def __init__(self, slots: int, prefetch_bytes: int, prefetch_batches: int) -> None:
        self.received: deque[Batch] = deque()
        self._asked: deque[Unit] = deque()
        self._slots = slots
        self._prefetch_bytes = prefetch_bytes
        self._prefetch_batches = prefetch_batches
        self._bytes_per_pixel: float | None = None

    @property
    def bytes_under_way(self) -> float:
        """Bytes of the samples that were asked for and have not arrived; 0 while the size of a
        sample is unknown.
        """
        return (self._bytes_per_pixel or 0) * sum(
            unit.samples * unit.lq_size**2 for unit in self._under_way()
        )

    @property
    def largest(self) -> int:
        """The largest crop that was asked for and is not handed out; 0 where there is none."""
        return max((unit.lq_size for unit in self._units() if unit.samples), default=0)

    def ask(self, batch_size: int, lq_size: int) -> int:
        """How many samples the next unit is to ask for, of `lq_size`. They count as under way from
        here on.
        """
        samples = min(self._batch_rest(batch_size, lq_size), self._unit_size(batch_size, lq_size))
        under_way = sum(unit.samples for unit in self._under_way())
        if under_way and samples > self._room(under_way, batch_size, lq_size):
            samples = 0
        self._asked.append(Unit(samples, lq_size))
        return samples

    def arrived(self, batch: Batch | None) -> None:
        """Take in what a worker made of the unit that was asked for first; None of an empty one.

        Raises:
            DataError: if it is not what was asked for.
        """
        unit = self._asked.popleft()
        if batch is None:
            assert not unit.samples
            return
        height, width = batch.lq_sides
        if (len(batch), height, width) != (unit.samples, unit.lq_size, unit.lq_size):
            raise DataError(
                f"the dataset was asked for {unit.samples} crops of {unit.lq_size}x{unit.lq_size} "
                f"LQ pixels and gave {len(batch)} of {width}x{height}, as for {batch.lq_paths[0]}; "
                "a dataset for training crops to the lq_size of the request"
            )
        # The largest seen: 16-bit images are four times as large as the others.
        self._bytes_per_pixel = max(
            self._bytes_per_pixel or 0, batch.nbytes / (unit.samples * unit.lq_size**2)
        )
        self.received.append(batch)

    def gather(self, wanted: int, lq_size: int, receive: Callable[[], Batch | None]) -> int:
        """Receive until `wanted` samples are there, or as many as there are before one of another
        size; how many. Nothing is handed out yet.

        Args:
            wanted: samples of a batch.
            lq_size: the present side of the crops; larger ones will be cropped to it.
            receive: waits for the next unit.

        Raises:
            DataError: as `receive` and `arrived` raise it.
        """
        samples = 0
        present_size = 0
        for place in range(wanted + 1):
            while place == len(self.received):
                self.arrived(receive())
            part = self.received[place]
            part_size = min(part.lq_size, lq_size)
            if samples and part_size != present_size:
                return samples
            present_size = part_size
            samples += len(part)
            if samples >= wanted:
                break
        return wanted

    def take(self, samples: int, lq_size: int) -> Batch:
        """The first samples of `received` as one batch; larger crops are cropped to `lq_size`."""
        parts: list[Batch] = []
        while samples:
            part = self.received.popleft()
            if len(part) > samples:
                part, rest = part.split(samples)
                self.received.appendleft(rest)
            samples -= len(part)
            parts.append(part.crop(min(lq_size, part.lq_size)))
        return Batch.merge(parts)

    def clear(self) -> None:
        """Forget all that is under way or received."""
        self.received.clear()
        self._asked.clear()

    def _batch_rest(self, batch_size: int, lq_size: int) -> int:
        """What the last batch asked for still lacks. Smaller crops form batches of their own."""
        begun = 0
        for unit in self._units():
            begun = 0 if unit.lq_size < lq_size else begun + unit.samples
        return batch_size - begun % batch_size

    def _units(self) -> Iterator[Unit]:
        return chain((Unit(len(batch), batch.lq_size) for batch in self.received), self._asked)

    def _under_way(self) -> Iterator[Unit]:
        # With all slots taken the DataLoader asks because the first unit has come, though it is not
        # handed out yet.
        return islice(self._asked, int(0 < self._slots <= len(self._asked)), None)

    def _unit_size(self, batch_size: int, lq_size: int) -> int:
        """Samples of a unit in the long run."""
        if not self._slots:
            return batch_size
        if self._bytes_per_pixel is None:
            return 1
        share = min(
            batch_size * self._prefetch_batches // self._slots,
            int(self._prefetch_bytes / self._slots / (self._bytes_per_pixel * lq_size**2)),
        )
        # Equal parts of a batch: 12 as 6 + 6 rather than as 7 + 5.
        parts = ceil_div(batch_size, max(1, share))
        return ceil_div(batch_size, parts)

    def _room(self, under_way: int, batch_size: int, lq_size: int) -> int:
        """How many more samples of this size may be under way beside those `under_way`."""
        if self._bytes_per_pixel is None:
            return 0
        most = max(self._slots, batch_size * self._prefetch_batches)
        left = (self._prefetch_bytes - self.bytes_under_way) / (self._bytes_per_pixel * lq_size**2)
        return min(most - under_way, int(left))
