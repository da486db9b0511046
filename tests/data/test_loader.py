"""The stream of batches: reproducible, resumable, honest about what was consumed and what could not
be read.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from image_sets import MakePairs
from torch.utils.data import get_worker_info

from traiNNer.data import (
    Batch,
    DynamicDataLoaderWrapper,
    PairedImageDataset,
    RequestSampler,
    WorkerError,
    eval_batches,
    explain_worker_death,
)
from traiNNer.data.loader import PatchSize, ReadErrors
from traiNNer.data.order import ShuffledOrder
from traiNNer.data.scan import ScannedImage
from traiNNer.data.waiting import LongWait
from traiNNer.data.workers import Workers
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels


@pytest.fixture
def dataset(make_pairs: MakePairs) -> PairedImageDataset:
    gt, lq = make_pairs(7)
    return PairedImageDataset(2, str(gt), str(lq))


@contextlib.contextmanager
def loader(
    dataset: PairedImageDataset, num_workers: int = 0, **options: Any
) -> Iterator[DynamicDataLoaderWrapper]:
    settings: dict[str, Any] = {"batch_size": 4, "lq_size": 16, "seed": 3} | options
    made = DynamicDataLoaderWrapper(dataset, num_workers=num_workers, **settings)
    with contextlib.closing(made):
        yield made


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.indices, a.lq_paths, a.gt_paths) == (b.indices, b.lq_paths, b.gt_paths)
        assert torch.equal(a.lq, b.lq)
        assert a.gt is not None
        assert b.gt is not None
        assert torch.equal(a.gt, b.gt)


def test_workers_change_nothing(dataset: PairedImageDataset) -> None:
    streams: list[list[Batch]] = []
    for num_workers in (0, 1, 2):
        with loader(dataset, num_workers) as batches:
            streams.append(list(islice(batches, 9)))
    assert_same(streams[0], streams[1])
    assert_same(streams[0], streams[2])


@pytest.mark.parametrize("enlarge_ratio", [1, 3])
def test_epochs_are_permutations(dataset: PairedImageDataset, enlarge_ratio: int) -> None:
    with loader(dataset, enlarge_ratio=enlarge_ratio) as batches:
        assert batches.samples_per_epoch == 7 * enlarge_ratio
        indices = [index for batch in islice(batches, 7 * enlarge_ratio) for index in batch.indices]
        assert batches.epoch == 4
    epochs = [indices[k : k + 7 * enlarge_ratio] for k in range(0, len(indices), 7 * enlarge_ratio)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(list(range(7)) * enlarge_ratio)] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_crops_differ_between_epochs_and_visits() -> None:
    sampler = RequestSampler(
        ShuffledOrder(5, seed=1, enlarge_ratio=3), batch_size=4, patch=PatchSize(8)
    )
    requests = [request for batch in islice(iter(sampler), 30) for request in batch]
    assert len({request.seed for request in requests}) == len(requests) == 120
    other = RequestSampler(
        ShuffledOrder(5, seed=1, enlarge_ratio=3), batch_size=7, patch=PatchSize(24), start=11
    )
    again = next(iter(other))
    assert [(r.index, r.seed) for r in again] == [(r.index, r.seed) for r in requests[11:18]]
    assert {r.lq_size for r in again} == {24}


def test_shape_can_change_while_running(dataset: PairedImageDataset) -> None:
    with loader(dataset) as batches:
        first = next(batches)
        batches.sampler.batch_size = 2
        batches.set_lq_size(24)
        second = next(batches)
        assert second.lq.shape == (2, 3, 24, 24)
        assert batches.samples_consumed == 6
    with loader(dataset, batch_size=6) as fixed:
        assert next(fixed).indices == first.indices + second.indices


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_in_the_middle_of_an_epoch(dataset: PairedImageDataset, num_workers: int) -> None:
    with loader(dataset) as batches:
        whole = list(islice(batches, 10))
    with loader(dataset, num_workers) as batches:
        head = list(islice(batches, 3))
        assert batches.samples_consumed == 12, "what was prefetched does not count"
        state = batches.state_dict()
    with loader(dataset, num_workers, samples_consumed=12) as batches:
        assert_same(whole, head + list(islice(batches, 7)))
    with loader(dataset, num_workers) as batches:
        next(batches)
        batches.load_state_dict(state)
        assert_same(whole[3:5], list(islice(batches, 2)))


def test_a_state_of_another_data_set_is_reported(
    dataset: PairedImageDataset, caplog: pytest.LogCaptureFixture
) -> None:
    with loader(dataset) as batches:
        batches.load_state_dict({**batches.state_dict(), "samples_per_epoch": 99, "seed": 8})
    assert "an epoch has 7 samples now and had 99 before" in caplog.text
    assert "the seed is 3 now and was 8 before" in caplog.text


def test_close_ends_the_workers(dataset: PairedImageDataset) -> None:
    with loader(dataset, 2) as batches:
        next(batches)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_a_plain_error(
    dataset: PairedImageDataset, num_workers: int
) -> None:
    path = dataset.pairs[5].gt.path
    path.write_bytes(path.read_bytes()[:300])
    with loader(dataset, num_workers) as batches, pytest.raises(DataError) as error:
        list(islice(batches, 5))
    assert str(error.value).startswith(f"{path}: the PNG file is cut short after 300 bytes")
    assert "Traceback" not in str(error.value)
    assert "Worker" not in str(error.value)
    assert "read_errors: skip" in str(error.value)
    assert multiprocessing.active_children() == [], "an error that is kept keeps no workers"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_images_are_replaced(
    dataset: PairedImageDataset, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with loader(dataset) as batches:
        before = list(islice(batches, 7))
    for index in (5, 6):
        dataset.pairs[index].lq.path.write_text("text")
    with (
        loader(dataset, num_workers, read_errors="skip") as batches,
        caplog.at_level(logging.WARNING),
    ):
        after = list(islice(batches, 7))
        assert batches.replaced_total == 8
    assert [batch.indices for batch in after] == [batch.indices for batch in before]
    for old, new in zip(before, after, strict=True):
        for place, index in enumerate(old.indices):
            if index in (5, 6):
                assert new.lq_paths[place] == str(dataset.pairs[0].lq.path)
            else:
                assert torch.equal(old.lq[place], new.lq[place])
        assert sum(map(bool, new.reasons)) == sum(index in (5, 6) for index in old.indices)
    assert len(caplog.records) == 2, "once for each file"
    assert f"{dataset.pairs[5].lq.path}: not a PNG" in caplog.text


def test_no_image_is_readable(dataset: PairedImageDataset) -> None:
    for pair in dataset.pairs:
        pair.lq.path.write_bytes(b"")
    policy: ReadErrors = "skip"
    with (
        loader(dataset, read_errors=policy) as batches,
        pytest.raises(
            DataError, match=r"none of the 7 images can be read; the first error: .*is empty"
        ),
    ):
        next(batches)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_worker_is_replaced_and_no_sample_lost(
    dataset: PairedImageDataset, caplog: pytest.LogCaptureFixture
) -> None:
    with loader(dataset) as undisturbed:
        wanted = [next(undisturbed).indices for _ in range(12)]
    with loader(dataset, 2) as batches:
        got = [next(batches).indices for _ in range(2)]
        os.kill(batches.worker_pids[0], signal.SIGKILL)
        # torch would raise here, wherever the main process happens to be.
        time.sleep(0.2)
        got += [next(batches).indices for _ in range(10)]
    assert got == wanted
    assert "the processes that read are started again (1 of 3 times)" in caplog.text


def test_where_no_process_stays_the_main_one_reads(
    dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with loader(dataset) as undisturbed:
        wanted = [next(undisturbed).indices for _ in range(6)]
    receive = Workers.receive

    def dying(workers: Workers) -> Batch | None:
        if workers.pids:
            raise WorkerError("a process that reads images has ended")
        return receive(workers)

    with loader(dataset, 1) as batches:
        got = [next(batches).indices for _ in range(2)]
        monkeypatch.setattr(Workers, "receive", dying)
        got += [next(batches).indices for _ in range(4)]
    assert got == wanted
    assert caplog.text.count("are started again") == 3
    assert "the training process reads by itself" in caplog.text


def test_a_dead_worker_is_a_worker_error(dataset: PairedImageDataset) -> None:
    def dying() -> Iterator[Batch]:
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
        yield

    with loader(dataset) as batches:
        batches._workers._batches = dying()
        with pytest.raises(
            WorkerError, match=r"7\) exited unexpectedly\nA process that reads images"
        ) as caught:
            batches._workers.receive()
    assert caught.value.exit_code == 1
    assert "lower num_worker_per_gpu" in str(caught.value)
    assert explain_worker_death(ValueError("DataLoader worker")) is None
    assert explain_worker_death(RuntimeError("something else")) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_workers_leave_the_objects_of_the_main_process_alone(dataset: PairedImageDataset) -> None:
    """Each that a worker's garbage collector looks at is copied."""

    class Count:
        def read(self, image: ScannedImage) -> Pixels:
            raise DataError(str(gc.get_freeze_count()))

    dataset.source = Count()
    with (
        loader(dataset, 1, start_method="fork") as batches,
        pytest.raises(DataError) as error,
    ):
        next(batches)
    frozen = re.search(r"\d{4,}", str(error.value))
    assert frozen is not None, str(error.value)
    assert gc.get_freeze_count() == 0


def test_workers_leave_ctrl_c_to_the_main_process(dataset: PairedImageDataset) -> None:
    with loader(dataset, 2) as batches:
        next(batches)
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGINT)
        assert len(list(islice(batches, 12))) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="limits of open files are POSIX's")
def test_a_batch_that_cannot_be_handed_over_is_read_by_the_main_process(
    dataset: PairedImageDataset, caplog: pytest.LogCaptureFixture
) -> None:
    """No more files may be opened, so that no memory can be shared."""
    import resource

    class Limited(PairedImageDataset):
        def __getitem__(self, index: Any) -> Any:
            sample = super().__getitem__(index)
            if get_worker_info() is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (1, 64))
            return sample

    limited = Limited(2, str(dataset.pairs[0].gt.path.parent), str(dataset.pairs[0].lq.path.parent))
    with loader(limited, 1) as batches, loader(dataset) as undisturbed:
        assert next(batches).indices == next(undisturbed).indices
        assert multiprocessing.active_children() == []
    said = caplog.messages[-1]
    assert "the training process reads by itself" in said
    assert "a batch cannot be handed over by the processes that read images" in said
    assert "--shm-size" in said
    assert "Traceback" not in caplog.text


def test_no_room_for_the_queues_is_explained() -> None:
    class Full:
        num_workers = 1
        multiprocessing_context = multiprocessing.get_context()

        def __iter__(self) -> Iterator[Batch]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    workers = Workers(Full())  # pyright: ignore[reportArgumentType]
    with pytest.raises(WorkerError, match=r"No space left on device.*--shm-size"):
        workers.start()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_frozen_workers_are_killed(
    dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("traiNNer.data.workers.END_S", 0.2)
    with loader(dataset, 2) as batches:
        next(batches)
        for pid in batches.worker_pids:
            os.kill(pid, signal.SIGSTOP)
    assert multiprocessing.active_children() == []


def test_a_long_wait_is_said(caplog: pytest.LogCaptureFixture) -> None:
    watch = LongWait((os.getpid(),), after_s=0.01, poll_s=0.005)
    with watch.waiting():
        while "no batch for" not in caplog.text:
            time.sleep(0.005)
    watch.end()
    assert "Ctrl-C saves at the last finished step" in caplog.text


def test_other_exceptions_stay_what_they_are(make_pairs: MakePairs) -> None:
    class Faulty(PairedImageDataset):
        def __getitem__(self, index: object) -> Any:
            raise ZeroDivisionError("a fault of ours")

    gt, lq = make_pairs(7)
    dataset = Faulty(2, str(gt), str(lq))
    with loader(dataset) as batches, pytest.raises(ZeroDivisionError, match="a fault of ours"):
        next(batches)


def test_pinning_without_a_gpu_is_no_matter(dataset: PairedImageDataset) -> None:
    with loader(dataset, pin_memory=True) as batches:
        assert next(batches).lq.shape == (4, 3, 16, 16)


def test_empty_dataset() -> None:
    class Empty:
        def __len__(self) -> int:
            return 0

        def __getitem__(self, index: Any, /) -> Any:
            raise IndexError(index)

    with pytest.raises(DataError, match="the dataset for training is empty"):
        DynamicDataLoaderWrapper(Empty(), batch_size=1, lq_size=8, seed=0, num_workers=0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_reads_whole_images_in_order(
    dataset: PairedImageDataset, num_workers: int, tmp_path: Path
) -> None:
    batches = list(eval_batches(dataset, num_workers))
    assert [batch.indices for batch in batches] == [[k] for k in range(7)]
    assert [tuple(batch.lq.shape) for batch in batches] == [
        (1, 3, 40 + 2 * k, 44 - k) for k in range(7)
    ]
    dataset.pairs[2].gt.path.write_text("text")
    with pytest.raises(DataError, match=r"002\.png: not a PNG"):
        list(eval_batches(dataset, num_workers))
    stopped = eval_batches(dataset, num_workers)
    next(stopped)
    del stopped
    assert multiprocessing.active_children() == []


def test_a_worker_that_crashes_while_it_ends_is_no_error() -> None:
    class Ending:
        message = "DataLoader worker (pid 7) is killed by signal: Aborted."

        def _shutdown_workers(self) -> None:
            raise RuntimeError(self.message)

    def workers(batches: Any) -> Workers:
        made = Workers([])  # pyright: ignore[reportArgumentType]
        made._batches = batches
        return made

    workers(Ending()).end()
    other = Ending()
    other.message = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        workers(other).end()


def test_little_shared_memory_bounds_what_is_read_ahead_and_holds_nothing_that_waits(
    dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []
    with loader(dataset) as undisturbed:
        wanted = [next(undisturbed) for _ in range(6)]
    for module in ("workers", "dynamic_dataloader_wrapper"):
        monkeypatch.setattr(f"traiNNer.data.{module}.shared_memory", lambda: 2**16)
    with loader(dataset, 2) as batches:
        got = [next(batches) for _ in range(6)]
        assert batches._prefetch.bytes_under_way <= 2**15
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.indices == theirs.indices
        assert ours.gt is not None
        assert not ours.gt.is_shared()
