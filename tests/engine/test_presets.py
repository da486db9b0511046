"""Every preset checks and trains as it stands, on a CPU, with only the folders of its data named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import train
from tests.engine.test_memory_fit import Witness, card, curves
from tests.engine.test_video_training import make_scenes
from tests.support import ROOT, make_pairs
from traiNNer.archs import build_network
from traiNNer.automations import Shape

PRESETS = ("realtime", "stream", "photo", "anime", "finetune", "video", "denoise")


def test_every_preset_is_tested() -> None:
    there = {path.stem for path in (ROOT / "options").glob("*.yml")}
    assert there == {*PRESETS, "demo", "test", "test_demo", "test_video"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_short_and_say_for_whom(name: str) -> None:
    lines = (ROOT / "options" / f"{name}.yml").read_text().splitlines()
    assert len(lines) <= 40
    assert lines[1].startswith("# ")
    assert yaml.safe_load("\n".join(lines))["name"] == name


HEAVY = ("photo", "anime", "finetune", "denoise", "video")
"""Half a minute to many on a CPU."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in HEAVY)) for n in PRESETS])
def test_presets_train(name: str, tmp_path: Path) -> None:
    preset = ROOT / "options" / f"{name}.yml"
    own = yaml.safe_load(preset.read_text())
    clips = own["extends"] == "base/clips.yml"
    make = make_scenes if clips else make_pairs
    size = {"lq_size": 128, "scale": own["scale"]}
    data = make(tmp_path / "data", **size, **({"frames": 8} if clips else {"count": 2}))
    roots = [f"datasets.{part}.dataroot_{kind}={data / kind}" for part in ("train", "val") for kind in ("gt", "lq")]
    if name == "finetune":
        from safetensors.torch import save_file

        save_file(build_network("esrgan", scale=4).state_dict(), tmp_path / "w.safetensors")
        roots.append(f"path.pretrain_network_g={tmp_path / 'w.safetensors'}")
    arguments = [part for root in roots for part in ("--set", root)]
    assert train.main(["-opt", str(preset), "--check", *arguments]) == 0
    arguments += ["--set", "train.total_iter=20", "--set", "num_gpu=0"]
    assert train.main(["-opt", str(preset), *arguments]) == 0
    log = Path(f"experiments/{name}/log/train.log").read_text()
    assert "20/20" in log
    assert "-> lq_size" in log, "the automation is at work"


@pytest.mark.parametrize(("name", "frames"), [("realtime", 1), ("stream", 5)])
def test_stream_and_realtime_land_in_the_same_band(
    name: str, frames: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once the one reported shapes that the other had, and used an eighth of the card."""
    data = (make_pairs if frames == 1 else make_scenes)(tmp_path / "data", lq_size=48)
    roots = [f"datasets.{part}.dataroot_{kind}={data / kind}" for part in ("train", "val") for kind in ("gt", "lq")]
    settings = [*roots, "datasets.train.lq_size=32", "datasets.train.batch_size_per_gpu=2", "train.total_iter=60"]
    settings += ["logger.print_freq=1", "val.val_enabled=false", "num_gpu=0", "use_amp=false"]
    witness = Witness(monkeypatch, card(Shape(40, 3), frames=frames))
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert train.main(["-opt", str(ROOT / "options" / f"{name}.yml"), *arguments]) == 0
    assert 0.82 <= witness.memory.share(witness.entered[-1]) <= 0.87
    sides, batches = curves("dynamic/lq_size", "dynamic/batch_size", run=name)
    assert sides == [shape.lq_size for shape, _ in witness.reported]
    assert batches == [shape.batch_size for shape, _ in witness.reported]
    assert all(entered == reported for entered, reported in witness.reported)
