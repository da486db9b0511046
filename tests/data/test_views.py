"""Subsets and ConcatDatasets of sized datasets: the right elements, the right bounds."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from streams import MemoryClips, MemoryImages, Picture
from torch.utils.data import ConcatDataset, Subset, random_split

from traiNNer.data import DynamicDataLoaderWrapper, DynamicDatasetWrapper, SampleRequest
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels


def test_elements_are_found_through_all_layers() -> None:
    first = MemoryImages([(40, 40)] * 5)
    second = MemoryImages([(30, 50)] * 4)
    nested = Subset(ConcatDataset([Subset(first, [4, 2]), second]), [5, 0, 1, 3])
    dataset = DynamicDatasetWrapper(nested, 16, 2)
    assert len(dataset) == 4
    for index, (leaf, inner) in enumerate([(second, 3), (first, 4), (first, 2), (second, 1)]):
        sample = dataset[SampleRequest(index, 12, 99)]
        expected = leaf[SampleRequest(inner, 12, 99)]
        assert torch.equal(sample.lq, expected.lq)
        assert (sample.index, sample.lq_path) == (index, f"lq/{inner}")
    with pytest.raises(IndexError, match="no element 4 among 4"):
        _ = dataset[SampleRequest(4, 12, 0)]


def test_plain_indices_have_the_present_size() -> None:
    dataset = DynamicDatasetWrapper(MemoryImages([(40, 40)] * 3), 16, 2)
    assert [tuple(sample.lq.shape) for sample in dataset] == [(3, 16, 16)] * 3
    assert torch.equal(dataset[1].lq, dataset[-2].lq)
    dataset.lq_size = 24
    sample = dataset[2]
    assert sample.gt is not None
    assert (tuple(sample.lq.shape), tuple(sample.gt.shape)) == ((3, 24, 24), (3, 48, 48))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_over_subsets(num_workers: int) -> None:
    whole = ConcatDataset([MemoryImages([(40, 40)] * 6), MemoryImages([(36, 50)] * 5)])
    part, _ = random_split(whole, [7, 4], generator=torch.Generator().manual_seed(0))
    dataset = DynamicDatasetWrapper(part, 16, 2)
    with contextlib.closing(
        DynamicDataLoaderWrapper(dataset, batch_size=4, lq_size=16, seed=0, num_workers=num_workers)
    ) as made:
        batches = list(islice(made, 14))
    assert Counter(index for batch in batches for index in batch.indices) == dict.fromkeys(
        range(7), 8
    )


def test_the_largest_patch_is_that_of_the_elements_used() -> None:
    images = MemoryImages([(40, 60), (20, 90), (33, 50)])
    assert DynamicDatasetWrapper(images, 16, 2).largest_lq_size == 20
    assert DynamicDatasetWrapper(Subset(images, [0, 2]), 16, 2).largest_lq_size == 33
    both = ConcatDataset([Subset(images, [0]), MemoryClips([(38, 39)])])
    assert DynamicDatasetWrapper(both, 16, 2).largest_lq_size == 38
    assert DynamicDatasetWrapper(Subset(both, [0]), 16, 2).largest_lq_size == 40
    padded = MemoryImages([(40, 60), (20, 90)], small_images="pad")
    assert DynamicDatasetWrapper(padded, 16, 2).largest_lq_size == 40
    with pytest.raises(DataError, match="the dataset for training is empty"):
        DynamicDatasetWrapper(Subset(images, []), 16, 2)


def test_small_images_below_subsets() -> None:
    images = MemoryImages([(40, 60), (20, 90), (33, 50)])
    DynamicDatasetWrapper(Subset(images, [0, 2]), 16, 2).require_lq_size(33)
    with pytest.raises(
        DataError, match=r"patch of 34x34 .*; choose lq_size 33 or less.*(?s:.)*lq/2 is 50x33"
    ):
        DynamicDatasetWrapper(Subset(images, [0, 2]), 16, 2).require_lq_size(34)
    skipping = MemoryImages([(40, 60), (20, 90), (33, 50)], small_images="skip")
    with pytest.raises(DataError, match="lq/1 is 90x20"):
        DynamicDatasetWrapper(Subset(skipping, [1, 2]), 16, 2).require_lq_size(24)
    joined = DynamicDatasetWrapper(ConcatDataset([skipping, images]), 16, 2)
    with pytest.raises(DataError, match="lq/1 is 90x20"):
        joined.require_lq_size(24)
    images.small_images = "skip"
    joined.require_lq_size(24)
    assert len(joined) == 4
    assert [joined[SampleRequest(k, 24, 0)].lq_path for k in range(4)] == [
        "lq/0",
        "lq/2",
        "lq/0",
        "lq/2",
    ]
    assert joined.largest_lq_size == 33


def test_frames_of_a_clip_are_equally_large() -> None:
    class Odd(MemoryClips):
        def read_frames(self, element: Picture) -> Iterator[tuple[Pixels, Pixels]]:
            first, (lq, gt), _ = super().read_frames(element)
            yield from [first, (lq[:, 1:], gt[:, 2:])]

    with pytest.raises(DataError, match=r"lq/0: frame 2 is 19x30 and the first one is 20x30"):
        _ = Odd([(30, 20)])[SampleRequest(0, 8, 0)]
    with pytest.raises(DataError, match=r"lq/0: the clip has no frames"):
        _ = MemoryClips([(30, 20)], frames=0)[SampleRequest(0, 8, 0)]
    assert MemoryClips([(30, 20)])[SampleRequest(0, None, 0)].lq.shape == (3, 3, 30, 20)
