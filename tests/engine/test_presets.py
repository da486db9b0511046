"""Every preset checks and trains as it stands, on a CPU, with only the folders of its data
named.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

from tests.engine.test_video_training import make_scenes
from tests.engine.witness import Witness, card, curves
from tests.support import ROOT, make_pairs, run_training
from traiNNer.archs import build_network
from traiNNer.utils.shape import Shape

PRESETS = (
    "realtime",
    "stream",
    "stream_otf",
    "photo",
    "photo_gan",
    "anime_gan",
    "realtime_gan",
    "otf_gan",
    "anime",
    "anime_otf",
    "finetune",
    "video",
    "denoise",
)

CLIPS = ("base/clips.yml", "base/gt_clips.yml")


def test_every_preset_is_tested() -> None:
    there = {path.stem for path in (ROOT / "options").glob("*.yml")}
    assert there == {
        *PRESETS,
        "demo",
        "classify",
        "test",
        "test_demo",
        "test_classify",
        "test_video",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_short_and_say_for_whom(name: str) -> None:
    lines = (ROOT / "options" / f"{name}.yml").read_text().splitlines()
    assert len(lines) <= 40
    assert lines[1].startswith("# ")
    assert yaml.safe_load("\n".join(lines))["name"] == name


def roots_for(name: str, folder: Path, *, lq_size: int) -> list[str]:
    """Data and weights that the preset asks for, and arguments that name them."""
    own = yaml.safe_load((ROOT / "options" / f"{name}.yml").read_text())
    if own["extends"] in CLIPS:
        data = make_scenes(folder / "data", frames=8, lq_size=lq_size, scale=own["scale"])
    else:
        data = make_pairs(folder / "data", count=2, lq_size=lq_size, scale=own["scale"])
    roots = [
        f"datasets.{part}.dataroot_{kind}={data / kind}"
        for part in ("train", "val")
        for kind in (("gt",) if "/gt_" in own["extends"] else ("gt", "lq"))
    ]
    if name == "finetune":
        weights = build_network(own["network_g"]["type"], scale=own["scale"]).state_dict()
        save_file(weights, folder / "downloaded.safetensors")
        roots.append(f"path.pretrain_network_g={folder / 'downloaded.safetensors'}")
    return [part for root in roots for part in ("--set", root)]


# What --check has built whole trains with fewer blocks: their arithmetic took a minute.
LEAN = {
    "finetune": ["network_g.num_blocks=4", "path.strict_load_g=false"],
    "photo_gan": ["network_g.n_blocks=8", "network_d.num_feat=16"],
    "otf_gan": ["network_g.n_blocks=8", "network_d.num_feat=16"],
    "denoise": ["network_g.width=16"],
}


@pytest.mark.long
@pytest.mark.filterwarnings(
    "ignore:'saved_variables' is deprecated:DeprecationWarning"
)  # NAFNet's, in spandrel
@pytest.mark.parametrize("name", PRESETS)
def test_presets_train(name: str, tmp_path: Path) -> None:
    """On a card with little memory to spare; nothing is set but where the data are, and the
    end.
    """
    own = yaml.safe_load((ROOT / "options" / f"{name}.yml").read_text())
    frames = 5 if own["extends"] in CLIPS else 1
    # Small, because the arithmetic of the networks is real, on two cores; but NAFNet's second size
    # has twice the pixels of its first, so little of the first may be anything else.
    witness = Witness(card(Shape(24, 2), frames=frames, persistent=2e7))
    path = ROOT / "options" / f"{name}.yml"
    arguments = [*roots_for(name, tmp_path, lq_size=48), "--set", "num_gpu=0"]
    assert run_training(path, *arguments, "--check", memory=witness.memory) == 0
    arguments += ["--set", "train.total_iter=8"]
    for setting in LEAN.get(name, ()):
        arguments += ["--set", setting]
    assert run_training(path, *arguments, memory=witness.memory, parts=[witness]) == 0
    log = Path(f"experiments/{name}/log/train.log").read_text()
    assert "8/8" in log
    moves = re.findall(r"lq_size (\d+), batch (\d+) -> lq_size (\d+), batch (\d+)", log)
    assert moves, "the automation is at work"
    assert all(entered == reported for entered, reported in witness.reported)
    assert Path(f"experiments/{name}/memory.png").is_file()


@pytest.mark.parametrize(("name", "frames"), [("realtime", 1), ("stream", 5)])
def test_stream_and_realtime_land_in_the_same_band(name: str, frames: int, tmp_path: Path) -> None:
    """Once the one reported shapes that the other had, and used an eighth of the card."""
    data = (make_pairs if frames == 1 else make_scenes)(tmp_path / "data", lq_size=48)
    roots = [
        f"datasets.{part}.dataroot_{kind}={data / kind}"
        for part in ("train", "val")
        for kind in ("gt", "lq")
    ]
    settings = [
        *roots,
        "datasets.train.lq_size=24",
        "datasets.train.batch_size_per_gpu=2",
        "train.total_iter=50",
        "training_automations.DynamicBatchAndPatchSizeOptimizer.pace=at_once",
    ]
    settings += ["logger.print_freq=1", "val.val_enabled=false", "num_gpu=0", "use_amp=false"]
    witness = Witness(card(Shape(32, 3), frames=frames))
    arguments = [part for setting in settings for part in ("--set", setting)]
    path = ROOT / "options" / f"{name}.yml"
    assert run_training(path, *arguments, memory=witness.memory, parts=[witness]) == 0
    assert 0.82 <= witness.memory.share(witness.entered[-1]) <= 0.87
    sides, batches = curves("dynamic/lq_size", "dynamic/batch_size", run=name)
    assert sides == [shape.lq_size for shape, _ in witness.reported]
    assert batches == [shape.batch_size for shape, _ in witness.reported]
    assert all(entered == reported for entered, reported in witness.reported)


@pytest.mark.skipif(
    sys.platform != "linux", reason="the peak of a process is read as Linux tells it"
)
@pytest.mark.slow
@pytest.mark.parametrize("name", ["realtime", "stream"])
def test_stream_and_realtime_fill_a_real_budget(name: str, tmp_path: Path) -> None:
    """The same on memory that is really there: what the run says of its last shape is what is seen
    from outside.
    """
    budget_gib = 1.25
    settings = [
        f"vram_limit_gib={budget_gib}",
        "train.total_iter=56",
        "num_gpu=0",
        "logger.print_freq=1",
    ]
    settings += ["val.val_enabled=false", "datasets.train.num_worker_per_gpu=0"]
    arguments = [
        *roots_for(name, tmp_path, lq_size=48),
        *(part for one in settings for part in ("--set", one)),
    ]
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "-opt",
        str(ROOT / "options" / f"{name}.yml"),
        *arguments,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = ""
    seen = 0.0
    for line in process.stdout:
        output += line
        if "-> lq_size" in line:
            seen = 0.0  # what follows is of another shape
        if re.search(r"memory [\d.]+ %", line):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            seen = max(seen, int(peak[1]) * 1024 / 2**30 / budget_gib if peak else 0)
    assert process.wait() == 0, output[-3000:]
    used = [float(share) for share in re.findall(r"memory ([\d.]+) %", output)]
    assert 82 <= used[-1] <= 87, output[-3000:]
    assert abs(100 * seen - used[-1]) < 3, output[-3000:]
