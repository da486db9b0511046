"""Batches: stacking, counting, moving."""

from __future__ import annotations

import torch

from traiNNer.data import Sample, collate


def sample(
    shape: tuple[int, ...] = (3, 4, 6), dtype: torch.dtype = torch.uint8, gt: bool = True, index: int = 0
) -> Sample:
    lq = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(index)).to(dtype)
    lq = lq / 255 if dtype.is_floating_point else lq
    doubled = lq.repeat_interleave(2, -1).repeat_interleave(2, -2) if gt else None
    return Sample(lq, doubled, index, f"lq{index}", f"gt{index}" if gt else None)


def test_collate() -> None:
    batch = collate([sample(index=3), sample(index=1)])
    assert (len(batch), batch.indices, batch.lq_paths, batch.gt_paths) == (2, [3, 1], ["lq3", "lq1"], ["gt3", "gt1"])
    assert batch.gt is not None
    assert batch.lq.dtype == batch.gt.dtype == torch.uint8
    assert batch.pixels == 2 * 4 * 6
    assert batch.nbytes == 2 * 3 * (4 * 6 + 8 * 12)
    assert batch.replaced == []


def test_without_gt() -> None:
    batch = collate([sample(gt=False)])
    assert batch.gt is None
    assert batch.gt_paths == []
    assert batch.nbytes == 3 * 4 * 6
    assert batch.to("cpu").gt is None


def test_mixed_depths_become_float() -> None:
    eight, deep = sample(index=1), sample(index=1, dtype=torch.float32)
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
