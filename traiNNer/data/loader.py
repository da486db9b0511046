"""The parts that training and validation read with: the stream of requests, reading in workers,
whole images.

Which sample has which place in the stream, where it is cropped and how it is augmented are pure
functions of the seed and the place, so that the number of workers, prefetching and an interruption
change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader, Sampler, get_worker_info

from traiNNer.data.deal import Deal
from traiNNer.data.order import Order
from traiNNer.data.sample import Batch, Sample, SampleRequest, collate
from traiNNer.data.workers import Failure, Parcel, Workers, no_way, start_worker
from traiNNer.utils.errors import DataError
from traiNNer.utils.out_of_memory import is_out_of_memory

ReadErrors = Literal["error", "skip"]
StartMethod = Literal["fork", "spawn", "forkserver"]


class RequestDataset(Protocol):
    """What a loader needs of a dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: SampleRequest, /) -> Sample: ...


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
        deal: which positions are this reader's.
    """

    def __init__(
        self,
        order: Order,
        *,
        batch_size: int,
        patch: PatchSize,
        start: int = 0,
        unit_size: Callable[[], int] | None = None,
        deal: Deal | None = None,
    ) -> None:
        self.order = order
        self.batch_size = batch_size
        self.patch = patch
        self.start = start
        self._unit_size = unit_size
        self.deal = deal or Deal()

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        start = self.start
        first = 0
        while True:
            own = self.deal.own(self.batch_size)
            length = own if self._unit_size is None else self._unit_size()
            numbers = range(first, first + length)
            positions = [self.deal.position(start, number, self.batch_size) for number in numbers]
            yield [self.request(position) for position in positions]
            first += length

    def request(self, position: int) -> SampleRequest:
        """The request at a position of the stream, with the present patch size."""
        visit = self.order.visit(position)
        return SampleRequest(visit.index, self.patch.lq_size, visit.seed)


def eval_batches(
    dataset: RequestDataset,
    num_workers: int,
    pin_memory: bool = False,
    *,
    lq_size: int | None = None,
    size: int = 1,
    indices: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Elements in order.

    Args:
        dataset: what is read.
        num_workers: processes that read; 0 reads here.
        pin_memory: in page-locked memory.
        lq_size: side of the crops; None asks for whole images, which go one by one.
        size: of the batches; the last one may be smaller.
        indices: of the elements; None reads all.

    Raises:
        DataError: if an image cannot be read.
        WorkerError: if a worker process has ended.
    """
    wanted = range(len(dataset)) if indices is None else indices
    single = [SampleRequest(index, lq_size, 0) for index in wanted]
    requests = [single[start : start + size] for start in range(0, len(single), size)]
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

    def __getitems__(self, requests: Sequence[SampleRequest]) -> Batch | Parcel | Failure | None:
        """The samples of the requests, packed up in a worker; None for no requests."""
        if not requests:
            return None
        in_worker = get_worker_info() is not None
        try:
            batch = collate([self._read(request) for request in requests])
        except DataError as error:
            return Failure(str(error) + self._advice)
        except (MemoryError, RuntimeError) as error:
            if not in_worker or not is_out_of_memory(error):
                raise
            return Failure(
                "a process that reads images got no more memory: lower num_worker_per_gpu, "
                "lq_size or batch_size_per_gpu.",
                of_machine=True,
            )
        if not in_worker:
            return batch
        try:
            return Parcel.of(batch)
        # Whatever it is: it would be printed by a thread and lost.
        except Exception as error:  # noqa: BLE001
            return Failure(no_way(error), of_machine=True)

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
        worker_init_fn=start_worker,
        prefetch_factor=prefetch_factor if num_workers else None,
        multiprocessing_context=start_method if num_workers else None,
        # torch draws a seed for its workers: not from the generator the network uses
        generator=torch.Generator(),
    )


def _same(batch: Any) -> Any:
    return batch
