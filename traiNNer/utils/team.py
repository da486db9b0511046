"""The processes that train one network together, as torchrun starts them: one for each GPU.

Between them go votes, small and by way of the CPU, and sums of gradients. A process that leaves by
an error says so in the vote that the others wait at, so that none of them waits for ever.
"""

# torch's functions for lists of tensors are private to a type checker.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from traiNNer.utils.errors import (
    StopRequested,
    TeamError,
    ToldElsewhereError,
    TraiNNerError,
)
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory

# What is summed at once: the sum, its parts, and the tensors that they stand for.
Bundle = tuple[Tensor, list[Tensor], list[Tensor]]
# Bytes of gradients that are summed at once: as torch's DistributedDataParallel does.
BUNDLE_BYTES = 25 * 2**20
# Numbers of a vote; what a vote does not need is 0.
VALUES = 10
# One process may validate films while the others wait for it. That one has ended is seen at once,
# by its closed connection.
PATIENCE = timedelta(days=7)
# What torchrun tells each process.
_RANK = "RANK"
_SIZE = "WORLD_SIZE"
_LOCAL_RANK = "LOCAL_RANK"
_LOCAL_SIZE = "LOCAL_WORLD_SIZE"


@dataclass(frozen=True)
class Votes:
    """What all processes have said.

    Attributes:
        wants_end: whether one of them wants the run to end.
        values: of each process, by rank.
    """

    wants_end: bool
    values: Sequence[Sequence[float]]


@dataclass
class Team:
    """One process and those beside it. Alone it answers everything itself.

    Attributes:
        rank: of this process, from 0.
        size: how many processes there are.
        local_rank: of this process on its machine.
        local_size: how many there are on this machine.
        is_even: whether all processes have as many samples in a step.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    is_even: bool = True
    _sums: Any = field(default=None, repr=False)
    _is_torn: bool = field(default=False, repr=False)
    _rooms: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict, repr=False)

    @property
    def is_alone(self) -> bool:
        """Whether no other process takes part."""
        return self.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports, validates and saves."""
        return self.rank == 0

    def vote(self, *values: float, wants_end: bool = False) -> Votes:
        """What every process says, once all have spoken.

        Args:
            values: numbers of this process, `VALUES` at most.
            wants_end: whether it wants the run to end.

        Raises:
            ToldElsewhereError: if another process ends by an error.
            TeamError: if another process is gone without a word.
        """
        said = self._exchange(0, values, wants_end=wants_end)
        troubles = [(int(row[0]), rank) for rank, row in enumerate(said) if row[0]]
        if troubles:
            code, rank = troubles[0]
            raise ToldElsewhereError(rank, code)
        return Votes(any(row[1] for row in said), [row[2:] for row in said])

    def totals(self, *values: int) -> list[int]:
        """Sums over all processes of what this one has of a step.

        Raises:
            StopRequested: if one of them wants the run to end.
        """
        if self.is_even:
            return [self.size * value for value in values]
        votes = self.vote(*values)
        if votes.wants_end:
            raise StopRequested(is_agreed=True)
        return [int(sum(column)) for column in zip(*votes.values, strict=True)][: len(values)]

    def _exchange(
        self, trouble: int, values: Iterable[float], *, wants_end: bool = False
    ) -> list[list[float]]:
        row = [float(trouble), float(wants_end), *map(float, values)]
        row += [0.0] * (2 + VALUES - len(row))
        if self.is_alone:
            return [row]
        from torch import distributed

        own = torch.tensor(row, dtype=torch.float64)
        gathered = [torch.empty_like(own) for _ in range(self.size)]
        with self._connected():
            distributed.all_gather(gathered, own)
        return [tensor.tolist() for tensor in gathered]

    def share(self, value: Any) -> list[Any]:
        """A plain value of every process, by rank."""
        if self.is_alone:
            return [value]
        from torch import distributed

        # One that has failed before this is heard in a vote alone.
        self.vote()
        values: list[Any] = [None] * self.size
        with self._connected():
            distributed.all_gather_object(values, value)
        return values

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse processes that would not do the same.

        Args:
            facts: what has to be equal, by what it is called in the message.

        Raises:
            TeamError: naming what differs, and in which process.
        """
        everyones = self.share(dict(facts))
        for name, value in everyones[0].items():
            for rank, others in enumerate(everyones):
                if others.get(name) != value:
                    raise TeamError(
                        f"process {rank} has another {name} than process 0: {others.get(name)} "
                        f"in place of {value}. All processes of a training need the same options, "
                        "the same data and the same code",
                        exit_code=2,
                    )

    def open_sums(self, device: torch.device) -> None:
        """Prepare for sums of tensors on this device."""
        if self.is_alone:
            return
        from torch import distributed

        self.vote()
        # Apart from the votes, so that nobody takes the one for the other.
        backend = "nccl" if device.type == "cuda" else "gloo"
        with self._connected():
            self._sums = distributed.new_group(backend=backend, timeout=PATIENCE)

    def close_sums(self) -> None:
        """Nothing is summed any more."""
        self._sums = None
        self._rooms.clear()

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Have the tensors be those of the first process."""
        if self.is_alone:
            return
        from torch import distributed

        self.vote()
        with self._connected():
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                distributed.broadcast(whole, 0, group=self._sums)
                tensor.detach().copy_(whole)

    def make_room(self, tensors: Iterable[Tensor]) -> list[Bundle]:
        """Prepare to average them. It takes memory the first time, so it comes before the vote:
        where that runs out in the middle of an exchange nothing can be repeated.

        Args:
            tensors: of one kind on all processes: as many, of the same shapes.
        """
        return [(*self._room_for(bundle), bundle) for bundle in _bundles(tensors)]

    @torch.no_grad()
    def average(self, bundles: Iterable[Bundle], share: float) -> None:
        """Replace each tensor by its mean over the processes.

        Args:
            bundles: that `make_room` gave.
            share: weight of this process's; those of all processes are 1 in sum.
        """
        from torch import distributed

        with self._connected():
            for flat, views, bundle in bundles:
                torch._foreach_copy_(views, bundle)
                flat.mul_(share)
                distributed.all_reduce(flat, group=self._sums)
                torch._foreach_copy_(bundle, views)

    def _room_for(self, bundle: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One tensor, which is kept, for all of a bundle, and parts of it like those of the
        bundle.
        """
        size = sum(tensor.numel() for tensor in bundle)
        kind = (bundle[0].device, bundle[0].dtype)
        if kind not in self._rooms or self._rooms[kind].numel() < size:
            least = BUNDLE_BYTES // bundle[0].element_size()
            self._rooms[kind] = torch.empty(max(size, least), device=kind[0], dtype=kind[1])
        flat = self._rooms[kind][:size]
        parts = flat.split([tensor.numel() for tensor in bundle])
        shaped = zip(parts, bundle, strict=True)
        return flat, [part.view(tensor.shape) for part, tensor in shaped]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around all that this process does: its error is told in the next vote of the others, and
        the first process that has one speaks.

        Raises:
            ToldElsewhereError: in place of an error that another process tells of.
        """
        try:
            yield
        except ToldElsewhereError:
            raise
        except Exception as error:
            # In the middle of an exchange nobody hears a vote; the others see the connection close.
            if self.is_alone or self._is_torn:
                raise
            code = error.exit_code if isinstance(error, TraiNNerError) else 1
            try:
                said = self._exchange(code, ())
            except TeamError:
                raise error from None
            speaker = next(rank for rank, row in enumerate(said) if row[0])
            if speaker != self.rank:
                raise ToldElsewhereError(speaker, int(said[speaker][0])) from error
            raise

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """An exchange with the others."""
        self._is_torn = True
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise TeamError(
                f"another process of this training is gone without a word ({first_line(error)}): "
                "what it wrote stands above; if it is nothing, the system has killed it, mostly "
                "for want of memory"
            ) from error
        self._is_torn = False


def _bundles(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Lists of tensors of one type, of up to `BUNDLE_BYTES` or of a single one."""
    bundle: list[Tensor] = []
    held = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if bundle and (held + size > BUNDLE_BYTES or tensor.dtype != bundle[0].dtype):
            yield bundle
            bundle = []
            held = 0
        bundle.append(tensor)
        held += size
    if bundle:
        yield bundle


def started_here() -> int | None:
    """How many processes of this training were started on this machine; None where nobody has
    started several.
    """
    if int(os.environ.get(_SIZE, "1")) == 1:
        return None
    return int(os.environ.get(_LOCAL_SIZE, os.environ[_SIZE]))


@contextmanager
def joined_team() -> Iterator[Team]:
    """The team that torchrun has started this process for; a process alone otherwise.

    Raises:
        TeamError: if the others cannot be reached.
    """
    local_size = started_here()
    if local_size is None:
        yield Team()
        return
    from torch import distributed

    size = int(os.environ[_SIZE])
    rank = int(os.environ[_RANK])
    team = Team(rank, size, int(os.environ.get(_LOCAL_RANK, rank)), local_size)
    try:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise TeamError(
            f"process {rank} of {size} does not reach the others by {address}: {error}", exit_code=2
        ) from error
    try:
        with team.telling():
            yield team
    finally:
        # Its threads have to end before Python does.
        team.close_sums()
        distributed.destroy_process_group()
