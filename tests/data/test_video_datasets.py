"""Clips: one crop and one orientation for all frames, no clip across scenes, every frame once in
validation.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import random
import shutil
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from image_sets import save, texture
from torch import Tensor

from tests.video.videos import film, marked, save_scene, write_colours, write_lossless, write_video
from traiNNer.data import (
    Batch,
    DynamicDataLoaderWrapper,
    DynamicDatasetWrapper,
    PairedVideoDataset,
    SampleRequest,
    SingleVideoDataset,
    collate,
    eval_batches,
)
from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import DATASETS
from traiNNer.video.scenes import mirrored

LENGTHS = [7, 9, 6]


def folders(root: Path, lengths: list[int] | None = None, scale: int = 2) -> tuple[Path, Path]:
    """Scenes s0, s1, ... of LQ and GT frames that `marked` makes."""
    for scene, length in enumerate(lengths or LENGTHS):
        save_scene(root / "lq" / f"s{scene}", scene, range(length))
        save_scene(root / "gt" / f"s{scene}", scene, range(length), scale)
    return root / "gt", root / "lq"


def video_files(root: Path, lengths: list[int] | None = None, scale: int = 2) -> tuple[Path, Path]:
    """The same scenes as lossless video files."""
    for scene, length in enumerate(lengths or LENGTHS):
        lq = [marked(scene, frame) for frame in range(length)]
        write_lossless(root / "lq" / f"s{scene}.mkv", lq, gop=4)
        write_lossless(
            root / "gt" / f"s{scene}.mkv", [p.repeat(scale, 0).repeat(scale, 1) for p in lq], gop=4
        )
    return root / "gt", root / "lq"


def paired(roots: tuple[Path, Path], **options: Any) -> PairedVideoDataset:
    return PairedVideoDataset(2, str(roots[0]), [str(roots[1])], **options)


def marks(lq: Tensor) -> list[tuple[int, int]]:
    """(scene, frame) of each frame of (T, 3, h, w), which is the same in all of its pixels."""
    blue = [frame[2].unique().tolist() for frame in lq]
    assert all(len(values) == 1 for values in blue)
    return [divmod(values[0], 32) for values in blue]


def check_clip(lq: Tensor, gt: Tensor | None, stride: int = 1) -> list[int]:
    """Frames of one scene at one place, GT exactly over LQ; returns the frames' numbers."""
    places = lq[:, :2]
    assert (places == places[:1]).all(), "the same rows and columns in every frame"
    scenes, numbers = zip(*marks(lq), strict=True)
    assert len(set(scenes)) == 1, "one scene"
    steps = {after - before for before, after in pairwise(numbers)}
    assert steps <= {stride} or steps <= {-stride}
    assert gt is not None
    expected = lq if gt.dim() == 4 else lq[len(lq) // 2]
    assert torch.equal(gt[..., ::2, ::2], expected)
    assert torch.equal(gt[..., 1::2, 1::2], expected)
    return list(numbers)


def test_registered() -> None:
    assert DATASETS["paired_video_dataset"] is PairedVideoDataset
    assert DATASETS["singlevideodataset"] is SingleVideoDataset


@pytest.mark.parametrize("make", [folders, video_files])
@pytest.mark.parametrize("target", ["all", "center"])
def test_clips_are_aligned(tmp_path: Path, make: Any, target: Any) -> None:
    dataset = paired(make(tmp_path), clip_size=3, target=target)
    assert (len(dataset), dataset.frames) == (sum(length - 2 for length in LENGTHS), 3)
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(3 * len(dataset)):
        sample = dataset[SampleRequest(seed % len(dataset), 16, seed)]
        assert sample.lq.shape == (3, 3, 16, 16)
        assert sample.gt is not None
        assert sample.gt.shape == ((3, 3, 32, 32) if target == "all" else (3, 32, 32))
        seen[(marks(sample.lq)[0][0], *check_clip(sample.lq, sample.gt))] += 1
    assert len(seen) == len(dataset)
    sample = dataset[SampleRequest(5, None, 0)]
    suffix = ".png" if make is folders else ""
    scene = "s1" if make is folders else "s1.mkv"
    name = f"{1:05d}" if make is folders else f"{1:08d}"
    assert sample.lq_path == str(tmp_path / "lq" / scene / f"{name}{suffix}"), (
        "the frame in the middle"
    )
    np.testing.assert_array_equal(sample.lq[2].permute(1, 2, 0).numpy(), marked(1, 2))


def test_stride_and_step(tmp_path: Path) -> None:
    dataset = paired(folders(tmp_path, [7, 9]), clip_size=3, frame_stride=3, clip_step=2)
    samples = [dataset[SampleRequest(index, 8, index)] for index in range(len(dataset))]
    assert [check_clip(sample.lq, sample.gt, 3) for sample in samples] == [
        [0, 3, 6],
        [0, 3, 6],
        [2, 5, 8],
    ]


STRIDE_SHORT = (
    r"(?s)scene shorter than a clip of 3 frames \(clip_size\) at a distance of 3 "
    r"\(frame_stride\), .*spans 7"
)


def test_short_scenes(tmp_path: Path) -> None:
    roots = folders(tmp_path)
    with pytest.raises(
        DataError, match=STRIDE_SHORT + r".*short_scenes: skip:\s+\S+/s2 has 6 frames$"
    ):
        paired(roots, clip_size=3, frame_stride=3)
    with pytest.raises(
        DataError,
        match=r"(?s)every scene is shorter .*choose clip_size 9 or less:\s+.*s1 with 9 frame",
    ):
        paired(roots, clip_size=10, short_scenes="skip")
    with pytest.raises(DataError, match=r"choose clip_size 3 or less"):
        paired(roots, clip_size=5, frame_stride=4, short_scenes="skip")
    dataset = paired(roots, clip_size=7, short_scenes="skip")
    assert len(dataset) == 1 + 3
    assert (
        dataset.summary()
        == "2 scenes, 16 frames, 4 clips of 7 frames, GT 64x48, 1 scene left out (shorter than a "
        "clip)"
    )
    assert len(dataset.for_validation()) == sum(LENGTHS), "validation needs no whole clip"


def test_useless_options(tmp_path: Path) -> None:
    roots = folders(tmp_path)
    with pytest.raises(DataError, match="clip_size is 0; it is 1 or more"):
        paired(roots, clip_size=0)
    with pytest.raises(DataError, match=r"target: center needs .* choose an odd clip_size, 3 or 5"):
        paired(roots, clip_size=4, target="center")


def test_time_flip_changes_nothing_else(tmp_path: Path) -> None:
    roots = folders(tmp_path)
    plain = paired(roots, clip_size=3)
    flipping = paired(roots, clip_size=3, use_time_flip=True)
    reversed_seeds = 0
    for seed in range(40):
        one, other = (dataset[SampleRequest(seed % 10, 12, seed)] for dataset in (plain, flipping))
        assert one.gt is not None
        assert other.gt is not None
        if check_clip(other.lq, other.gt) != check_clip(one.lq, one.gt):
            reversed_seeds += 1
            other.lq = other.lq.flip(0)
            other.gt = other.gt.flip(0)
        assert torch.equal(one.lq, other.lq)
        assert torch.equal(one.gt, other.gt)
        again = flipping[SampleRequest(seed % 10, 9, seed)]
        assert (marks(again.lq) == marks(other.lq)) == (marks(again.lq) == marks(one.lq)), (
            "whatever the size"
        )
    assert 10 < reversed_seeds < 30
    whole = flipping[SampleRequest(0, None, 1)]
    assert check_clip(whole.lq, whole.gt) == [0, 1, 2]


def test_center_decodes_one_gt_frame(tmp_path: Path) -> None:
    gt, lq = folders(tmp_path, [3])
    dataset = paired((gt, lq), clip_size=3, target="center")
    for number in (0, 2):
        (gt / "s0" / f"{number:05d}.png").write_text("damaged")
    assert dataset[SampleRequest(0, 16, 0)].gt is not None


@pytest.mark.parametrize("make", [folders, video_files])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_has_every_frame_once(tmp_path: Path, make: Any, num_workers: int) -> None:
    dataset = paired(
        make(tmp_path, [4, 1, 6]), clip_size=3, short_scenes="skip", use_time_flip=True
    ).for_validation()
    assert (len(dataset), dataset.frames) == (11, 3)
    middles = []
    around = []
    for batch in eval_batches(dataset, num_workers):
        assert batch.gt is not None
        assert (batch.lq.shape, batch.gt.shape) == ((1, 3, 3, 24, 32), (1, 3, 48, 64))
        assert torch.equal(batch.gt[..., ::2, ::2], batch.lq[:, 1])
        middles.append(marks(batch.lq[0])[1])
        around.append([frame for _, frame in marks(batch.lq[0])])
        assert int(Path(batch.lq_paths[0]).stem) == middles[-1][1]
        assert Path(batch.lq_paths[0]).parent.stem == f"s{middles[-1][0]}"
    assert middles == [*((0, k) for k in range(4)), (1, 0), *((2, k) for k in range(6))]
    assert around[:5] == [[1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 2], [0, 0, 0]]


def test_mirroring() -> None:
    assert [mirrored(k, 4) for k in range(-4, 8)] == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert [mirrored(k, 3) for k in range(-5, 8)] == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert [mirrored(k, 1) for k in range(-2, 3)] == [0] * 5


def check_batch(batch: Batch, dataset: PairedVideoDataset) -> None:
    frames = dataset.frames
    assert batch.gt is not None
    assert batch.lq.shape == (len(batch), frames, 3, batch.lq_size, batch.lq_size)
    assert batch.gt.shape[1:] == ((frames,) if dataset.target == "all" else ()) + (
        3,
        *(2 * batch.lq_size,) * 2,
    )
    for lq, gt, path in zip(batch.lq, batch.gt, batch.lq_paths, strict=True):
        numbers = check_clip(lq, gt)
        assert int(Path(path).stem) == numbers[frames // 2]


@pytest.mark.parametrize("target", ["all", "center"])
@pytest.mark.parametrize(("num_workers", "make"), [(0, folders), (2, folders), (2, video_files)])
def test_resizes(tmp_path: Path, num_workers: int, make: Any, target: Any) -> None:
    dataset = paired(make(tmp_path), clip_size=3, target=target, use_time_flip=True)
    _ = dataset[SampleRequest(0, 8, 0)]  # what is open here is not used in the workers
    wrapped = DynamicDatasetWrapper(dataset, 12, 2)
    draw = random.Random(num_workers)
    indices = []
    loader = DynamicDataLoaderWrapper(
        wrapped, batch_size=4, lq_size=12, seed=1, num_workers=num_workers, prefetch_bytes=2**18
    )
    with contextlib.closing(loader):
        for _ in range(30):
            loader.set_batch_size(draw.randint(1, 6))
            loader.set_lq_size(draw.randint(6, 24))
            first = loader.samples_consumed
            batch = next(loader)
            check_batch(batch, dataset)
            indices += batch.indices
            for place in range(len(batch)):
                request = loader.sampler.request(first + place)
                same = dataset[SampleRequest(request.index, batch.lq_size, request.seed)]
                assert torch.equal(same.lq, batch.lq[place]), (
                    "cropped on arrival or asked for in this size"
                )
                assert same.gt is not None
                assert batch.gt is not None
                assert torch.equal(same.gt, batch.gt[place])
    assert set(Counter(indices[: len(dataset)]).values()) == {1}


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_start_methods(tmp_path: Path, method: Any) -> None:
    dataset = paired(video_files(tmp_path), clip_size=3)
    settings: dict[str, Any] = {"batch_size": 3, "lq_size": 12, "seed": 5}
    plain = DynamicDataLoaderWrapper(dataset, num_workers=0, **settings)
    next(plain)
    loader = DynamicDataLoaderWrapper(dataset, num_workers=2, start_method=method, **settings)
    with contextlib.closing(loader):
        next(loader)
        for _ in range(6):
            one = next(plain)
            other = next(loader)
            assert torch.equal(one.lq, other.lq)
            assert one.indices == other.indices


def test_no_open_file_in_the_pickle(tmp_path: Path) -> None:
    dataset = paired(video_files(tmp_path), clip_size=3)
    before = len(pickle.dumps(dataset))
    first = dataset[SampleRequest(0, 12, 7)]
    assert len(pickle.dumps(dataset)) == before < 20_000
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[SampleRequest(0, 12, 7)].lq, first.lq)


def test_batches_of_clips_with_one_target(tmp_path: Path) -> None:
    dataset = paired(folders(tmp_path), clip_size=3, target="center")
    batch = collate([dataset[SampleRequest(k, 16, k)] for k in range(5)])
    head, tail = batch.split(2)
    again = Batch.merge([head.crop(9), tail.crop(9)])
    check_batch(again, dataset)
    assert again.pixels == 5 * 3 * 81
    moved = again.to("cpu", channels_last=True)
    assert moved.gt is not None
    assert moved.gt.is_contiguous(memory_format=torch.channels_last)
    assert moved.lq.dtype == torch.float32


def test_sizes(tmp_path: Path) -> None:
    for name, size in (("a", (24, 32)), ("b", (14, 32))):
        for number in range(4):
            save(tmp_path / "lq" / name / f"{number}.png", texture(*size))
            save(tmp_path / "gt" / name / f"{number}.png", texture(2 * size[0], 2 * size[1]))
    roots = tmp_path / "gt", tmp_path / "lq"
    dataset = paired(roots, clip_size=2)
    assert (dataset.largest_lq_size_of(None), dataset.largest_lq_size_of([0])) == (14, 24)
    with pytest.raises(DataError, match=r"lq_size 14 or less.*skip.*:\s+\S+/b/1\.png is 32x14$"):
        dataset.require_lq_size(16)
    with pytest.raises(
        DataError, match=r"the scenes cannot .*\s.*48x48 pixels that ssim needs:\s+\S+/b is 64x28$"
    ):
        dataset.require_gt_side(48, "ssim")
    dataset.require_gt_side(28, "ssim")
    skipping = paired(roots, clip_size=2, small_images="skip")
    skipping.require_lq_size(16)
    assert skipping.summary() == (
        "1 scene, 4 frames, 3 clips of 2 frames, GT 64x48, 3 clips left out (smaller than the "
        "patch)"
    )


def test_videos_and_frames_mix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gt, lq = folders(tmp_path, [5, 6])
    shutil.rmtree(lq / "s1")
    times = [0, 1, 2, 4, 5, 9]
    write_lossless(lq / "s1.mkv", [marked(1, k) for k in range(6)], times=times)
    with caplog.at_level(logging.WARNING):
        dataset = paired((gt, lq), clip_size=4)
    assert [record.getMessage() for record in caplog.records] == [
        f"{lq}/s1.mkv: its frame rate varies; frames are taken by their number, not by their time"
    ]
    for index in range(len(dataset)):
        sample = dataset[SampleRequest(index, 8, index)]
        check_clip(sample.lq, sample.gt)
    one = PairedVideoDataset(2, str(gt / "s1"), str(lq / "s1.mkv"), clip_size=6)
    assert one.summary() == "1 scene, 6 frames, 1 clip of 6 frames, GT 64x48"
    assert len(one) == 1


def test_numbers_are_numbers_and_scenes_may_be_nested(tmp_path: Path) -> None:
    for kind, scale in (("lq", 1), ("gt", 2)):
        for number in range(8, 12):
            pixels = marked(0, number).repeat(scale, 0).repeat(scale, 1)
            save(tmp_path / kind / "film" / "take 1" / f"im{number}.png", pixels)
            save(tmp_path / kind / "film" / f"{number - 8}_{number:03d}.png"[-8:], pixels)
        save_scene(tmp_path / kind, 2, range(3), scale)
    dataset = paired((tmp_path / "gt", tmp_path / "lq"), clip_size=3)
    firsts = [
        Path(dataset[SampleRequest(k, None, 0)].lq_path).relative_to(tmp_path / "lq")
        for k in range(len(dataset))
    ]
    assert [str(path) for path in firsts] == [
        "00001.png",
        "film/_009.png",
        "film/_010.png",
        "film/take 1/im9.png",
        "film/take 1/im10.png",
    ]


def test_everything_wrong_is_in_one_error(tmp_path: Path) -> None:
    gt, lq = folders(tmp_path, [5] * 12 + [3])
    for folder in (gt, lq):
        (folder / "s1" / "00002.png").unlink()
        (folder / "s1" / "00003.png").unlink()
    save(lq / "s2" / "00001.png", texture(20, 30))
    shutil.rmtree(lq / "s3")
    shutil.rmtree(gt / "s4")
    (gt / "s5" / "00004.png").unlink()
    save(lq / "s6" / "1.png", texture(24, 32))
    for number in range(5):
        save(gt / "s7" / f"{number:05d}.png", texture(72, 96))
    for path in sorted((gt / "s8").iterdir(), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))
    (gt / "s9" / "00003.png").write_text("text")
    (lq / "s10" / "00004.png").rename(lq / "s10" / "other4.png")
    (lq / "s11" / "00004.png").rename(lq / "s11" / "last.png")
    (gt / "empty" / ".hidden").mkdir(parents=True)
    (lq / "film.mp4").write_text("no video")
    write_lossless(lq / "s0.mkv", film(2))
    with pytest.raises(DataError) as error:
        paired((gt, lq), clip_size=5)
    message = str(error.value)
    assert message.startswith("the scenes cannot be used:\n")
    for expected in (
        f"or make two scenes of it (2 times):\n    {gt}/s1: 2 to 3\n    {lq}/s1: 2 to 3\n",
        (
            f"the frames of a scene are not equally large:\n    {lq}/s2/00001.png is 30x20, "
            f"{lq}/s2/00000.png is 32x24"
        ),
        f"GT scene without an LQ scene of the same name in {lq}:\n    {gt}/s3",
        f"LQ scene without a GT scene of the same name in {gt}:\n    {lq}/s4",
        f"GT and LQ do not have the same number of frames:\n    {gt}/s5 has 4 and {lq}/s5 has 5",
        f"two frames of one number in a scene:\n    {lq}/s6/00001.png and 1.png",
        f"GT is not 2 x LQ: it looks like scale 3:\n    {gt}/s7 is 96x72, {lq}/s7 is 32x24",
        (
            f"be shifted against each other:\n    {gt}/s8 begins with 00001.png and {lq}/s8 with "
            "00000.png"
        ),
        f"unusable image:\n    {gt}/s9/00003.png: not a PNG",
        f"each scene needs a folder of its own:\n    {lq}/s10: ..., other...",
        f"a frame without a number at the end of its name:\n    {lq}/s11/last.png",
        (
            "a folder without frames or videos; delete it, or let its name begin with a dot:\n    "
            f"{gt}/empty"
        ),
        f"unusable video:\n    {lq}/film.mp4: not a video that can be opened",
        (
            "two scenes of one name (without the suffix) in a folder; remove or rename one:\n    "
            f"{lq}/s0 and s0.mkv"
        ),
        (
            "scene shorter than a clip of 5 frames (clip_size); choose a smaller clip_size, or set "
            "short_scenes: skip:"
        ),
        f"\n    {lq}/s12 has 3 frames",
    ):
        assert expected in message, expected
    assert message.count("s9") == message.count("s10:") == message.count("s11") == 1, (
        "each scene is blamed once"
    )


def test_missing_roots(tmp_path: Path) -> None:
    gt, lq = folders(tmp_path, [3])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(
        DataError,
        match=r"(?s)folder does not exist:\s+\S+/none .*no frames and no videos in this fold",
    ):
        PairedVideoDataset(
            2, [str(tmp_path / "none"), str(gt)], [str(lq), str(tmp_path / "nothing")]
        )
    with pytest.raises(DataError, match="dataroot_gt names 2 folders and dataroot_lq 1"):
        PairedVideoDataset(2, [str(gt), str(gt)], str(lq))


def test_colours_that_are_told_for_one_side_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_colours(tmp_path / "lq" / "a.mkv", [(200, 100, 50)], 2, False)
    write_colours(tmp_path / "gt" / "a.mkv", [(200, 100, 50)] * 2, 1, False)
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="GT is not 2 x LQ"):
        paired((tmp_path / "gt", tmp_path / "lq"), clip_size=1)
    assert (
        "are not coded by the same colour matrix (BT.709 and BT.601): their colours may differ"
        in caplog.text
    )


@pytest.mark.parametrize("make", [folders, video_files])
def test_single_videos(tmp_path: Path, make: Any) -> None:
    _, lq = make(tmp_path, [3, 4])
    dataset = SingleVideoDataset(2, str(lq), clip_size=5)
    videos = " (2 videos)" if make is video_files else ""
    assert dataset.summary() == f"2 scenes{videos}, 7 frames, 32x24"
    assert (len(dataset), dataset.frames) == (7, 5)
    windows = [
        [frame for _, frame in marks(dataset[SampleRequest(k, None, 0)].lq)] for k in range(7)
    ]
    assert windows[:4] == [[2, 1, 0, 1, 2], [1, 0, 1, 2, 1], [0, 1, 2, 1, 0], [2, 1, 0, 1, 2]]
    sample = dataset[SampleRequest(6, None, 0)]
    assert (sample.gt, sample.gt_path, Path(sample.lq_path).parent.stem) == (None, None, "s1")
    for number, stream in enumerate(dataset.streams):
        assert (stream.name, len(stream), stream.width, stream.height) == (
            f"s{number}",
            3 + number,
            32,
            24,
        )
        assert stream.fps == (Fraction(25) if make is video_files else None)
        assert stream.is_video == (make is video_files)
        for _ in range(2):
            for frame, pixels in enumerate(stream.frames()):
                np.testing.assert_array_equal(pixels, marked(number, frame))
                assert int(stream.frame_name(frame)) == frame
    with pytest.raises(DataError, match="has no GT, so there is nothing to train on"):
        _ = dataset[SampleRequest(0, 8, 0)]


def test_single_scene_roots(tmp_path: Path) -> None:
    _, lq = folders(tmp_path, [3])
    video = write_lossless(tmp_path / "my film.mkv", film(4))
    dataset = SingleVideoDataset(2, [str(lq / "s0"), str(video)])
    assert [(stream.name, len(stream), stream.path) for stream in dataset.streams] == [
        ("s0", 3, lq / "s0"),
        ("my film", 4, video),
    ]
    with pytest.raises(DataError, match=r"(?s)folder of images is expected:.*does not exist"):
        SingleVideoDataset(2, [str(lq / "s0" / "00000.png"), str(tmp_path / "none.mp4")])
    with pytest.raises(DataError, match="empty list"):
        SingleVideoDataset(2, [])


def test_a_long_film_is_streamed_in_little_memory(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", film(10, 480, 640) * 12, "mpeg4")
    stream = SingleVideoDataset(2, str(video)).streams[0]
    process = psutil.Process()
    before = 0
    most = 0
    for number, _ in enumerate(stream.frames()):
        memory = process.memory_info().rss
        before = memory if number == 20 else before
        most = max(most, memory)
    assert most - before < 20 * 2**20, "100 frames would be 92 MB"
