"""Training data whose patch and batch size can change from one step to the next, without losing a
sample.

The size of a crop is part of each request, so that neither the dataset nor its copies in the
workers hold a size that could be out of date. What was read ahead in another size is split, merged
and cropped on arrival, and the shape of a batch is always that of its tensors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from traiNNer.data.deal import Deal
from traiNNer.data.dynamic_mixins import (
    PairedImageDatasetDynamicMixin,
    PairedVideoDatasetDynamicMixin,
)
from traiNNer.data.loader import (
    BatchReader,
    PatchSize,
    ReadErrors,
    RequestDataset,
    RequestSampler,
    StartMethod,
    open_loader,
)
from traiNNer.data.order import Order, ShuffledOrder
from traiNNer.data.prefetch import Prefetch
from traiNNer.data.reading_thread import TRIED, ReadingThread, ThreadChoice
from traiNNer.data.sample import Batch, Sample, SampleRequest
from traiNNer.data.views import SizedDataset, depends_on_size, leaves, locate, view_length
from traiNNer.data.workers import WorkerError, Workers, shared_memory
from traiNNer.utils.errors import DataError
from traiNNer.utils.out_of_memory import first_line
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.shape import Shape

log = logging.getLogger(__name__)

__all__ = [
    "DynamicDataLoaderWrapper",
    "DynamicDatasetWrapper",
    "PairedImageDatasetDynamicMixin",
    "PairedVideoDatasetDynamicMixin",
]

PREFETCH_BYTES = 256 * 2**20
# How often processes that have ended are started again for the same batch: one that was killed when
# the machine's memory was short is mostly the only one.
RESTARTS = 3
# Units that a thread has under way: the next batch, and one more for a step that is short.
SLOTS = 2


class DynamicDatasetWrapper(Dataset[Sample]):
    """A dataset with a present patch size, over any that takes sized requests, its Subsets and
    ConcatDatasets.

    An element is asked for by a `SampleRequest`, in the size that it names, or by a plain index, in
    the present size and always with the same crop. A `DynamicDataLoaderWrapper` over it follows its
    size.

    Args:
        dataset: a `SizedDataset`, or a torch Subset or ConcatDataset of such, to any depth.
        lq_size: side of the LQ crops in pixels.
        scale: GT pixels for each LQ pixel, per side.

    Raises:
        DataError: if a dataset takes no sized requests, or there are no elements.
    """

    def __init__(self, dataset: Dataset[Sample] | SizedDataset, lq_size: int, scale: int) -> None:
        for leaf, _ in leaves(dataset):
            if not isinstance(leaf, SizedDataset):
                raise DataError(
                    f"a {type(leaf).__name__} cannot crop to a size that changes; a dataset for "
                    "training takes sized requests, as those with PairedImageDatasetDynamicMixin "
                    "or PairedVideoDatasetDynamicMixin do"
                )
        if not view_length(dataset):
            raise DataError("the dataset for training is empty")
        self.dataset = dataset
        self.scale = scale
        self.patch = PatchSize(lq_size)

    @property
    def lq_size(self) -> int:
        """Side of the LQ crops in pixels."""
        return self.patch.lq_size

    @lq_size.setter
    def lq_size(self, lq_size: int) -> None:
        self.patch.lq_size = lq_size

    @property
    def gt_size(self) -> int:
        """Side of the GT crops in pixels: `lq_size * scale`."""
        return self.lq_size * self.scale

    @gt_size.setter
    def gt_size(self, gt_size: int) -> None:
        if gt_size % self.scale:
            raise ValueError(f"gt_size {gt_size} is not a multiple of the scale {self.scale}")
        self.lq_size = gt_size // self.scale

    @property
    def largest_lq_size(self) -> int:
        """The largest patch, in LQ pixels, that the images allow (as their `small_images` is)."""
        return min(
            _sized(leaf).largest_lq_size_of(indices) for leaf, indices in leaves(self.dataset)
        )

    @property
    def depends_on_size(self) -> bool:
        """See `views.depends_on_size`."""
        return depends_on_size(self.dataset)

    @property
    def frames(self) -> int:
        """Frames of a sample's LQ: 1 for images (whose datasets need not say so), clip_size for
        clips.

        Raises:
            DataError: if some datasets give more frames than others.
        """
        frames = {getattr(leaf, "frames", 1) for leaf, _ in leaves(self.dataset)}
        if len(frames) > 1:
            raise DataError(
                f"datasets of different clips cannot be trained on together: {sorted(frames)} "
                "frames"
            )
        return frames.pop()

    def require_lq_size(self, lq_size: int) -> None:
        """Prepare for patches of up to `lq_size` pixels. Call it before the dataset goes to a
        loader.

        Raises:
            DataError: if images that are used are smaller, and are to be errors or cannot be left
                out.
        """
        for leaf, indices in leaves(self.dataset):
            _sized(leaf).require_lq_size(lq_size, indices)

    def __len__(self) -> int:
        return view_length(self.dataset)

    def __getitem__(self, index: int | SampleRequest) -> Sample:
        """The sample of a request, or of a plain index with a crop of the present size.

        Raises:
            IndexError: if there is no such element.
            DataError: as the dataset below raises it.
        """
        request = index if isinstance(index, SampleRequest) else self._request(index)
        leaf, inner = locate(self.dataset, request.index)
        sample = _sized(leaf)[SampleRequest(inner, request.lq_size, request.seed)]
        sample.index = request.index
        return sample

    def _request(self, index: int) -> SampleRequest:
        place = index + len(self) if index < 0 else index
        return SampleRequest(place, self.lq_size, hash_seed(place))


class ReplacedImages:
    """Counts the images that were replaced by others, and says each reason once.

    Attributes:
        total: how many.
    """

    def __init__(self) -> None:
        self.total = 0
        self._said: set[str] = set()

    def note(self, reasons: list[str]) -> None:
        """Take in why images of a batch were replaced, one reason for each."""
        self.total += len(reasons)
        for reason in reasons:
            if reason not in self._said:
                self._said.add(reason)
                log.warning(
                    "an unreadable image is replaced by the next one (read_errors: skip): %s",
                    reason,
                )


class DynamicDataLoaderWrapper:
    """Iterating yields a `Batch` for ever; batches run across the ends of epochs. Both sizes may
    change at any time.

    Sample k of the stream is the same image, crop and augmentation whatever the sizes, the workers
    and the prefetching are; what was read ahead is never dropped, and never yielded twice:

    - another batch size holds from the next batch on: what waits is split or merged;
    - so does a smaller patch: what waits is cropped, to the pixels that a request of that size
      would have given, or read again, where a crop would not have them (LQ that is degraded while
      reading);
    - a larger patch begins when the samples already asked for are used up. They come as they are,
      in batches of one patch size; the last one of these may be smaller than the batch size.

    What was prefetched but not yielded does not count as consumed: a loader made with the
    `samples_consumed` of another goes on exactly behind the last batch that the other one yielded.
    The workers live until `close`: neither sizes nor epochs restart them.

    The workers are asked for units of up to a batch (see `Prefetch`). Measured with 2 workers on 2
    cores, at x4 with 16 crops of 64 to a batch: from memory, units of a whole batch give about 2000
    samples/s, as a plain DataLoader does, of a quarter 600, of one sample 500; from PNG files 40 to
    90, whatever the units. So units are as large as can be. But with whole batches 8 workers keep
    16 of them under way, and as many steps pass before a larger patch arrives: a unit is a part of
    a batch as soon as more than `prefetch_batches` or `prefetch_bytes` would be under way.

    Args:
        dataset: what is read. One of images should have been told the largest crop
            (`require_lq_size`). A `DynamicDatasetWrapper` and its loader have one patch size.
        batch_size: samples of a batch.
        lq_size: side of the LQ crops in pixels.
        seed: of the run.
        num_workers: reading processes; 0 reads in this one. The batches are the same.
        enlarge_ratio: how many times an epoch visits each element.
        read_errors: an unreadable image is an error, or is replaced by the next readable one
            ("skip").
        pin_memory: put batches in page-locked memory, for faster copies to a CUDA device.
        prefetch_factor: units that each worker reads ahead.
        prefetch_bytes: bound on what is read ahead, beside the batch that is being put together;
            half of the shared memory is another.
        prefetch_batches: how many batches are read ahead at most (but at least a sample for each
            unit).
        start_method: how workers are started; None is the default of Python on this system.
        samples_consumed: where in the stream to begin.
        order: which element each position visits. None: `ShuffledOrder` of the seed and
            `enlarge_ratio`.
        is_decoded: asked at the beginning and at the end of each epoch until it is true: whether
            pixels come without being decoded.
        takes_thread: then a thread of this process takes the place of the workers, if the samples
            are read fast enough: batches need not go from process to process.
        deal: how the processes that train together share the stream; `samples_consumed` counts the
            samples of all.

    Raises:
        DataError: if the dataset is empty.
    """

    # Settings of a public class, all named by keyword: a bundle would only hide them.
    def __init__(  # noqa: PLR0913
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
        prefetch_bytes: int = PREFETCH_BYTES,
        prefetch_batches: int = 4,
        start_method: StartMethod | None = None,
        samples_consumed: int = 0,
        order: Order | None = None,
        is_decoded: Callable[[], bool] | None = None,
        takes_thread: bool = True,
        deal: Deal | None = None,
    ) -> None:
        if not len(dataset):
            raise DataError("the dataset for training is empty")
        self.dataset = dataset
        self.sampler = RequestSampler(
            order or ShuffledOrder(len(dataset), seed, enlarge_ratio),
            batch_size=_positive("batch_size", batch_size),
            patch=dataset.patch if isinstance(dataset, DynamicDatasetWrapper) else PatchSize(1),
            unit_size=lambda: self._prefetch.ask(
                self.sampler.deal.own(self.batch_size), self.lq_size
            ),
            deal=deal,
        )
        self.sampler.patch.lq_size = lq_size
        self._rereads = depends_on_size(dataset)
        self.samples_consumed = samples_consumed
        self._seed = seed
        self._replaced = ReplacedImages()
        room = shared_memory()
        if room is not None and num_workers:
            # The other half is for what has arrived and is being copied.
            prefetch_bytes = min(prefetch_bytes, room // 2)
        self._prefetch_bytes = prefetch_bytes
        self._prefetch_batches = prefetch_batches
        self._prefetch = Prefetch(num_workers * prefetch_factor, prefetch_bytes, prefetch_batches)
        self._pin_memory = pin_memory
        skip = read_errors == "skip"
        advice = "" if skip else "\n(read_errors: skip replaces images that cannot be read)"
        self._reader = BatchReader(dataset, skip, advice)
        self._workers: Workers | ReadingThread = Workers(
            open_loader(
                self._reader, self.sampler, num_workers, pin_memory, prefetch_factor, start_method
            )
        )
        self._thread_choice = ThreadChoice(self._reader, is_decoded)
        self._takes_thread = takes_thread

    @property
    def batch_size(self) -> int:
        """Samples of the batches from the next one on."""
        return self.sampler.batch_size

    @property
    def lq_size(self) -> int:
        """Side of the LQ crops in pixels, of all requests from the next one on."""
        return self.sampler.patch.lq_size

    @property
    def samples_per_epoch(self) -> int:
        """Samples of an epoch, as the order counts them."""
        return self.sampler.order.samples_per_epoch

    @property
    def epoch(self) -> float:
        """How often the dataset was gone through, with the part of the present epoch."""
        return self.samples_consumed / self.samples_per_epoch

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers; empty without workers, and before the first batch."""
        return self._workers.pids

    @property
    def replaced_total(self) -> int:
        """How many images that could not be read were replaced by others (read_errors: skip)."""
        return self._replaced.total

    @replaced_total.setter
    def replaced_total(self, total: int) -> None:
        self._replaced.total = total

    def set_batch_size(self, batch_size: int) -> None:
        """Yield batches of `batch_size` samples from the next one on."""
        if batch_size != self.batch_size and not self.sampler.deal.is_even:
            # What was read ahead are the positions of the former batch.
            self.close()
        self.sampler.batch_size = _positive("batch_size", batch_size)

    def set_lq_size(self, lq_size: int) -> None:
        """Ask for LQ crops of `lq_size` pixels from now on, and crop what waits if it is larger."""
        if len(self.sampler.deal.shares) > 1 and lq_size > self.lq_size:
            # What was read ahead in the former size would end in a batch that is short, and not in
            # the same step for all processes.
            self.close()
        self.sampler.patch.lq_size = lq_size

    def __iter__(self) -> Iterator[Batch]:
        return self

    def next_batch(self, at_most: int | None = None, shape: Shape | None = None) -> Batch:
        """The next batch.

        Args:
            at_most: samples that are still wanted, where that may be less than a batch.
            shape: asked for in place of the present sizes, for this batch alone, with patches of
                `lq_size` at most, to which those that were read are cropped. None for the present
                sizes.

        Raises:
            DataError: if an image cannot be read (with "skip": if none can). The workers have ended
                then, and no sample counts as consumed.
            WorkerError: if this process cannot read either, after those that did have ended.
        """
        is_due = self._thread_choice.is_due(int(self.epoch)) and self._takes_thread
        if is_due and self._thread_choice.is_better(
            self.sampler.request(self.samples_consumed + number) for number in range(TRIED)
        ):
            self.close()
            self._prefetch = Prefetch(SLOTS, self._prefetch_bytes, self._prefetch_batches)
            pins = self._pin_memory and torch.cuda.is_available()
            self._workers = ReadingThread(self._reader, self.sampler, SLOTS, pin_memory=pins)
        shape = shape or Shape(self.lq_size, self.batch_size)
        wanted = self.sampler.deal.own(shape.batch_size)
        if at_most is not None:
            wanted = min(wanted, at_most)
        restarts = 0
        if self._rereads and self._prefetch.largest > self.lq_size:
            self.close()
        while True:
            try:
                if not self._workers.started:
                    self._prefetch.clear()
                    self.sampler.start = self.samples_consumed
                    self._workers.start()
                samples = self._prefetch.gather(wanted, shape.lq_size, self._workers.receive)
                break
            except WorkerError as error:
                self.close()
                if restarts > RESTARTS:
                    raise
                # Requests are functions of the place, so what was read ahead is only read again.
                restarts += 1
                self._replace_workers(restarts, error)
            except DataError:
                self.close()
                raise
        batch = self._prefetch.take(samples, shape.lq_size)
        self.samples_consumed += self.sampler.deal.consumed(samples, shape.batch_size)
        self._replaced.note([reason for reason in batch.reasons if reason is not None])
        return batch

    __next__ = next_batch

    def _replace_workers(self, restarts: int, error: WorkerError) -> None:
        """Have the processes that read started again, or read in this one from now on: that needs
        no shared memory and no process that could be killed, and the run goes on.
        """
        if restarts <= RESTARTS:
            log.warning(
                "the processes that read are started again (%d of %d times): %s",
                restarts,
                RESTARTS,
                first_line(error),
            )
            return
        log.warning(
            "the processes that read do not stay: from now on the training process reads by "
            "itself, which is slower (num_worker_per_gpu: 0). %s",
            error,
        )
        self._prefetch = Prefetch(0, 0, 0)
        self._workers = Workers(
            open_loader(self._reader, self.sampler, 0, self._pin_memory, prefetch_factor=1)
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps. The sizes are not part of it: they belong to whoever sets
        them.
        """
        return {
            "samples_consumed": self.samples_consumed,
            "replaced_total": self.replaced_total,
            "samples_per_epoch": self.samples_per_epoch,
            "seed": self._seed,
            "order": self.sampler.order.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the samples that were consumed when the state was saved."""
        self.close()
        self.samples_consumed = int(state["samples_consumed"])
        self._replaced.total = int(state["replaced_total"])
        self.sampler.order.load_state_dict(state["order"])
        if state["samples_per_epoch"] != self.samples_per_epoch:
            log.warning(
                "an epoch has %d samples now and had %d before: the order of the images is another "
                "one from here on",
                self.samples_per_epoch,
                state["samples_per_epoch"],
            )
        if state["seed"] != self._seed:
            log.warning(
                "the seed is %d now and was %d before: other order, other crops",
                self._seed,
                state["seed"],
            )

    def close(self) -> None:
        """End the workers. What was prefetched is dropped; a further batch starts new workers."""
        self._workers.end()
        self._prefetch.clear()


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is {value}; it is 1 or more")
    return value


def _sized(dataset: object) -> SizedDataset:
    assert isinstance(dataset, SizedDataset)
    return dataset
