"""GT alone: LQ is what the script that makes folders would have written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import load_script, run_training, small_options, texture
from traiNNer.data import PairedImageDataset, SampleRequest, SingleGtDataset
from traiNNer.data.pixel_source import IMAGE_FILES
from traiNNer.data.scan import ScannedImage
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels, write_image

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """GT of several sizes, one of 16 bit and one off the grid, and what make_lq.py makes of it."""
    gt = tmp_path / "pictures"
    for number, (height, width) in enumerate([(96, 128), (64, 64), (97, 99)]):
        write_image(gt / f"{number}.png", texture(height, width, number))
    deep = texture(80, 72, 7).astype(np.uint16) * 257 + 3
    write_image(gt / "3.png", deep)
    return gt, tmp_path / "set" / "lq"


def made(gt: Path, lq: Path, mode: str) -> Path:
    """The folder of GT that is cropped to whole LQ pixels, beside that of LQ."""
    script = load_script("scripts/data_preparation/make_lq.py").main
    arguments = [str(gt), "-o", str(lq.parent), "--scale", "2", "--filter", mode]
    assert script(arguments) == 0
    return lq.parent / "gt"


def tensors(dataset: Any, request: SampleRequest) -> tuple[Tensor, Tensor]:
    sample = dataset[request]
    return cast("Tensor", sample.lq).float(), cast("Tensor", sample.gt).float()


@pytest.mark.parametrize("mode", ["bicubic", "lanczos", "box"])
@pytest.mark.parametrize("lq_size", [None, 12, 32])
def test_lq_is_what_the_script_writes(
    folders: tuple[Path, Path], mode: Any, lq_size: int | None
) -> None:
    gt, lq = folders
    cropped = made(gt, lq, mode)
    alone = SingleGtDataset(2, str(gt), lq_resize_mode=mode)
    pairs = PairedImageDataset(2, str(cropped), str(lq))
    assert len(alone) == len(pairs) == 4
    for index in range(4):
        for seed in range(12):
            request = SampleRequest(index, lq_size, seed)
            (ours, our_gt), (theirs, their_gt) = tensors(alone, request), tensors(pairs, request)
            assert torch.equal(our_gt, their_gt)
            assert ours.shape == theirs.shape
            # A level at most, where the sum of a few products is rounded another way.
            level = 1 / 65535 if ours.max() <= 1 else 1
            assert (ours - theirs).abs().max() <= level + 1e-6
            # The mean of four levels often lies half-way between two; flipped, it is summed up in
            # another order.
            assert (ours != theirs).float().mean() < (0.05 if mode == "box" else 0.01)


def test_small_images_are_left_out_or_mirrored(folders: tuple[Path, Path]) -> None:
    gt, _ = folders
    skipping = SingleGtDataset(2, str(gt), small_images="skip")
    skipping.require_lq_size(40)
    assert (len(skipping), skipping.left_out) == (2, 2)
    padding = SingleGtDataset(2, str(gt), small_images="pad")
    padding.require_lq_size(40)
    lq, target = tensors(padding, SampleRequest(1, 40, 0))
    assert lq.shape == (3, 40, 40)
    assert target.shape == (3, 80, 80)
    with pytest.raises(DataError, match="smaller than the patch"):
        SingleGtDataset(2, str(gt)).require_lq_size(40)


def test_what_cannot_be_used_is_listed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    gt, _ = folders
    write_image(gt / "tiny.png", texture(1, 9, 0))
    with pytest.raises(DataError, match=r"of which no LQ can be made[\s\S]*tiny.png is 9x1"):
        SingleGtDataset(2, str(gt))
    (gt / "tiny.png").unlink()
    dataset = SingleGtDataset(2, str(gt))
    shutil.copy(gt / "1.png", gt / "0.png")
    with pytest.raises(DataError, match="was the file changed while the program runs"):
        dataset[SampleRequest(0, 16, 0)]
    with pytest.raises(DataError, match="gone"):
        SingleGtDataset(2, str(tmp_path / "gone"))


def test_a_run_needs_no_folder_of_lq(folders: tuple[Path, Path], capfd: Capture) -> None:
    gt, _ = folders
    options = small_options(gt.parent)
    section = {"type": "SingleGtDataset", "dataroot_gt": str(gt)}
    options["datasets"] = {
        "train": section | {"lq_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1},
        "val": section,
    }
    options["val"] = {"val_freq": 3, "compare_bicubic": True}
    assert run_training(options) == 0
    told = capfd.readouterr()
    assert "4 GT images, LQ made of them, 64x64 to 128x96, bicubic" in told.err
    assert "bicubic, network on val" in told.out


def test_some_samples_take_lq_from_the_disk(folders: tuple[Path, Path]) -> None:
    gt, lq = folders
    cropped = made(gt, lq, "nearest")
    mixed = SingleGtDataset(2, str(cropped), dataroot_lq=str(lq), dataroot_lq_prob=0.3)
    alone = SingleGtDataset(2, str(cropped))
    pairs = PairedImageDataset(2, str(cropped), str(lq))
    assert "30 % of the samples with LQ from the disk" in mixed.summary()
    real = 0
    for seed in range(200):
        request = SampleRequest(seed % 4, 16, seed)
        ours, gt_of_ours = tensors(mixed, request)
        from_disk = torch.equal(ours, tensors(pairs, request)[0])
        assert from_disk or torch.equal(ours, tensors(alone, request)[0])
        assert torch.equal(gt_of_ours, tensors(pairs, request)[1])
        real += from_disk
    assert abs(real - 60) < 30
    whole = SampleRequest(0, None, 0)
    assert torch.equal(tensors(mixed, whole)[0], tensors(alone, whole)[0])
    with pytest.raises(DataError, match="dataroot_lq names no folder"):
        SingleGtDataset(2, str(cropped), dataroot_lq_prob=0.3)


class Whole:
    """Decodes whole pictures, whatever is asked for."""

    def read(self, image: ScannedImage) -> Pixels:
        return IMAGE_FILES.read(image)


@pytest.mark.parametrize("recipe", [None, "realesrgan", "photo_light"])
def test_rows_down_to_the_crop_make_the_same_samples(tmp_path: Path, recipe: str | None) -> None:
    gt = tmp_path / "tall"
    for number in range(2):
        write_image(gt / f"{number}.png", texture(320, 128, number))
    by_rows = SingleGtDataset(2, str(gt), degradations=recipe)
    whole = SingleGtDataset(2, str(gt), degradations=recipe, source=Whole())
    shorter = 0
    for seed in range(40):
        request = SampleRequest(seed % 2, 12, seed)
        for ours, theirs in zip(tensors(by_rows, request), tensors(whole, request), strict=True):
            assert torch.equal(ours, theirs)
        place = by_rows[request].placement
        assert place is not None
        rows = 2 * (place.corner(12)[0] + 32)
        shorter += rows < 320
    assert shorter > 20
