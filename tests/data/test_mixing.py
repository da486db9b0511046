"""Augmentations that mix: what they do to LQ and GT, and what decides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.streams import MemoryClips, MemoryImages
from tests.support import make_pairs, run_training, small_options
from traiNNer.data import DynamicDataLoaderWrapper, MixedDataset, SampleRequest
from traiNNer.ops.resize import resize

WAYS = ("mixup", "cutmix", "resizemix", "cutblur", "cutout", "downup")
Capture = pytest.CaptureFixture[str]


def images() -> MemoryImages:
    return MemoryImages([(40, 48), (36, 36), (50, 40)])


def pair(dataset: Any, request: SampleRequest) -> tuple[Tensor, Tensor]:
    sample = dataset[request]
    return cast("Tensor", sample.lq).float(), cast("Tensor", sample.gt).float()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [images, lambda: MemoryClips([(40, 48), (36, 36)])])
def test_each_way(way: str, make: Any) -> None:
    plain = make()
    mixed = MixedDataset(plain, {way: 1.0})
    for seed in range(8):
        request = SampleRequest(seed % 2, 24, seed)
        (lq, gt), (lq_before, gt_before) = pair(mixed, request), pair(plain, request)
        assert lq.shape == lq_before.shape
        assert gt.shape == gt_before.shape
        assert (lq != lq_before).any()
        if way in ("cutblur", "cutout", "downup"):
            assert torch.equal(gt, gt_before)
        else:
            assert (gt != gt_before).any()
        if way in ("mixup", "cutmix"):
            # GT of these pictures is LQ with every pixel repeated, and stays so.
            enlarged = lq.repeat_interleave(2, -1).repeat_interleave(2, -2)
            assert (enlarged - gt).abs().max() <= 1
        if way == "cutout":
            changed = (lq != lq_before).flatten(0, -3).any(0)
            rows, columns = torch.where(changed)
            box = lq[..., int(rows.min()) : int(rows.max()) + 1, int(columns.min()) :]
            assert (box[..., : int(columns.max() - columns.min()) + 1] == 0).all()


def test_a_resized_picture_lies_at_one_place_in_both() -> None:
    mixed = MixedDataset(images(), {"resizemix": 1.0})
    plain = images()
    for seed in range(8):
        request = SampleRequest(0, 24, seed)
        (lq, gt), (lq_before, gt_before) = pair(mixed, request), pair(plain, request)
        in_lq = (lq != lq_before).any(0)
        in_gt = (gt != gt_before).any(0)
        rows, columns = torch.where(in_lq)
        rows_gt, columns_gt = torch.where(in_gt)
        for small, large in ((rows, rows_gt), (columns, columns_gt)):
            assert abs(2 * int(small.min()) - int(large.min())) <= 1
            assert abs(2 * int(small.max()) + 1 - int(large.max())) <= 1


def test_cutblur_takes_what_gt_shows() -> None:
    mixed = MixedDataset(images(), {"cutblur": 1.0})
    lq, gt = pair(mixed, SampleRequest(0, 24, 3))
    clean = resize(gt / 255, (24, 24)).clamp(0, 1) * 255
    shares = ((lq - clean).abs() < 1).all(0).float().mean()
    assert 0.02 < shares < 0.98


def test_shares_and_seeds() -> None:
    plain = images()
    mixed = MixedDataset(plain, {"cutout": 0.25, "downup": 0.25})
    changed = 0
    for seed in range(400):
        request = SampleRequest(seed % 3, 16, seed)
        once, again = pair(mixed, request)[0], pair(mixed, request)[0]
        assert torch.equal(once, again)
        changed += not torch.equal(once, pair(plain, request)[0])
    assert abs(changed - 200) < 50
    whole = SampleRequest(0, None, 0)
    assert torch.equal(pair(mixed, whole)[0], pair(plain, whole)[0])


def test_nothing_depends_on_who_reads_and_what_is_beside() -> None:
    mixed = MixedDataset(images(), dict.fromkeys(WAYS, 0.15))
    read: dict[int, list[np.ndarray]] = {}
    for workers, batch_size in ((0, 4), (2, 7)):
        loader = DynamicDataLoaderWrapper(
            mixed, batch_size=batch_size, lq_size=16, seed=5, num_workers=workers
        )
        samples: list[np.ndarray] = []
        while len(samples) < 56:
            batch = next(loader)
            samples += list(cast("Tensor", batch.lq).numpy())
            if len(samples) == 28:
                loader.set_lq_size(12)
        loader.close()
        read[workers] = samples
    assert [sample.shape[-1] for sample in read[0]] == [16] * 28 + [12] * 28
    assert all(map(np.array_equal, read[0], read[2]))


def test_a_run_and_wrong_shares(tmp_path: Path, capfd: Capture) -> None:
    options = small_options(make_pairs(tmp_path))
    options["datasets"]["train"]["augmentations"] = {"mixup": 0.5, "cutblur": 0.5}
    assert run_training(options) == 0
    options["datasets"]["train"]["augmentations"] = {"mixup": 0.7, "cutblur": 0.5}
    assert run_training(options) != 0
    assert "the shares add up to 1.2; at most 1" in capfd.readouterr().err
