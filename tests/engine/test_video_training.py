"""Training on clips: the same loop, the same honesty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.witness import Witness, card, curves
from tests.support import run_training as run
from tests.support import small_options, texture
from traiNNer.engine.scoring import ImageScore, ValidationResult
from traiNNer.utils.images import write_image
from traiNNer.utils.shape import Shape

STACK = {"type": "temporal_stack", "arch": "compact", "frames": 3, "num_feat": 8, "num_conv": 1}


def make_scenes(
    root: Path, *, scenes: int = 2, frames: int = 6, lq_size: int = 48, scale: int = 2
) -> Path:
    """Scenes in root/gt and root/lq: a window that moves over a texture, and some of its pixels."""
    side = scale * lq_size
    for scene in range(scenes):
        picture = texture(side + 2 * frames, side + 2 * frames, scene)
        for frame in range(frames):
            gt = picture[frame : frame + side, 2 * frame : 2 * frame + side]
            write_image(root / "gt" / f"s{scene}" / f"{frame:05}.png", gt)
            write_image(root / "lq" / f"s{scene}" / f"{frame:05}.png", gt[::scale, ::scale].copy())
    return root


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    data = make_scenes(tmp_path / "scenes")
    options = small_options(data, network_g=dict(STACK))
    clips = {"type": "PairedVideoDataset", "clip_size": 3}
    options["datasets"]["train"] |= clips | {"target": "center"}
    options["datasets"]["val"] |= clips
    return options


@pytest.mark.parametrize("network", [STACK, {"type": "recurrent", "num_feat": 8, "num_blocks": 1}])
def test_clips_train_and_every_frame_is_validated(
    options: dict[str, Any], network: dict[str, Any]
) -> None:
    options["network_g"] = network
    options["datasets"]["train"]["target"] = "center" if network is STACK else "all"
    options["val"] = {"val_freq": 3, "save_img": True, "compare_bicubic": True}
    options["val"]["metrics"] = {"psnr": {"type": "psnr"}, "flicker": {"type": "flicker"}}
    assert run(options) == 0
    saved = {path.name for path in Path("experiments/small/visualization/val").glob("*_6.png")}
    assert saved == {f"s{scene}_{frame:05}_6.png" for scene in range(2) for frame in range(6)}
    (flicker,) = curves("val/val/flicker")
    assert len(flicker) == 2
    assert run(options, "--auto_resume", "--set", "train.total_iter=8") == 0


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_reports_agree_with_the_clips_that_entered(options: dict[str, Any], workers: int) -> None:
    options["train"]["total_iter"] = 100
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 100}
    options["datasets"]["train"]["num_worker_per_gpu"] = workers
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchSizeOptimizer": {"pace": "at_once", "max_batch_size": 24},
    }
    witness = Witness(card(Shape(48, 12), frames=3))
    assert run(options, memory=witness.memory, parts=[witness]) == 0
    assert all(entered == reported for entered, reported in witness.reported)
    sides, batches = curves("dynamic/lq_size", "dynamic/batch_size")
    assert sides == [entered.lq_size for entered, _ in witness.reported]
    assert batches == [entered.batch_size for entered, _ in witness.reported]
    assert 0.8 <= witness.memory.share(witness.entered[-1]) <= 0.88


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network_g": {"type": "compact"}},
            "gives clips of 3 frames, and compact takes single images",
        ),
        (
            {"network_g": STACK | {"frames": 5}},
            "gives clips of 3 frames, and temporal_stack takes 5; set clip_size: 5",
        ),
        (
            {"network_g": {"type": "recurrent"}},
            "has target: center, and recurrent makes all frames",
        ),
        ({"images": True}, "datasets.train gives single images, and temporal_stack takes clips"),
        ({"clip_size": 9}, "every scene is shorter than a clip of 9 frames"),
    ],
)
def test_clips_and_networks_that_do_not_fit_are_refused(
    options: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if "network_g" in changes:
        options["network_g"] = changes["network_g"]
    if "clip_size" in changes:
        options["datasets"]["train"]["clip_size"] = changes["clip_size"]
    if "images" in changes:
        for section in options["datasets"].values():
            section["type"] = "PairedImageDataset"
            for key in ("clip_size", "target"):
                section.pop(key, None)
    assert run(options, "--check") == 2
    told = capfd.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_scenes_of_one_name_are_scored_apart() -> None:
    scores = [("a/shot", 1), ("a/shot", 3), ("b/shot", 5), ("", 7)]
    images = [
        ImageScore(str(at), {"psnr": value}, scene) for at, (scene, value) in enumerate(scores)
    ]
    assert ValidationResult("val", images).scenes == {"shot": {"psnr": 2}, "shot_2": {"psnr": 5}}
