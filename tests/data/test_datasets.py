"""Pairs stay aligned, crops are uniform, augmentation does not depend on the size of the crop."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from image_sets import MakePairs, save, texture
from pydantic import ValidationError

from traiNNer.data import PairedImageDataset, SampleRequest, SingleImageDataset
from traiNNer.data.crop import draw_plan, pad_to
from traiNNer.data.pixel_source import IMAGE_FILES
from traiNNer.data.protocols import EvalSet, TrainingSet
from traiNNer.data.scan import ScannedImage
from traiNNer.options.dataset_sections import DatasetOptions
from traiNNer.utils.errors import DataError
from traiNNer.utils.files import FileStamp
from traiNNer.utils.images import Pixels
from traiNNer.utils.registry import DATASETS


def paired(folders: tuple[Path, Path], scale: int = 2, **options: object) -> PairedImageDataset:
    return PairedImageDataset(scale, str(folders[0]), [str(folders[1])], **options)  # type: ignore[arg-type]


def test_registered_under_any_spelling() -> None:
    assert DATASETS["paired_image_dataset"] is PairedImageDataset
    assert DATASETS["singleimagedataset"] is SingleImageDataset


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_crops_are_aligned(make_pairs: MakePairs, scale: int) -> None:
    dataset = paired(make_pairs(3, scale=scale), scale)
    for seed in range(40):
        sample = dataset[SampleRequest(seed % 3, 16, seed)]
        assert sample.gt is not None
        assert sample.lq.shape == (3, 16, 16)
        assert sample.gt.shape == (3, 16 * scale, 16 * scale)
        assert sample.lq.is_contiguous()
        assert sample.lq.untyped_storage().nbytes() == 3 * 16 * 16
        assert torch.equal(sample.gt[:, ::scale, ::scale], sample.lq)
        assert torch.equal(sample.gt[:, scale - 1 :: scale, scale - 1 :: scale], sample.lq)


def test_a_request_is_a_pure_function(make_pairs: MakePairs) -> None:
    folders = make_pairs(2)
    first = paired(folders)
    second = paired(folders)
    _ = first[SampleRequest(0, 8, 5)]
    a = first[SampleRequest(1, 16, 9)]
    b = second[SampleRequest(1, 16, 9)]
    assert torch.equal(a.lq, b.lq)
    assert a.gt is not None
    assert b.gt is not None
    assert torch.equal(a.gt, b.gt)
    assert not torch.equal(first[SampleRequest(1, 16, 10)].lq, a.lq)


def test_whole_image_without_augmentation(make_pairs: MakePairs) -> None:
    dataset = paired(make_pairs(2))
    sample = dataset[SampleRequest(1, None, 77)]
    np.testing.assert_array_equal(sample.lq.permute(1, 2, 0).numpy(), texture(42, 43, seed=1))
    assert (sample.index, Path(sample.lq_path).name, sample.replaced) == (1, "001.png", None)


def test_crops_reach_all_places_equally(make_pairs: MakePairs) -> None:
    dataset = paired(make_pairs([(18, 19)]), use_hflip=False, use_rot=False)
    whole = dataset[SampleRequest(0, None, 0)].lq
    places = {
        whole[:, y : y + 16, x : x + 16].numpy().tobytes(): (y, x)
        for y in range(3)
        for x in range(4)
    }
    seen = Counter(
        places[dataset[SampleRequest(0, 16, seed)].lq.numpy().tobytes()] for seed in range(1200)
    )
    assert len(seen) == 12
    assert min(seen.values()) > 60
    assert max(seen.values()) < 150


def test_orientations(make_pairs: MakePairs) -> None:
    folders = make_pairs([(16, 16)])

    def orientations(hflip: bool, rot: bool) -> set[bytes]:
        dataset = paired(folders, use_hflip=hflip, use_rot=rot)
        return {dataset[SampleRequest(0, 16, seed)].lq.numpy().tobytes() for seed in range(100)}

    assert len(orientations(hflip=False, rot=False)) == 1
    assert len(orientations(hflip=True, rot=False)) == 2
    assert len(orientations(hflip=False, rot=True)) == 4
    assert len(orientations(hflip=True, rot=True)) == 8


def test_size_of_the_crop_changes_no_flip(make_pairs: MakePairs) -> None:
    ramp_y, ramp_x = np.mgrid[0:64, 0:64].astype(np.uint8)
    folders = make_pairs([(64, 64)])
    image = np.stack([ramp_y, ramp_x, ramp_x], axis=2)
    save(folders[1] / "000.png", image)
    save(folders[0] / "000.png", image.repeat(2, 0).repeat(2, 1))
    dataset = paired(folders)

    def orientation(lq_size: int, seed: int) -> tuple[list[int], list[int]]:
        crop = dataset[SampleRequest(0, lq_size, seed)].lq.int()
        return (crop[:2, 1, 0] - crop[:2, 0, 0]).tolist(), (
            crop[:2, 0, 1] - crop[:2, 0, 0]
        ).tolist()

    for seed in range(24):
        assert orientation(16, seed) == orientation(40, seed) == orientation(63, seed)
    assert len({str(orientation(16, seed)) for seed in range(60)}) == 8


def test_switching_flips_off_moves_no_crop() -> None:
    with_flips = draw_plan(3, True, True)
    without = draw_plan(3, False, False)
    assert (with_flips.left, with_flips.top) == (without.left, without.top)
    assert (without.hflip, without.vflip, without.transpose) == (False, False, False)


def test_small_images_error(make_pairs: MakePairs) -> None:
    dataset = paired(make_pairs([(40, 40), (20, 40), (40, 18)]))
    assert dataset.smallest_side == 18
    dataset.require_lq_size(18)
    with pytest.raises(
        DataError,
        match=r"(?s)smaller than the patch of 24x24 .*lq_size 18 or less, or set small_images: "
        r"skip.*2 times",
    ) as error:
        dataset.require_lq_size(24)
    assert "001.png is 40x20" in str(error.value)
    assert "002.png is 18x40" in str(error.value)
    with pytest.raises(DataError, match=r"002\.png is 18x40"):
        _ = dataset[SampleRequest(2, 24, 0)]


def test_small_images_skip(make_pairs: MakePairs) -> None:
    dataset = paired(make_pairs([(40, 40), (20, 40), (40, 18), (41, 41)]), small_images="skip")
    dataset.require_lq_size(24)
    assert len(dataset) == 2
    assert dataset.smallest_side == 40
    assert dataset[SampleRequest(1, 24, 0)].lq_path.endswith("003.png")
    assert dataset.summary() == "2 pairs, GT 80x80 to 82x82, 2 left out (smaller than the patch)"
    dataset.require_lq_size(16)
    assert len(dataset) == 4
    with pytest.raises(
        DataError, match=r"all 4 LQ images are smaller.*lq_size 41 or less, or small_images: pad"
    ):
        dataset.require_lq_size(64)


def test_small_images_pad(make_pairs: MakePairs) -> None:
    dataset = paired(make_pairs([(40, 40), (9, 30)]), small_images="pad")
    dataset.require_lq_size(24)
    assert len(dataset) == 2
    for seed in range(20):
        sample = dataset[SampleRequest(1, 24, seed)]
        assert sample.gt is not None
        assert sample.lq.shape == (3, 24, 24)
        assert torch.equal(sample.gt[:, ::2, ::2], sample.lq)
    assert dataset[SampleRequest(1, None, 0)].lq.shape == (3, 9, 30)
    image = texture(5, 8)
    assert pad_to(image, 4) is image
    np.testing.assert_array_equal(pad_to(image, 8)[5:], image[:1:-1])


def test_files_that_change_while_running(make_pairs: MakePairs) -> None:
    gt, lq = make_pairs(1)
    dataset = paired((gt, lq))
    save(gt / "000.png", texture(50, 50))
    with pytest.raises(
        DataError, match=r"gt/000\.png is 50x50 and .*lq/000\.png is 44x40: not 2 times as large"
    ):
        _ = dataset[SampleRequest(0, 8, 0)]


def test_summary_names_the_unusual(make_pairs: MakePairs) -> None:
    gt, lq = make_pairs([(20, 20)] * 5)
    for folder, side in ((gt, 40), (lq, 20)):
        cv2.imwrite(str(folder / "000.png"), texture(side, side)[..., 0])
        cv2.imwrite(str(folder / "001.png"), texture(side, side)[..., 0])
        cv2.imwrite(
            str(folder / "002.png"), np.dstack([texture(side, side), texture(side, side)[..., :1]])
        )
        cv2.imwrite(str(folder / "003.png"), texture(side, side).astype(np.uint16) * 257)
    dataset = paired((gt, lq))
    assert dataset.summary() == (
        "5 pairs, GT 40x40, 2 grey images (repeated to 3 channels), 1 with alpha (dropped), 1 of "
        "16 bit"
    )
    assert dataset[SampleRequest(3, 8, 0)].lq.dtype == torch.float32
    assert dataset[SampleRequest(2, 8, 0)].lq.dtype == torch.uint8


def test_single_images(tmp_path: Path, make_pairs: MakePairs) -> None:
    _, lq = make_pairs(3)
    dataset = SingleImageDataset(4, [str(lq), str(lq / "001.png")])
    assert dataset.summary() == "4 images, 44x40 to 42x44"
    sample = dataset[SampleRequest(3, None, 0)]
    assert sample.gt is None
    assert sample.gt_path is None
    assert sample.lq_path == str(lq / "001.png")
    with pytest.raises(DataError, match="has no GT, so there is nothing to train on"):
        _ = dataset[SampleRequest(0, 8, 0)]
    with pytest.raises(DataError, match=r"does not exist"):
        SingleImageDataset(4, str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"empty list"):
        SingleImageDataset(4, [])
    (lq / "001.png").write_text("text")
    with pytest.raises(DataError, match=r"unusable image:\s+.*001\.png: not a PNG"):
        SingleImageDataset(4, str(lq / "001.png"))


@dataclass
class Store:
    """A toy of a store in memory: keeps what it decoded, for as long as the file is the same."""

    kept: dict[ScannedImage, Pixels] = field(default_factory=dict)
    decoded: list[str] = field(default_factory=list)

    def read(self, image: ScannedImage) -> Pixels:
        assert image.stamp is not None
        assert image.stamp == FileStamp.of(image.path.stat())
        if image not in self.kept:
            self.decoded.append(image.name)
            self.kept[image] = IMAGE_FILES.read(image)
            self.kept[image].flags.writeable = False
        return self.kept[image]


def test_pixels_come_from_the_source_that_is_handed_in(make_pairs: MakePairs) -> None:
    folders = make_pairs(2)
    store = Store()
    stored = paired(folders, source=store)
    plain = paired(folders)
    for seed in range(6):
        request = SampleRequest(seed % 2, 16, seed)
        one = stored[request]
        other = plain[request]
        assert torch.equal(one.lq, other.lq)
        assert one.gt is not None
        assert other.gt is not None
        assert torch.equal(one.gt, other.gt)
    assert store.decoded == ["000.png", "000.png", "001.png", "001.png"]
    single = SingleImageDataset(2, str(folders[1]), source=store)
    assert torch.equal(single[SampleRequest(0, None, 0)].lq, plain[SampleRequest(0, None, 0)].lq)
    assert len(store.decoded) == 4


def test_a_source_is_a_section_of_its_own() -> None:
    section = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
    checked = DatasetOptions.model_validate(section | {"source": {"type": "files"}})
    assert "source" not in checked.params
    for wrong in ("files", {"type": "memory"}, {"type": "files", "most": 3}):
        with pytest.raises(ValidationError):
            DatasetOptions.model_validate(section | {"source": wrong})


def test_image_sets_are_what_the_protocols_say(make_pairs: MakePairs) -> None:
    folders = make_pairs(2)
    training: TrainingSet = paired(folders)
    sets: list[EvalSet] = [training, SingleImageDataset(2, str(folders[1]))]
    for dataset in sets:
        assert dataset.frames == 1
        assert dataset.target is None
        assert dataset.for_validation() is dataset
