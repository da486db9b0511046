"""What is asked for is what comes, in the sizes of the moment, and every sample exactly once."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from streams import Asked, MemoryClips, MemoryImages
from torch.utils.data import TensorDataset

from traiNNer.data import Batch, DynamicDataLoaderWrapper, DynamicDatasetWrapper, SampleRequest
from traiNNer.utils.errors import DataError
from traiNNer.utils.seeds import hash_seed

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
SIZES = [(64 + 3 * k % 17, 64 + 7 * k % 13) for k in range(37)]


@contextlib.contextmanager
def loader(
    dataset: Any, num_workers: int = 0, **options: Any
) -> Iterator[DynamicDataLoaderWrapper]:
    settings: dict[str, Any] = {"batch_size": 4, "lq_size": 16, "seed": 3} | options
    with contextlib.closing(
        DynamicDataLoaderWrapper(dataset, num_workers=num_workers, **settings)
    ) as made:
        yield made


def same(first: Batch, second: Batch) -> bool:
    assert first.gt is not None
    assert second.gt is not None
    metadata = [(b.indices, b.lq_paths, b.gt_paths, b.reasons) for b in (first, second)]
    return (
        metadata[0] == metadata[1]
        and torch.equal(first.lq, second.lq)
        and torch.equal(first.gt, second.gt)
    )


def check_batch(batch: Batch, dataset: Any, requests: list[SampleRequest]) -> None:
    """Every sample is the one that its request describes, cut to the size of the batch, GT exactly
    over LQ.
    """
    scale = dataset.scale
    assert batch.gt is not None
    assert batch.lq.shape[-1] == batch.lq.shape[-2] == batch.lq_size
    assert batch.gt.shape == (*batch.lq.shape[:-2], batch.lq_size * scale, batch.lq_size * scale)
    assert torch.equal(batch.gt[..., ::scale, ::scale], batch.lq)
    assert torch.equal(batch.gt[..., scale - 1 :: scale, scale - 1 :: scale], batch.lq)
    assert batch.indices == [request.index for request in requests]
    assert batch.lq_paths == [f"lq/{index}" for index in batch.indices]
    assert batch.gt_paths == [f"gt/{index}" for index in batch.indices]
    for place, request in enumerate(requests):
        fresh = dataset[SampleRequest(request.index, batch.lq_size, request.seed)]
        assert torch.equal(fresh.lq, batch.lq[place])


def check_epochs(indices: list[int], length: int, seed: int, first: int = 0) -> None:
    """Whole and begun epochs follow the permutations of the seed."""
    permutation: list[int] = []
    for place, index in enumerate(indices):
        epoch, k = divmod(first + place, length)
        if k == 0 or place == 0:
            generator = torch.Generator().manual_seed(hash_seed(seed, epoch))
            permutation = torch.randperm(length, generator=generator).tolist()
            assert sorted(permutation) == list(range(length))
        assert index == permutation[k]


def resize_at_random(made: DynamicDataLoaderWrapper, draw: random.Random) -> None:
    if draw.random() < 0.6:
        made.set_batch_size(draw.randint(1, 32))
    if draw.random() < 0.6:
        made.set_lq_size(draw.randint(8, 64))


@pytest.mark.parametrize(("num_workers", "resizes"), [(0, 500), (2, 350), (4, 150)])
def test_a_thousand_resizes(num_workers: int, resizes: int) -> None:
    scale = 4 if num_workers == 2 else 2
    dataset = MemoryImages(SIZES, scale)
    draw = random.Random(num_workers)
    budget = 3 * 2**20
    sample_bytes = 3 * (1 + scale**2)
    indices: list[int] = []
    with loader(dataset, num_workers, prefetch_bytes=budget) as made:
        asked = Asked(made)
        pids: tuple[int, ...] = ()
        for step in range(resizes):
            resize_at_random(made, draw)
            batch_size = made.batch_size
            lq_size = made.lq_size
            before = asked.waiting()
            batch = next(made)
            indices += batch.indices
            requests = asked.of(batch)
            assert batch.lq_size == min(lq_size, requests[0].lq_size or 0), (
                "larger crops are cut, smaller ones stay"
            )
            assert {min(lq_size, request.lq_size or 0) for request in requests} == {
                batch.lq_size
            }, "sizes never mix"
            if len(batch) != batch_size:
                assert len(batch) < batch_size
                following = asked.waiting()[0]
                assert min(following.lq_size or 0, lq_size) != batch.lq_size, (
                    "only where the size changes"
                )
            if batch.lq_size < lq_size:
                assert requests == before[: len(batch)], (
                    "only what was asked for before the growth is smaller"
                )
            if step % 5 == 0:
                check_batch(batch, dataset, requests)
            if num_workers:
                waiting = sum(
                    sample_bytes * (request.lq_size or 0) ** 2 for request in asked.waiting()
                )
                rest = sum(part.nbytes for part in made._prefetch.received)
                assert waiting <= budget + rest, "the bound, beside what is here already"
                assert rest <= budget / (2 * num_workers) * 2, (
                    "the rest of a unit, and one of another patch size"
                )
            pids = pids or made.worker_pids
            assert made.worker_pids == pids
        assert len(pids) == num_workers
        assert set(pids) == {process.pid for process in multiprocessing.active_children()}
        assert made.samples_consumed == len(indices)
        assert made.epoch > 30
    check_epochs(indices, len(dataset), seed=3)


@pytest.mark.parametrize("num_workers", [0, 2, 4])
def test_sizes_hold_from_the_next_batch(num_workers: int) -> None:
    dataset = MemoryImages(SIZES)
    with loader(dataset, num_workers, batch_size=6, lq_size=32) as made:
        assert next(made).lq.shape == (6, 3, 32, 32)
        for batch_size in (20, 1, 7):
            made.set_batch_size(batch_size)
            assert next(made).lq.shape == (batch_size, 3, 32, 32)
        made.set_lq_size(9)
        assert next(made).lq.shape == (7, 3, 9, 9)
        for _ in range(15):
            assert next(made).lq.shape == (7, 3, 9, 9)
        made.set_lq_size(40)
        shapes = [tuple(next(made).lq.shape) for _ in range(12)]
        late = [shape for shape in shapes if shape[-1] == 9]
        assert shapes == late + [(7, 3, 40, 40)] * (12 - len(late)), (
            "the ones read ahead first, then all larger"
        )
        assert len(late) <= (5 if num_workers else 0)


def test_in_the_long_run_nothing_is_copied() -> None:
    with loader(MemoryImages(SIZES), 2, batch_size=6, lq_size=8) as made:
        next(made)
        made.set_batch_size(10)
        for _ in range(6):
            next(made)
        for _ in range(3):
            next(made)
            assert not made._prefetch.received, "units end where batches end"
            assert [unit.samples for unit in made._prefetch._asked] == [10] * 4


@pytest.mark.parametrize("num_workers", [2, 4])
@pytest.mark.parametrize(
    "options", [{}, {"prefetch_bytes": 20_000}, {"prefetch_factor": 3, "prefetch_batches": 1}]
)
def test_prefetching_changes_nothing(num_workers: int, options: dict[str, int]) -> None:
    dataset = MemoryImages(SIZES)
    with loader(dataset) as plain, loader(dataset, num_workers, **options) as made:
        for expected, batch in zip(islice(plain, 25), made, strict=False):
            assert same(expected, batch)


def test_a_sample_larger_than_the_budget_travels_alone() -> None:
    with loader(MemoryImages(SIZES), 2, lq_size=60, prefetch_bytes=1000) as made:
        asked = Asked(made)
        indices = []
        for batch in islice(made, 12):
            indices += batch.indices
            assert len(asked.waiting()) <= 1
        made.set_lq_size(8)
        made.set_batch_size(9)
        assert next(made).lq.shape == (9, 3, 8, 8)
    check_epochs(indices, len(SIZES), seed=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_in_the_middle(num_workers: int) -> None:
    dataset = MemoryImages(SIZES)
    draw = random.Random(1)
    indices: list[int] = []
    with loader(dataset, num_workers) as made:
        for _ in range(40):
            resize_at_random(made, draw)
            indices += next(made).indices
        made.set_batch_size(5)
        made.set_lq_size(8)
        state = made.state_dict()
        assert state["samples_consumed"] == len(indices)
        going_on = list(islice(made, 30))
    with loader(dataset, num_workers, batch_size=5, lq_size=8) as other:
        next(other)
        other.load_state_dict(state)
        for expected in going_on:
            batch = next(other)
            assert same(expected, batch), "even those that were cropped on arrival"
            indices += batch.indices
        assert other.samples_consumed == len(indices)
    check_epochs(indices, len(SIZES), seed=3)


def test_spawned_workers() -> None:
    dataset = DynamicDatasetWrapper(MemoryImages(SIZES), 16, 2)
    with loader(dataset, 2, start_method="spawn") as made, loader(dataset) as plain:
        pids = set()
        for batch_size, lq_size in ((4, 16), (7, 12), (2, 12)):
            for each in (made, plain):
                each.set_batch_size(batch_size)
                each.set_lq_size(lq_size)
            assert same(next(plain), next(made))
            pids.add(made.worker_pids)
        assert len(pids) == 1
        assert len(made.worker_pids) == 2


def test_clips_have_one_crop_for_all_frames() -> None:
    dataset = MemoryClips(SIZES[:5])
    draw = random.Random(2)
    with loader(dataset, 2, prefetch_bytes=2**19) as made:
        asked = Asked(made)
        for _ in range(60):
            made.set_batch_size(draw.randint(1, 6))
            made.set_lq_size(draw.randint(8, 48))
            batch = next(made)
            assert batch.lq.dim() == 5
            assert batch.lq.shape[1:3] == (3, 3)
            check_batch(batch, dataset, asked.of(batch))


def test_a_failing_image_loses_no_sample() -> None:
    class Failing(MemoryImages):
        broken = True

        def read_pair(self, element: Any) -> Any:
            if element.number == 20 and self.broken:
                raise DataError("number 20 is broken")
            return super().read_pair(element)

    dataset = Failing(SIZES)
    indices: list[int] = []
    with loader(dataset) as made:
        with pytest.raises(DataError, match="number 20 is broken"):
            indices.extend(index for batch in made for index in batch.indices)
        assert made.samples_consumed == len(indices)
        dataset.broken = False
        for batch in islice(made, 30):
            indices += batch.indices
    check_epochs(indices, len(SIZES), seed=3)


def test_the_loader_follows_the_dataset() -> None:
    dataset = DynamicDatasetWrapper(MemoryImages(SIZES), 16, 2)
    with loader(dataset, lq_size=24) as made:
        assert dataset.lq_size == 24
        made.set_lq_size(12)
        assert (dataset.lq_size, dataset.gt_size) == (12, 24)
        dataset.gt_size = 40
        assert next(made).lq.shape == (4, 3, 20, 20)
        assert made.lq_size == 20


def test_a_dataset_that_ignores_the_size_is_found_out() -> None:
    class Stubborn(MemoryImages):
        def __getitem__(self, index: SampleRequest) -> Any:
            return super().__getitem__(SampleRequest(index.index, 16, index.seed))

    with loader(Stubborn(SIZES)) as made:
        next(made)
        made.set_lq_size(24)
        with pytest.raises(
            DataError,
            match=r"asked for 4 crops of 24x24 LQ pixels and gave 4 of 16x16, as for lq/\d+",
        ):
            next(made)


def test_useless_sizes() -> None:
    dataset = DynamicDatasetWrapper(MemoryImages(SIZES), 16, 2)
    with loader(dataset) as made:
        for set_size in (made.set_batch_size, made.set_lq_size):
            with pytest.raises(ValueError, match=r"_size is 0; it is 1 or more"):
                set_size(0)
        with pytest.raises(ValueError, match="gt_size 33 is not a multiple of the scale 2"):
            dataset.gt_size = 33
    with pytest.raises(DataError, match="a TensorDataset cannot crop to a size that changes"):
        DynamicDatasetWrapper(TensorDataset(torch.zeros(3)), 16, 2)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("num_workers", [0, 2])
def test_split_merged_and_cropped_batches_are_page_locked(num_workers: int) -> None:
    draw = random.Random(5)
    with (
        loader(MemoryImages(SIZES), num_workers, pin_memory=True) as made,
        loader(MemoryImages(SIZES)) as plain,
    ):
        for _ in range(60):
            made.set_batch_size(draw.randint(1, 32))
            made.set_lq_size(draw.randint(8, 64))
            batch = next(made)
            assert batch.gt is not None
            assert batch.lq.is_pinned()
            assert batch.gt.is_pinned()
            plain.set_batch_size(len(batch))
            plain.set_lq_size(batch.lq_size)
            assert same(next(plain), batch)
