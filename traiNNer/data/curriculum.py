"""An order that visits the easy elements first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from traiNNer.data.order import Visit
from traiNNer.utils.arithmetic import ceil_div
from traiNNer.utils.seeds import hash_seed

# Batches of a block, at least. Processes read up to four ahead, and beside them one is put
# together: what a block visits is decided before any of them reaches it.
LEAST_BATCHES = 5
# Samples of the largest batch, where nobody sets more.
LARGEST_BATCH = 256
LEAST_BLOCK = LEAST_BATCHES * LARGEST_BATCH
# Rank of an element that nobody has judged yet: neither easy nor hard.
UNKNOWN = 0.5


@dataclass(frozen=True)
class Snapshot:
    """What was known when it was decided what a block visits.

    Attributes:
        competence: the easiest part of the elements that takes part, up to 1.
        ranks: of each element, 0 for the easiest to 1; float32 `(elements,)`.
    """

    competence: float
    ranks: Tensor


class AdaptiveCurriculumSampler:
    """Visits the easiest part of the elements, which grows to all of them.

    The stream is cut into blocks of whole epochs. What a block visits, and in which order, is a
    function of the seed, of the block and of a snapshot that was taken a whole block before, so it
    is the same whatever was read ahead, and after a resume. A block visits the elements that take
    part equally often; before the first snapshot these are all.

    Args:
        length: elements of the dataset.
        seed: of the run.
        enlarge_ratio: how many times an epoch visits each element.
        temperature: standard deviation of what is added to the ranks of a block, so that the limit
            is not the same for all.
        floor: every element is visited at least once in so many epochs, in the mean over a block;
            None for no such promise.
        largest_batch: samples that a batch may have.

    Attributes:
        block: samples of a block.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        enlarge_ratio: int = 1,
        *,
        temperature: float = 0.0,
        floor: int | None = None,
        largest_batch: int = LARGEST_BATCH,
    ) -> None:
        self._length = length
        self._seed = seed
        self._temperature = temperature
        self._enlarge_ratio = enlarge_ratio
        least = max(LEAST_BLOCK, LEAST_BATCHES * largest_batch)
        epochs = ceil_div(least, self.samples_per_epoch)
        self.block = epochs * self.samples_per_epoch
        # Blocks among which the others' turns are shared out, or times that each is due in one.
        self._turns = 0 if floor is None else max(1, floor // epochs)
        self._times = 1 if floor is None else ceil_div(epochs, floor)
        self._snapshots: dict[int, Snapshot] = {}
        # Of the blocks that are read now: processes may be reading the next one ahead.
        self._visited: dict[int, list[int]] = {}

    @property
    def samples_per_epoch(self) -> int:
        """Length of the dataset times `enlarge_ratio`."""
        return self._length * self._enlarge_ratio

    def decide(self, consumed: int, snapshot: Snapshot) -> None:
        """Take in what is known when `consumed` samples were used up, just behind the beginning of
        a block: it holds from the next one on, which nobody has read from yet.
        """
        number = consumed // self.block + 1
        if number not in self._snapshots:
            self._snapshots[number] = snapshot
            # A resumed run or a reader that is started again begins in the present block.
            oldest = max((n for n in self._snapshots if n < number), default=number)
            self._snapshots = {n: s for n, s in self._snapshots.items() if n >= oldest}

    def visit(self, position: int) -> Visit:
        """What the position of the stream visits."""
        number, place = divmod(position, self.block)
        if number not in self._visited:
            self._visited = {n: v for n, v in self._visited.items() if abs(n - number) <= 1}
            self._visited[number] = self._elements(number)
        element = self._visited[number][place]
        return Visit(element, hash_seed(self._seed, number, place, element))

    def state_dict(self) -> dict[str, Any]:
        """The snapshots of the blocks that are not over."""
        return {
            "block": self.block,
            "snapshots": {
                number: {"competence": snapshot.competence, "ranks": snapshot.ranks}
                for number, snapshot in self._snapshots.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; what was known of another number of elements is
        forgotten. With blocks of another length, as for another number of processes, a snapshot
        holds from the block on that is at its place.
        """
        given = state.get("snapshots", {})
        block = int(state.get("block", self.block))
        self._snapshots = {
            int(number) * block // self.block: Snapshot(float(one["competence"]), one["ranks"])
            for number, one in sorted(given.items(), key=lambda item: int(item[0]))
            if len(one["ranks"]) == self._length
        }
        self._visited = {}

    def _elements(self, number: int) -> list[int]:
        """What a block visits, in order."""
        generator = torch.Generator().manual_seed(hash_seed(self._seed, number))
        chosen = self._chosen(number, generator)
        due = self._due(number, set(chosen))
        rounds, rest = divmod(self.block - len(due), len(chosen))
        # The last round is a part of one: which elements are in it changes from block to block.
        shuffled = torch.randperm(len(chosen), generator=generator).tolist()
        last = [chosen[place] for place in shuffled[:rest]]
        visits = torch.tensor(chosen * rounds + last + due)
        return visits[torch.randperm(self.block, generator=generator)].tolist()

    def _chosen(self, number: int, generator: torch.Generator) -> list[int]:
        """The elements that take part in a block."""
        known = [n for n in self._snapshots if n <= number]
        if not known:
            return list(range(self._length))
        snapshot = self._snapshots[max(known)]
        ranks = snapshot.ranks
        if self._temperature:
            ranks = ranks + self._temperature * torch.randn(self._length, generator=generator)
        count = max(1, math.ceil(snapshot.competence * self._length))
        return torch.sort(ranks, stable=True).indices[:count].tolist()

    def _due(self, number: int, chosen: set[int]) -> list[int]:
        """The others whose turn it is, so that all are seen in so many blocks."""
        if not self._turns:
            return []
        turn = range(number % self._turns, self._length, self._turns)
        return [element for element in turn if element not in chosen] * self._times


def ranks_of(difficulties: Sequence[float | None]) -> Tensor:
    """The rank of each element, 0 for the easiest to 1; those that nobody has judged are in the
    middle.

    Returns:
        float32 `(elements,)`.
    """
    ranks = torch.full((len(difficulties),), UNKNOWN)
    known = [(value, number) for number, value in enumerate(difficulties) if value is not None]
    for place, (_, number) in enumerate(sorted(known)):
        ranks[number] = place / max(1, len(known) - 1)
    return ranks


def competence(progress: float, start: float, until: float) -> float:
    """The easiest part of the elements that takes part: from `start` to 1, fast at first (the
    square-root schedule of Platanios et al., NAACL 2019).

    Args:
        progress: the part of the run that is done.
        start: at the beginning.
        until: where it is 1.
    """
    done = min(1.0, progress / until)
    return math.sqrt(start**2 + (1 - start**2) * done)
