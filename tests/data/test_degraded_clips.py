"""Clips of GT alone: one recipe for all frames of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.support import run_training, small_options, texture
from traiNNer.data import SampleRequest, SingleGtDataset, SingleGtVideoDataset
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import write_image

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    """Two scenes, of seven and five frames, which move."""
    folder = tmp_path / "gt"
    for scene, count in enumerate((7, 5)):
        film = texture(90, 130, scene)
        for number in range(count):
            frame = film[number : number + 80, 2 * number : 2 * number + 112]
            write_image(folder / f"scene{scene}" / f"{number:03}.png", frame)
    return folder


def read(dataset: Any, request: SampleRequest) -> tuple[Tensor, Tensor]:
    sample = dataset[request]
    return cast("Tensor", sample.lq), cast("Tensor", sample.gt)


def test_shrunk_frames_are_those_of_pictures(gt: Path, tmp_path: Path) -> None:
    clips = SingleGtVideoDataset(2, str(gt), clip_size=3)
    pictures = SingleGtDataset(2, str(gt))
    assert len(clips) == 5 + 3
    for seed in range(12):
        (lq, target), (first, first_gt) = (
            read(dataset, SampleRequest(0, 16, seed)) for dataset in (clips, pictures)
        )
        assert (lq.shape, target.shape) == ((3, 3, 16, 16), (3, 3, 32, 32))
        assert torch.equal(lq[0], first)
        assert torch.equal(target[0], first_gt)
        assert not torch.equal(target[1], target[0])


@pytest.mark.parametrize("recipe", ["stream", "dvd", "realesrgan"])
@pytest.mark.parametrize("target", ["all", "center"])
def test_seed_and_sample_decide(gt: Path, recipe: str, target: Any) -> None:
    first, second = (
        SingleGtVideoDataset(2, str(gt), recipe, clip_size=3, target=target, use_time_flip=True)
        for _ in range(2)
    )
    requests = [SampleRequest(seed % 8, (16, 32)[seed % 2], seed) for seed in range(8)]
    once = [read(first, request) for request in requests]
    again = [read(second, request) for request in reversed(requests)][::-1]
    for (lq, target_), (lq2, target2) in zip(once, again, strict=True):
        assert lq.shape[:2] == (3, 3)
        assert target_.ndim == (4 if target == "all" else 3)
        assert torch.equal(lq, lq2)
        assert torch.equal(target_, target2)


def test_a_clip_is_damaged_alike_and_its_frames_lie_below_gt(gt: Path) -> None:
    recipe = [{"type": "blur", "sigma": [1.0, 3.0]}]
    dataset = SingleGtVideoDataset(1, str(gt), recipe, clip_size=3)
    for seed in range(6):
        lq, target = (part.float() for part in read(dataset, SampleRequest(0, 48, seed)))
        lost = [float((a - b).square().mean()) for a, b in zip(lq, target, strict=True)]
        assert max(lost) < 1.3 * min(lost)
        inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
        assert (lq[inside] - target[inside]).abs().mean() < 12


def test_scenes_are_validated_in_one_way(gt: Path) -> None:
    dataset = SingleGtVideoDataset(2, str(gt), [{"type": "blur", "sigma": [0.5, 4.0]}], clip_size=3)
    val = dataset.for_validation()
    assert len(val) == 12
    lqs = [read(val, SampleRequest(index, None, 0))[0] for index in range(12)]
    # The same frame in two windows, and the other scene in another way.
    assert torch.equal(lqs[3][2], lqs[4][1])
    sharpness = [float(lq.float().diff(dim=-1).abs().mean()) for lq in (lqs[1], lqs[8])]
    assert abs(sharpness[0] - sharpness[1]) > 0.2


def test_small_scenes_are_listed(gt: Path) -> None:
    write_image(gt / "tiny" / "0.png", texture(1, 40, 0))
    with pytest.raises(DataError, match=r"scene smaller than 2x2 pixels[\s\S]*tiny is 40x1"):
        SingleGtVideoDataset(2, str(gt), clip_size=1)


def test_a_run_trains_on_clips(gt: Path, capfd: Capture) -> None:
    options = small_options(gt.parent)
    section = {
        "type": "SingleGtVideoDataset",
        "dataroot_gt": str(gt),
        "clip_size": 3,
        "target": "center",
        "degradations": [{"type": "h264", "crf": [20, 35]}],
    }
    options["network_g"] = {"type": "temporal_stack", "arch": "compact", "frames": 3}
    options["network_g"] |= {"num_feat": 8, "num_conv": 2}
    options["datasets"] = {
        "train": section | {"lq_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 1},
        "val": section,
    }
    assert run_training(options) == 0
    assert "LQ made of it (degraded)" in capfd.readouterr().err
