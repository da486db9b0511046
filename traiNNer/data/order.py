"""In which order the elements of a dataset are visited, and with which seed each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from traiNNer.utils.registry import ORDERS
from traiNNer.utils.seeds import hash_seed


@dataclass(frozen=True, slots=True)
class Visit:
    """One element of the stream.

    Attributes:
        index: which element of the dataset.
        seed: decides where the crop lies, how it is augmented, and whatever else is drawn for it.
    """

    index: int
    seed: int


class Order(Protocol):
    """An endless sequence of visits. What position k visits depends on k and on the state, never on
    the sizes, the workers or what was prefetched.
    """

    @property
    def samples_per_epoch(self) -> int:
        """Positions after which progress counts one epoch more."""
        ...

    def visit(self, position: int) -> Visit:
        """What the position of the stream visits."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        ...


@ORDERS.register("shuffled")
class ShuffledOrder:
    """Every epoch is a permutation of the elements, a pure function of the seed and the epoch.

    Position k is place k % n of the permutation of epoch k // n, where n is `samples_per_epoch`.

    Args:
        length: elements of the dataset.
        seed: of the run.
        enlarge_ratio: how many times an epoch visits each element, each time with another seed.
    """

    def __init__(self, length: int, seed: int, enlarge_ratio: int = 1) -> None:
        self._length = length
        self._seed = seed
        self._enlarge_ratio = enlarge_ratio
        # Only the present epoch is kept: positions are asked for one after the other.
        self._epoch = -1
        self._permutation: list[int] = []

    @property
    def samples_per_epoch(self) -> int:
        """Length of the dataset times `enlarge_ratio`."""
        return self._length * self._enlarge_ratio

    def visit(self, position: int) -> Visit:
        """What the position of the stream visits."""
        epoch, place = divmod(position, self.samples_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(hash_seed(self._seed, epoch))
            shuffled = torch.randperm(self.samples_per_epoch, generator=generator)
            self._permutation = shuffled.tolist()
            self._epoch = epoch
        element = self._permutation[place]
        # The seed comes of the enlarged element, so that each visit of an image gets its own crop.
        return Visit(element % self._length, hash_seed(self._seed, epoch, element))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position, which the loader keeps, says it all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take over."""
