"""Batches for training, endless and reproducible, and whole images for validation.

Which samples a batch holds, where they are cropped and how they are augmented are pure functions of the seed and the
position in the stream, so that the number of workers, prefetching and an interruption change nothing.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from traiNNer.data.sample import Batch, Sample, SampleRequest, collate
from traiNNer.utils.errors import DataError
from traiNNer.utils.seeds import hash_seed

log = logging.getLogger(__name__)

ReadErrors = Literal["error", "skip"]


class RequestDataset(Protocol):
    """What a loader needs of a dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: SampleRequest, /) -> Sample: ...


class WorkerError(DataError):
    """A worker process has ended, mostly because the machine ran out of memory."""

    exit_code = 1


class RequestSampler(Sampler[list[SampleRequest]]):
    """Endless batches of requests, from the position `start` of a stream that depends on the seed only.

    Position k is place k % n of the permutation of epoch k // n, where n is `samples_per_epoch`. `batch_size` and
    `lq_size` are read for each batch anew: assigning them changes the requests from then on, and never the order.

    Args:
        length: elements of the dataset.
        batch_size: samples of a batch.
        lq_size: side of the LQ crops in pixels.
        seed: of the run.
        enlarge_ratio: how many times an epoch visits each element, each time with another crop.
        start: samples of the stream that are left out because they were consumed before.
    """

    def __init__(
        self, length: int, *, batch_size: int, lq_size: int, seed: int, enlarge_ratio: int = 1, start: int = 0
    ) -> None:
        self.batch_size = batch_size
        self.lq_size = lq_size
        self.start = start
        self.samples_per_epoch = length * enlarge_ratio
        self._length = length
        self._seed = seed
        self._permutation: tuple[int, list[int]] = (-1, [])

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        position = self.start
        while True:
            batch_size = self.batch_size
            yield [self.request(position + offset) for offset in range(batch_size)]
            position += batch_size

    def request(self, position: int) -> SampleRequest:
        """The request at a position of the stream, with the present `lq_size`."""
        epoch, place = divmod(position, self.samples_per_epoch)
        if self._permutation[0] != epoch:
            generator = torch.Generator().manual_seed(hash_seed(self._seed, epoch))
            self._permutation = (epoch, torch.randperm(self.samples_per_epoch, generator=generator).tolist())
        index = self._permutation[1][place]
        return SampleRequest(index % self._length, self.lq_size, hash_seed(self._seed, epoch, index))


class TrainLoader:
    """Iterating yields a `Batch` for ever; batches run across the ends of epochs.

    What was prefetched but not handed out does not count: a loader made with the `samples_consumed` of another goes on
    exactly behind the last batch that the other one yielded.

    Args:
        dataset: what is read. A `PairedImageDataset` should have been told the largest crop (`require_lq_size`).
        batch_size: samples of a batch.
        lq_size: side of the LQ crops in pixels.
        seed: of the run.
        num_workers: reading processes; 0 reads in this one. The batches are the same.
        enlarge_ratio: how many times an epoch visits each element.
        read_errors: an unreadable image is an error, or is replaced by the next readable one ("skip").
        pin_memory: put batches in page-locked memory, for faster copies to a CUDA device.
        prefetch_factor: batches that each worker reads ahead.
        samples_consumed: where in the stream to begin.

    Raises:
        DataError: if the dataset is empty.
    """

    def __init__(
        self,
        dataset: RequestDataset,
        *,
        batch_size: int,
        lq_size: int,
        seed: int,
        num_workers: int,
        enlarge_ratio: int = 1,
        read_errors: ReadErrors = "error",
        pin_memory: bool = False,
        prefetch_factor: int = 2,
        samples_consumed: int = 0,
    ) -> None:
        if not len(dataset):
            raise DataError("the dataset for training is empty")
        self.sampler = RequestSampler(
            len(dataset), batch_size=batch_size, lq_size=lq_size, seed=seed, enlarge_ratio=enlarge_ratio
        )
        self.samples_consumed = samples_consumed
        self.replaced_total = 0
        self._seed = seed
        self._reported: set[str] = set()
        self._batches: Iterator[Batch | _Failure] | None = None
        skip = read_errors == "skip"
        advice = "" if skip else "\n(read_errors: skip replaces images that cannot be read)"
        reader = _BatchReader(dataset, skip, advice)
        self._loader = _data_loader(reader, self.sampler, num_workers, pin_memory, prefetch_factor)

    @property
    def samples_per_epoch(self) -> int:
        """Samples of an epoch: length of the dataset times `enlarge_ratio`."""
        return self.sampler.samples_per_epoch

    @property
    def epoch(self) -> float:
        """How often the dataset was gone through, with the part of the present epoch."""
        return self.samples_consumed / self.samples_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            DataError: if an image cannot be read (with "skip": if none can).
            WorkerError: if a worker process has ended.
        """
        if self._batches is None:
            self.sampler.start = self.samples_consumed
            self._batches = iter(self._loader)
        batch = _unwrap(_next_or_explain(self._batches))
        self.samples_consumed += len(batch)
        self.replaced_total += len(batch.replaced)
        for reason in batch.replaced:
            if reason not in self._reported:
                self._reported.add(reason)
                log.warning("an unreadable image is replaced by the next one (read_errors: skip): %s", reason)
        return batch

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {
            "samples_consumed": self.samples_consumed,
            "samples_per_epoch": self.samples_per_epoch,
            "seed": self._seed,
            "replaced_total": self.replaced_total,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the samples that were consumed when the state was saved."""
        self.close()
        self.samples_consumed = state["samples_consumed"]
        self.replaced_total = state["replaced_total"]
        if state["samples_per_epoch"] != self.samples_per_epoch:
            log.warning(
                "an epoch has %d samples now and had %d before: the order of the images is another one from here on",
                self.samples_per_epoch,
                state["samples_per_epoch"],
            )
        if state["seed"] != self._seed:
            log.warning("the seed is %d now and was %d before: other order, other crops", self._seed, state["seed"])

    def close(self) -> None:
        """End the workers. What was prefetched is dropped; a further batch starts new workers."""
        self._batches = None  # the last reference: the iterator ends its processes when it goes


def eval_batches(dataset: RequestDataset, num_workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """Whole images, one by one and in order, as batches of 1.

    Raises:
        DataError: if an image cannot be read.
        WorkerError: if a worker process has ended.
    """
    requests = [[SampleRequest(index, None, 0)] for index in range(len(dataset))]
    workers = min(num_workers, len(requests))
    batches = iter(_data_loader(_BatchReader(dataset), requests, workers, pin_memory, 2))
    try:
        for _ in requests:
            yield _unwrap(_next_or_explain(batches))
    finally:
        del batches  # the frame may live on in a traceback, and with it the workers


def explain_worker_death(error: BaseException) -> WorkerError | None:
    """A plain error if `error` is torch's for a worker process that has ended, else None.

    Torch raises it wherever the main process happens to be, so not only in the loader.
    """
    message = str(error)
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in message:
        return None
    return WorkerError(
        f"{message.strip().splitlines()[0]}\nA process that reads images has ended. Mostly the machine ran out of "
        "memory (see `dmesg`) or of shared memory (in a container: --shm-size): lower num_worker_per_gpu, then "
        "continue from the last checkpoint."
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way from a worker. As an exception it would arrive with the worker's traceback as its message."""

    message: str


class _BatchReader:
    """The dataset as the DataLoader sees it: reads a whole list of requests at once."""

    def __init__(self, dataset: RequestDataset, skip: bool = False, advice: str = "") -> None:
        self._dataset = dataset
        self._skip = skip
        self._advice = advice

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, requests: Sequence[SampleRequest]) -> Batch | _Failure:
        try:
            return collate([self._read(request) for request in requests])
        except DataError as error:
            return _Failure(str(error) + self._advice)

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
            sample.index = request.index
            sample.replaced = reason or None
            return sample
        raise DataError(f"none of the {len(self)} images can be read; the first error: {reason}")


def _data_loader(
    reader: _BatchReader, requests: Any, num_workers: int, pin_memory: bool, prefetch_factor: int
) -> DataLoader[Any]:
    return DataLoader(
        reader,  # pyright: ignore[reportArgumentType]  # a DataLoader needs __getitems__ only
        batch_sampler=requests,
        num_workers=num_workers,
        collate_fn=_same,
        pin_memory=pin_memory and torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        prefetch_factor=prefetch_factor if num_workers else None,
        generator=torch.Generator(),  # torch draws a seed for its workers: not from the generator the network uses
    )


def _same(batch: Any) -> Any:
    return batch


def _start_worker(_worker_id: int) -> None:
    # Ctrl-C, and the SIGTERM of a service manager, reach all processes; only the main one acts on them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)


def _next_or_explain(batches: Iterator[Batch | _Failure]) -> Batch | _Failure:
    try:
        return next(batches)
    except RuntimeError as error:
        explained = explain_worker_death(error)
        if explained is None:
            raise
    # Not `from error`: its traceback would keep the iterator, and with it the other workers, alive after `close`.
    del batches
    raise explained


def _unwrap(received: Batch | _Failure) -> Batch:
    """Apart from `_next_or_explain`, so that the traceback of the error does not keep the workers alive."""
    if isinstance(received, _Failure):
        raise DataError(received.message)
    return received
