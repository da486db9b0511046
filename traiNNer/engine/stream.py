"""The samples of each step, out of an endless stream of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from traiNNer.data import Batch, DynamicDataLoaderWrapper
from traiNNer.engine.interrupts import Interrupts
from traiNNer.engine.progress import Stopwatch
from traiNNer.utils.errors import StopRequested
from traiNNer.utils.shape import Shape

# Of a batch's pixels: with that many in another form it tells what the batch takes.
ALIKE = 0.97


@dataclass
class StepStream:
    """Reads what a step is made of.

    Attributes:
        loader: endless batches.
        clock: told how long reading was waited for.
        accum_iter: batches of a step.
        effective_batch_size: samples of a step; None for `accum_iter` batches, whatever their size.
        interrupts: may end the wait for samples.
        min_batch: samples below which the network cannot be trained on a batch. One that is
            shorter, as the last one of a step or of a patch size may be, goes with its neighbour.
        shape_of_batch: what a batch is to be, of what is asked for and its place in the data; None
            for what is asked for.
    """

    loader: DynamicDataLoaderWrapper
    clock: Stopwatch
    accum_iter: int = 1
    effective_batch_size: int | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    min_batch: int = 1
    shape_of_batch: Callable[[Shape, int], Shape] | None = None
    _place: tuple[int, int] = (0, 0)
    _asked: dict[Shape, Shape] = field(default_factory=dict)

    def next_step(self) -> list[Batch] | None:
        """The batches of the next step; None if somebody wants the run to stop while they are
        waited for: the place in the data is then that of the last step.
        """
        self._place = (self.loader.samples_consumed, self.loader.replaced_total)
        self._asked.clear()
        try:
            with self.clock.waiting(), self.interrupts.waiting():
                return self._read()
        except StopRequested:
            self.step_back()
            return None
        except Exception:
            self.step_back()
            raise

    def step_back(self) -> None:
        """The place in the data is that before the last step, which is not made."""
        self.loader.samples_consumed, self.loader.replaced_total = self._place

    def _read(self) -> list[Batch]:
        batches: list[Batch] = []
        if self.effective_batch_size is None:
            while len(batches) < self.accum_iter or sum(map(len, batches)) < self.min_batch:
                batches.append(self._next_batch())
            return _with_enough(batches, self.min_batch)
        missing = self.effective_batch_size
        while missing:
            # The last batch is cut to what is missing; its rest opens the next step.
            batches.append(self._next_batch(at_most=missing))
            missing -= len(batches[-1])
        return _with_enough(batches, self.min_batch)

    def _next_batch(self, at_most: int | None = None) -> Batch:
        loader = self.loader
        asked = Shape(loader.lq_size, loader.batch_size)
        shape = asked
        if self.shape_of_batch is not None:
            shape = self.shape_of_batch(asked, loader.samples_consumed)
        self._asked[Shape(shape.lq_size, loader.sampler.deal.own(shape.batch_size))] = asked
        return loader.next_batch(at_most, shape)

    def stands_for(self, shape: Shape) -> Shape:
        """What was asked for in the last step, where a batch of `shape` was made in place of it and
        takes about as much; else `shape`.
        """
        asked = self._asked.get(shape, shape)
        return asked if shape.pixels() >= ALIKE * asked.pixels() else shape

    def close(self) -> None:
        """End the reading processes."""
        self.loader.close()

    def state_dict(self) -> dict[str, Any]:
        """The place in the data."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the samples that were used up."""
        self.loader.load_state_dict(state)


def _with_enough(batches: Sequence[Batch], least: int) -> list[Batch]:
    """The same samples in batches of `least` or more, if there are as many; of two batches that
    become one, the larger crops are cropped.
    """
    enough: list[Batch] = []
    for batch in batches:
        if enough and min(len(batch), len(enough[-1])) < least:
            side = min(batch.lq_size, enough[-1].lq_size)
            enough[-1] = Batch.merge([enough[-1].crop(side), batch.crop(side)])
        else:
            enough.append(batch)
    return enough
