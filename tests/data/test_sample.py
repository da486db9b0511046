"""Batches: stacking, counting, moving."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from traiNNer.data import Batch, Sample, collate
from traiNNer.data.crop import Placement, cut, draw_plan, pad_to
from traiNNer.utils.images import image_to_tensor


def sample(
    shape: tuple[int, ...] = (3, 4, 6),
    dtype: torch.dtype = torch.uint8,
    gt: bool = True,
    index: int = 0,
) -> Sample:
    lq = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(index)).to(dtype)
    lq = lq / 255 if dtype.is_floating_point else lq
    doubled = lq.repeat_interleave(2, -1).repeat_interleave(2, -2) if gt else None
    return Sample(lq, doubled, index, f"lq{index}", f"gt{index}" if gt else None)


def test_collate() -> None:
    batch = collate([sample(index=3), sample(index=1)])
    assert (len(batch), batch.indices, batch.lq_paths, batch.gt_paths) == (
        2,
        [3, 1],
        ["lq3", "lq1"],
        ["gt3", "gt1"],
    )
    assert batch.gt is not None
    assert batch.lq.dtype == batch.gt.dtype == torch.uint8
    assert batch.pixels == 2 * 4 * 6
    assert batch.nbytes == 2 * 3 * (4 * 6 + 8 * 12)
    assert not any(batch.reasons)


def test_without_gt() -> None:
    batch = collate([sample(gt=False)])
    assert batch.gt is None
    assert batch.gt_paths == []
    assert batch.nbytes == 3 * 4 * 6
    assert batch.to("cpu").gt is None


def test_mixed_depths_become_float() -> None:
    eight = sample(index=1)
    deep = sample(index=1, dtype=torch.float32)
    batch = collate([eight, deep])
    assert batch.lq.dtype == torch.float32
    assert torch.equal(batch.lq[0], batch.lq[1])


def test_to_device_converts() -> None:
    batch = collate([sample(), sample(index=1)])
    moved = batch.to("cpu", channels_last=True, non_blocking=True)
    assert moved.gt is not None
    assert moved.lq.dtype == moved.gt.dtype == torch.float32
    assert moved.lq.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.lq, batch.lq.float() / 255)
    assert batch.lq.dtype == torch.uint8, "the batch itself stays"
    again = moved.to("cpu")
    assert torch.equal(again.lq, moved.lq)


def test_clips() -> None:
    batch = collate([sample((5, 3, 4, 6)), sample((5, 3, 4, 6), index=1)])
    assert batch.lq.shape == (2, 5, 3, 4, 6)
    assert batch.pixels == 2 * 5 * 4 * 6
    assert batch.to("cpu", channels_last=True).lq.dtype == torch.float32


def reasons(batch: Batch) -> list[tuple[int, str, str, str | None]]:
    return list(zip(batch.indices, batch.lq_paths, batch.gt_paths, batch.reasons, strict=True))


def test_metadata_follow_the_samples() -> None:
    samples = [sample(index=k) for k in range(5)]
    samples[1].replaced = "one"
    samples[4].replaced = "four"
    whole = collate(samples)
    head, tail = whole.split(2)
    assert (len(head), len(tail)) == (2, 3)
    assert (head.reasons, tail.reasons) == ([None, "one"], [None, None, "four"])
    assert head.lq.untyped_storage().data_ptr() == whole.lq.untyped_storage().data_ptr(), "no copy"
    merged = Batch.merge([tail, head])
    assert reasons(merged) == reasons(whole)[2:] + reasons(whole)[:2]
    assert torch.equal(merged.lq, torch.cat([whole.lq[2:], whole.lq[:2]]))
    assert Batch.merge([head]) is head


def test_merging_converts_as_collate_does() -> None:
    samples = [sample(index=0), sample(index=1, dtype=torch.float32), sample(index=2)]
    merged = Batch.merge([collate(samples[:1]), collate(samples[1:])])
    whole = collate(samples)
    assert merged.gt is not None
    assert whole.gt is not None
    assert merged.lq.dtype == torch.float32
    assert torch.equal(merged.lq, whole.lq)
    assert torch.equal(merged.gt, whole.gt)


def test_crop_of_an_unknown_placement_is_central() -> None:
    batch = collate([sample((3, 9, 9), index=k) for k in range(2)])
    cropped = batch.crop(4)
    assert cropped.gt is not None
    assert torch.equal(cropped.lq, batch.lq[..., 2:6, 2:6])
    assert torch.equal(cropped.gt[..., ::2, ::2], cropped.lq)
    assert cropped.lq.is_contiguous()
    assert batch.crop(9) is batch
    without = collate([sample((3, 9, 9), gt=False)]).crop(3)
    assert (without.gt, without.gt_paths) == (None, [])


@pytest.mark.parametrize("height", [5, 11, 16, 40])
def test_crops_of_one_placement_are_nested(height: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, 23, 3), dtype=np.uint8)
    for seed in range(60):
        placement = Placement(draw_plan(seed, True, True), height, 23)
        crops = {
            side: image_to_tensor(cut(pad_to(image, side), placement, side, 1))
            for side in (4, 7, 16)
        }
        large = collate([Sample(crops[16], None, 0, "", None, placement=placement)])
        for side in (4, 7):
            assert torch.equal(large.crop(side).lq[0], crops[side]), "as if asked for in this size"


def gt_alone(count: int = 4, side: int = 16, scale: int = 2) -> Batch:
    """What a dataset without LQ gives: LQ is made of it later, on the device."""
    samples = [
        Sample(
            None,
            torch.full((3, side * scale, side * scale), number, dtype=torch.uint8),
            number,
            f"lq{number}",
            f"gt{number}",
            seed=100 + number,
            lq_size=side,
            scale=scale,
        )
        for number in range(count)
    ]
    return collate(samples)


def test_ground_truth_alone_is_a_batch() -> None:
    batch = gt_alone()
    assert batch.lq is None
    assert (len(batch), batch.lq_size, batch.scale, batch.frames) == (4, 16, 2, 1)
    assert batch.pixels == 4 * 16 * 16
    assert batch.nbytes == 4 * 3 * 32 * 32
    first, rest = batch.split(1)
    assert (first.seeds, rest.seeds) == ([100], [101, 102, 103])
    again = Batch.merge([first, rest])
    assert again.seeds == batch.seeds
    assert again.gt is not None
    assert batch.gt is not None
    assert torch.equal(again.gt, batch.gt)
    small = batch.crop(8)
    assert small.gt is not None
    assert small.gt.shape == (4, 3, 16, 16)
    assert (small.lq_size, small.pixels, small.lq) == (8, 4 * 8 * 8, None)
    assert batch.to("cpu").gt is not None
    with pytest.raises(ValueError, match="a batch of lq0, lq1, lq2 has no LQ"):
        _ = batch.pair


def test_a_batch_of_nothing_but_numbers_must_tell_its_sizes() -> None:
    with pytest.raises(ValueError, match="needs to be told its lq_size and its scale"):
        Batch(None, torch.zeros(1, 3, 8, 8), [0], ["a"], ["b"])
