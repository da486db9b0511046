"""Datasets at several sizes: what travels, and what it is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch.utils.data import ConcatDataset, Subset

from tests.support import make_pairs
from traiNNer.data import (
    Batch,
    DynamicDataLoaderWrapper,
    DynamicDatasetWrapper,
    MultiScaleDataset,
    PairedImageDataset,
    Sample,
    SampleRequest,
    collate,
    materialize_scale,
    unwrap_dataset,
)
from traiNNer.utils.errors import DataError


@pytest.fixture
def base(tmp_path: Path) -> PairedImageDataset:
    data = make_pairs(tmp_path, count=3)
    return PairedImageDataset(2, str(data / "gt"), str(data / "lq"), use_hflip=True, use_rot=True)


def shapes(batch: Batch) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for view in batch.views for tensor in view.pair]


def test_what_is_efficient_sends_the_largest_size_alone(base: PairedImageDataset) -> None:
    dataset = MultiScaleDataset(base, [16, 24, 32])
    request = SampleRequest(1, 32, 5)
    sample = dataset[request]
    assert sample.views == ()
    assert torch.equal(cast("torch.Tensor", sample.lq), cast("torch.Tensor", base[request].lq))


def test_sizes_that_travel_are_those_of_the_device(base: PairedImageDataset) -> None:
    dataset = MultiScaleDataset(base, [16, 24, 32], memory_efficient=False)
    batch = collate([dataset[SampleRequest(index, 32, 5)] for index in range(3)])
    assert shapes(batch) == [(3, 3, 24, 24), (3, 3, 48, 48), (3, 3, 16, 16), (3, 3, 32, 32)]
    on_device = batch.to("cpu")
    alone = replace(on_device, views=())
    for side in (24, 16):
        sent = materialize_scale(on_device, side)
        assert sent.views == ()
        for ours, theirs in zip(sent.pair, materialize_scale(alone, side).pair, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
            assert 0 <= ours.min() <= ours.max() <= 1
    # Whatever is done to the samples is done to their sizes.
    head, tail = batch.split(1)
    assert shapes(Batch.merge([head, tail])) == shapes(batch)
    assert torch.equal(tail.views[1].pair[0], batch.views[1].pair[0][1:])
    assert head.nbytes + tail.nbytes == batch.nbytes
    assert batch.crop(16).views == ()


@pytest.mark.parametrize("efficient", [True, False])
def test_sizes_go_through_views_workers_and_changes(
    base: PairedImageDataset, efficient: bool
) -> None:
    parts = ConcatDataset([Subset(base, [2, 0]), base])
    dataset = MultiScaleDataset(parts, [16, 32], memory_efficient=efficient)
    assert len(dataset) == 5
    assert dataset.frames == 1
    wrapper = DynamicDatasetWrapper(dataset, 32, 2)
    assert wrapper.largest_lq_size == 48
    assert unwrap_dataset(wrapper) is base
    loader = DynamicDataLoaderWrapper(wrapper, batch_size=2, lq_size=32, seed=0, num_workers=1)
    try:
        seen: list[int] = []
        for number in range(6):
            batch = next(loader)
            seen += batch.indices
            assert len(batch.views) == (0 if efficient or number >= 4 else 1)
            if number == 3:
                # What was read ahead is cropped, and its sizes with it.
                loader.set_lq_size(24)
    finally:
        loader.close()
    assert sorted(seen[:5]) == list(range(5))
    with pytest.raises(DataError, match="smaller than the patch"):
        wrapper.require_lq_size(64)


def test_augmentation_is_the_same_at_all_sizes(base: PairedImageDataset) -> None:
    def dark(sample: Sample) -> Sample:
        return replace(sample, lq=torch.zeros_like(cast("torch.Tensor", sample.lq)))

    dataset = MultiScaleDataset(base, [16, 32], dark, memory_efficient=False)
    sample = dataset[SampleRequest(0, 32, 1)]
    (small,) = sample.views
    assert not cast("torch.Tensor", small.lq).any()
    assert cast("torch.Tensor", small.gt).any()


@pytest.mark.parametrize("scales", [[32], [32, 32], [0, 32]])
def test_one_size_is_not_several(base: PairedImageDataset, scales: list[int]) -> None:
    with pytest.raises(ValueError, match="two sizes or more"):
        MultiScaleDataset(base, scales)
