"""LQ that is made while reading: the seed and the place in the data decide all of it."""

from __future__ import annotations

import functools
from typing import cast

import pytest
import torch
from torch import Tensor

from tests.support import texture
from traiNNer.data import (
    Batch,
    DynamicDataLoaderWrapper,
    MultiScaleDataset,
    SampleRequest,
    SingleGtDataset,
)
from traiNNer.utils.images import write_image

SAMPLES = 2000
# Everything that draws, in little time.
RECIPE = [
    {"type": "blur", "sigma": [0.3, 1.0], "prob": 0.5},
    {"one_of": [{"type": "gaussian_noise"}, {"type": "poisson_noise"}]},
    {"shuffle": [{"type": "to_lq"}, {"type": "jpeg", "quality": [20, 90]}]},
    {"type": "resize", "prob": 0.3},
]
# From which sample on: batch size and lq_size. What grows, shrinks, and does both at once.
PLAN = {0: (4, 8), 300: (7, 8), 500: (5, 12), 900: (9, 10), 1300: (3, 6), 1500: (16, 9)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SingleGtDataset:
    folder = tmp_path_factory.mktemp("data") / "gt"
    for number in range(5):
        write_image(folder / f"{number}.png", texture(40 + 3 * number, 50, number))
    return SingleGtDataset(2, str(folder), degradations=RECIPE)


def loader(dataset: SingleGtDataset, workers: int, consumed: int = 0) -> DynamicDataLoaderWrapper:
    return DynamicDataLoaderWrapper(
        dataset,
        batch_size=4,
        lq_size=8,
        seed=11,
        num_workers=workers,
        samples_consumed=consumed,
    )


def shape_at(consumed: int) -> tuple[int, int]:
    return PLAN[max(place for place in PLAN if place <= consumed)]


def check(batch: Batch, dataset: SingleGtDataset) -> None:
    """Each sample is what a request of its own size, index and seed gives."""
    for place, (index, seed) in enumerate(zip(batch.indices, batch.seeds, strict=True)):
        lq, gt = sample_of(dataset, SampleRequest(index, batch.lq_size, seed))
        assert torch.equal(cast("Tensor", batch.lq)[place], lq)
        assert torch.equal(cast("Tensor", batch.gt)[place], gt)


@functools.cache
def sample_of(dataset: SingleGtDataset, request: SampleRequest) -> tuple[Tensor, Tensor]:
    """What the dataset gives; the tests ask for the same samples again and again."""
    sample = dataset[request]
    return cast("Tensor", sample.lq), cast("Tensor", sample.gt)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_the_same_lq_whatever_reads_and_whatever_the_shape(
    dataset: SingleGtDataset, workers: int
) -> None:
    data = loader(dataset, workers)
    stream = [data.sampler.request(position) for position in range(SAMPLES + 20)]
    sizes: set[int] = set()
    while data.samples_consumed < SAMPLES:
        batch_size, lq_size = shape_at(data.samples_consumed)
        data.set_batch_size(batch_size)
        data.set_lq_size(lq_size)
        first = data.samples_consumed
        batch = next(data)
        # Smaller at once, larger when what was asked for is used up.
        assert batch.lq_size <= lq_size
        asked = stream[first : first + len(batch)]
        assert batch.indices == [request.index for request in asked]
        assert batch.seeds == [request.seed for request in asked]
        check(batch, dataset)
        sizes.add(batch.lq_size)
    data.close()
    assert sizes == {6, 8, 9, 10, 12}


def test_a_resumed_run_reads_what_it_would_have_read(dataset: SingleGtDataset) -> None:
    data = loader(dataset, 2)
    for _ in range(10):
        next(data)
    state = data.state_dict()
    # Out of memory: the next batches are smaller, and so is the patch.
    data.set_batch_size(3)
    data.set_lq_size(6)
    whole = [next(data) for _ in range(10)]
    data.close()
    again = loader(dataset, 0)
    again.load_state_dict(state)
    again.set_batch_size(3)
    again.set_lq_size(6)
    for batch in whole:
        resumed = next(again)
        assert resumed.seeds == batch.seeds
        assert torch.equal(cast("Tensor", resumed.lq), cast("Tensor", batch.lq))
        assert torch.equal(cast("Tensor", resumed.gt), cast("Tensor", batch.gt))


def test_several_sizes_shrink_too(dataset: SingleGtDataset) -> None:
    data = DynamicDataLoaderWrapper(
        MultiScaleDataset(dataset, [12, 6]), batch_size=4, lq_size=12, seed=3, num_workers=2
    )
    next(data)
    data.set_lq_size(8)
    batch = next(data)
    data.close()
    assert batch.lq_size == 8
    check(batch, dataset)
