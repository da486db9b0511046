"""Options files in the form of other trainers become ours: they check, and train."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.test_video_training import make_scenes
from tests.losses.test_losses import features_of
from tests.support import load_script, make_pairs, run_training, write_options
from traiNNer.options.converting import convert
from traiNNer.options.converting_degradations import degradations_of
from traiNNer.options.degradation_recipes import NAMED_RECIPES
from traiNNer.options.degradations import parse_recipe

FOLDER = Path(__file__).parent / "neighbours"
FILES = sorted(path.name for path in FOLDER.iterdir())
from_neighbours = load_script("scripts/options/from_neighbours.py")
Capture = pytest.CaptureFixture[str]


def theirs(name: str) -> dict[str, Any]:
    text = (FOLDER / name).read_text()
    return tomllib.loads(text) if name.endswith(".toml") else yaml.safe_load(text)


@pytest.mark.parametrize("name", FILES)
def test_they_train(name: str, tmp_path: Path) -> None:
    """Twenty iterations of each, on small data and, where it is an image network, with a small one;
    all else is as it was converted.
    """
    result = convert(theirs(name))
    assert not result.problems
    options = result.values
    train = options["datasets"]["train"]
    scale = options["scale"]
    if "Video" in train["type"]:
        data = make_scenes(tmp_path / "data", frames=6, lq_size=48, scale=scale)
    else:
        data = make_pairs(tmp_path / "data", count=2, lq_size=64, scale=scale)
        options["network_g"] = {"type": "compact", "num_feat": 8, "num_conv": 2}
    for section in options["datasets"].values():
        for kind in ("gt", "lq"):
            if f"dataroot_{kind}" in section:
                section[f"dataroot_{kind}"] = str(data / kind)
    train |= {"lq_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    if "network_d" in options:
        options["network_d"]["num_feat"] = 8
    for metric in options.get("val", {}).get("metrics", {}).values():
        if metric["type"].endswith("dists"):
            metric["weights"] = features_of("vgg16")
    options["train"]["total_iter"] = 20
    options["num_gpu"] = 0
    assert run_training(write_options(tmp_path / "o.yml", options)) == 0


def test_degradations_are_those_that_were_asked_for() -> None:
    values = convert(theirs("redux_otf.yml")).values
    train = values["datasets"]["train"]
    assert train["type"] == "SingleGtDataset"
    blur, resize, noise, jpeg, *_ = train["degradations"]
    assert blur["prob"] == 0.8
    assert blur["one_of"][1] == {
        "type": "blur",
        "sigma": [0.2, 1.2],
        "side": [7, 12],
        "isotropic": True,
        "weight": 0.405,
    }
    assert (resize["down"], resize["up"]) == ([0.4, 1.0], [1.0, 1.5])
    assert resize["modes"] == ["bilinear", "bicubic", "nearest", "lanczos"]
    assert noise["one_of"][0]["sigma"] == [0, 2]
    assert noise["one_of"][1]["weight"] == 0.8
    assert jpeg["quality"] == [75, 95]
    assert train["augmentations"] == {
        "mixup": 0.084,
        "cutmix": 0.084,
        "resizemix": 0.084,
        "cutblur": 0.348,
    }
    assert {loss["type"] for loss in values["train"]["losses"]} >= {"charbonnierloss", "ganloss"}


def test_sharper_gt_is_that_of_the_losses_that_had_it() -> None:
    """A loss whose weights are not on this machine is left out afterwards."""
    basicsr = theirs("basicsr_otf.yml")
    basicsr["train"]["perceptual_opt"] = {"type": "PerceptualLoss"}
    result = convert(basicsr)
    sharp = [bool(loss.get("gt_usm")) for loss in result.values["train"]["losses"]]
    kinds = [loss["type"] for loss in result.values["train"]["losses"]]
    assert (
        dict(zip(kinds, sharp, strict=True)).items() >= {"L1Loss": True, "GANLoss": False}.items()
    )
    keys = "l1_gt_usm, percep_gt_usm, gan_gt_usm"
    assert (keys, "gt_usm: true of l1loss, perceptualloss") in result.notes
    result = convert(basicsr | {"percep_gt_usm": False, "gan_gt_usm": True})
    assert (keys, "gt_usm: true of l1loss; the discriminator sees GT as it is") in result.notes


def test_without_keys_it_is_the_published_recipe() -> None:
    kinds = [node.__class__.__name__ for node in parse_recipe(degradations_of({}))]
    assert kinds == [node.__class__.__name__ for node in parse_recipe(NAMED_RECIPES["realesrgan"])]


def test_the_script_tells_every_change(tmp_path: Path, capfd: Capture) -> None:
    mine = tmp_path / "mine.yml"
    assert from_neighbours.main([str(FOLDER / "neosr.toml"), str(mine)]) == 0
    told = "".join(capfd.readouterr())
    for words in (
        "adan_sf is not part of this version; ScheduleFreeAdamW",
        "train.ema_decay",
        "consistency_loss",
    ):
        assert words in told
    values = yaml.safe_load(mine.read_text())
    assert values["train"]["total_iter"] == 150000
    assert "ema_decay" not in values["train"]
    assert from_neighbours.main([str(FOLDER / "neosr.toml"), str(mine)]) != 0
    assert "exists; name a new file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "cannot be read"),
        ("- 1", "holds no options"),
        ("network_g: {type: magicnet}", "network_g.type"),
    ],
)
def test_what_cannot_be_converted(tmp_path: Path, capfd: Capture, text: str, words: str) -> None:
    path = tmp_path / "theirs.yml"
    path.write_text(text)
    assert from_neighbours.main([str(path), str(tmp_path / "mine.yml")]) != 0
    told = "".join(capfd.readouterr())
    assert words in told
    assert "Traceback" not in told


def test_a_folder_is_counted(tmp_path: Path, capfd: Capture) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text((FOLDER / name).read_text())
    assert from_neighbours.main([str(folder)]) == 0
    assert f"{len(FILES)} of {len(FILES)} pass (100 %)" in "".join(capfd.readouterr())
    assert len(list((tmp_path / "theirs_converted").iterdir())) == len(FILES)
    (folder / "odd.yml").write_text("network_g: {type: magicnet}")
    assert from_neighbours.main([str(folder), str(tmp_path / "again")]) == 2
    assert f"{len(FILES)} of {len(FILES) + 1} pass" in "".join(capfd.readouterr())


def test_parameters_of_the_network_are_kept() -> None:
    network = convert(theirs("basicsr_otf.yml")).values["network_g"]
    assert (network["num_filters"], network["num_blocks"]) == (64, 23)
