"""The parts that training and validation read with: the stream of requests, reading in workers,
whole images.

Which sample has which place in the stream, where it is cropped and how it is augmented are pure
functions of the seed and the place, so that the number of workers, prefetching and an interruption
change nothing.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from traiNNer.data.order import Order
from traiNNer.data.sample import Batch, Sample, SampleRequest, collate
from traiNNer.utils.errors import DataError

log = logging.getLogger(__name__)

ReadErrors = Literal["error", "skip"]
StartMethod = Literal["fork", "spawn", "forkserver"]


class RequestDataset(Protocol):
    """What a loader needs of a dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: SampleRequest, /) -> Sample: ...


class WorkerError(DataError):
    """A worker process has ended, mostly because the machine ran out of memory."""

    exit_code = 1


class PatchSize:
    """The present side of the crops, in LQ pixels: one number that dataset, sampler and loader
    share, so that there is nothing to keep equal.

    Args:
        lq_size: 1 or more.
    """

    def __init__(self, lq_size: int) -> None:
        self.lq_size = lq_size

    @property
    def lq_size(self) -> int:
        """Side of the LQ crops in pixels."""
        return self._lq_size

    @lq_size.setter
    def lq_size(self, lq_size: int) -> None:
        if lq_size < 1:
            raise ValueError(f"lq_size is {lq_size}; it is 1 or more")
        self._lq_size = lq_size


class RequestSampler(Sampler[list[SampleRequest]]):
    """Endless lists of requests, from the position `start` of a stream on.

    What a position asks for is decided by the order alone. `batch_size` and the patch size are read
    for each list anew: changing them changes the requests from then on, and never the order.

    Args:
        order: which element each position visits, and with which seed.
        batch_size: samples of a batch.
        patch: side of the LQ crops.
        start: samples of the stream that are left out because they were consumed before.
        unit_size: asked for the length of each list, 0 for an empty one; without it a list is a
            batch.
    """

    def __init__(
        self,
        order: Order,
        *,
        batch_size: int,
        patch: PatchSize,
        start: int = 0,
        unit_size: Callable[[], int] | None = None,
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.patch = patch
        self.start = start
        self._unit_size = unit_size

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        position = self.start
        while True:
            length = self.batch_size if self._unit_size is None else self._unit_size()
            yield [self.request(position + offset) for offset in range(length)]
            position += length

    def request(self, position: int) -> SampleRequest:
        """The request at a position of the stream, with the present patch size."""
        visit = self.order.visit(position)
        return SampleRequest(visit.index, self.patch.lq_size, visit.seed)


def eval_batches(
    dataset: RequestDataset, num_workers: int, pin_memory: bool = False
) -> Iterator[Batch]:
    """Whole images, one by one and in order, as batches of 1.

    Raises:
        DataError: if an image cannot be read.
        WorkerError: if a worker process has ended.
    """
    requests = [[SampleRequest(index, None, 0)] for index in range(len(dataset))]
    count = min(num_workers, len(requests))
    workers = Workers(open_loader(BatchReader(dataset), requests, count, pin_memory, 2))
    workers.start()
    try:
        for _ in requests:
            batch = workers.receive()
            assert batch is not None
            yield batch
    finally:
        workers.end()


def explain_worker_death(error: BaseException) -> WorkerError | None:
    """A plain error if `error` is torch's for a worker process that has ended, else None.

    Torch raises it wherever the main process happens to be, so not only in the loader.
    """
    message = str(error)
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in message:
        return None
    return WorkerError(
        f"{message.strip().splitlines()[0]}\nA process that reads images has ended. Mostly the "
        "machine ran out of memory (see `dmesg`) or of shared memory (in a container: --shm-size): "
        "lower num_worker_per_gpu, then continue from the last checkpoint."
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way from a worker. As an exception it would arrive with the worker's
    traceback as its message.
    """

    message: str


class BatchReader:
    """The dataset as the DataLoader sees it: reads a whole list of requests at once.

    Args:
        dataset: what is read.
        skip: replace an image that cannot be read by the next readable one.
        advice: ends the message of an error.
    """

    def __init__(self, dataset: RequestDataset, skip: bool = False, advice: str = "") -> None:
        self._dataset = dataset
        self._skip = skip
        self._advice = advice

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, requests: Sequence[SampleRequest]) -> Batch | Failure | None:
        """The samples of the requests; None for no requests."""
        if not requests:
            return None
        try:
            return collate([self._read(request) for request in requests])
        except DataError as error:
            return Failure(str(error) + self._advice)

    def _read(self, request: SampleRequest) -> Sample:
        if not self._skip:
            return self._dataset[request]
        reason = ""
        for step in range(len(self)):
            index = (request.index + step) % len(self)
            try:
                sample = self._dataset[SampleRequest(index, request.lq_size, request.seed)]
            except DataError as error:
                reason = reason or str(error)
                continue
            # It stands for the one that was asked for: the count of samples must not notice.
            sample.index = request.index
            sample.replaced = reason or None
            return sample
        raise DataError(f"none of the {len(self)} images can be read; the first error: {reason}")


def open_loader(
    reader: BatchReader,
    requests: Any,
    num_workers: int,
    pin_memory: bool,
    prefetch_factor: int,
    start_method: StartMethod | None = None,
) -> DataLoader[Any]:
    """A DataLoader that reads lists of requests. `prefetch_factor` lists wait for each worker, or
    are being read.
    """
    return DataLoader(
        reader,  # pyright: ignore[reportArgumentType]  # a DataLoader needs __getitems__ only
        batch_sampler=requests,
        num_workers=num_workers,
        collate_fn=_same,
        pin_memory=pin_memory and torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        prefetch_factor=prefetch_factor if num_workers else None,
        multiprocessing_context=start_method if num_workers else None,
        # torch draws a seed for its workers: not from the generator the network uses
        generator=torch.Generator(),
    )


class Workers:
    """The processes that read for an `open_loader`, which can be ended and started anew; or none,
    where it reads in this process.

    Attributes:
        pids: their process ids; empty without processes, and while they have not started.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.pids: tuple[int, ...] = ()
        self._loader = loader
        self._batches: Iterator[Batch | Failure | None] | None = None

    @property
    def started(self) -> bool:
        """Whether lists of requests are being read."""
        return self._batches is not None

    def start(self) -> None:
        """Begin to read what the loader's requests ask for."""
        others = multiprocessing.active_children()
        self._batches = iter(self._loader)
        started = [
            process for process in multiprocessing.active_children() if process not in others
        ]
        self.pids = tuple(sorted(process.pid for process in started if process.pid is not None))

    def receive(self) -> Batch | None:
        """The batch of the next list of requests, None of an empty one.

        Raises:
            DataError: if an image could not be read.
            WorkerError: if a worker process has ended.
        """
        assert self._batches is not None
        try:
            received = next(self._batches)
        except RuntimeError as error:
            explained = explain_worker_death(error)
            if explained is None:
                raise
        else:
            if isinstance(received, Failure):
                raise DataError(received.message)
            return received
        # Not `from error`: torch's traceback tells a user nothing.
        raise explained

    def end(self) -> None:
        """End the processes, also while a traceback still holds torch's iterator.

        They ignore SIGTERM, so the end of the program would otherwise wait for them for ever. A
        worker that crashes while it ends (a library's thread that outlives its interpreter, seen
        once in a spawned one) has nothing left to lose.
        """
        batches = self._batches
        self._batches = None
        self.pids = ()
        # torch's own, which its destructor calls; what reads in this process has none.
        shut_down = getattr(batches, "_shutdown_workers", None)
        if shut_down is None:
            return
        try:
            shut_down()
        except RuntimeError as error:
            if explain_worker_death(error) is None:
                raise
            log.debug("while the workers ended: %s", error)


def _same(batch: Any) -> Any:
    return batch


def _start_worker(_worker_id: int) -> None:
    # Ctrl-C, and the SIGTERM of a service manager, reach all processes; only the main one acts on
    # them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
