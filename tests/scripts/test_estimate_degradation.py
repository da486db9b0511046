"""A recipe out of a folder of damaged pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from skimage import data

from tests.support import load_script, texture
from traiNNer.data.degrading import DegradationRecipe
from traiNNer.options.degradations import parse_recipe
from traiNNer.utils.images import read_image, write_image

estimate = load_script("scripts/data_preparation/estimate_degradation.py")
Capture = pytest.CaptureFixture[str]


def test_what_was_planted_is_proposed(capfd: Capture) -> None:
    planted = DegradationRecipe(
        [{"type": "gaussian_noise", "sigma": 12.0, "grey": 0.0}, {"type": "jpeg", "quality": 80}],
        1,
        "bicubic",
    )
    for number, name in enumerate(("astronaut", "coffee", "chelsea")):
        photo = getattr(data, name)()[100:260, 100:260]
        made, _ = planted((photo / 255).astype(np.float32)[None], number)
        write_image(Path(f"real/sub/{name}.png"), made[0][8:, 16:])
    write_image(Path("clean/1.png"), texture(200, 200, 0))
    assert estimate.main(["real", "--clean", "clean", "--out", "mine"]) == 0
    steps = {step["type"]: step for step in yaml.safe_load(Path("mine.yml").read_text())}
    parse_recipe(list(steps.values()))
    least, most = steps["jpeg"]["quality"]
    assert 75 <= least <= most <= 85
    assert steps["jpeg"]["prob"] == 1
    assert steps["jpeg"]["shifted"] == 0
    assert read_image(Path("mine.png")).shape == (3 * 160 + 2 * 4, 2 * 160 + 4, 3)
    told = "".join(capfd.readouterr())
    assert "JPEG quality" in told
    assert "coffee.png" in told


def test_small_pictures_are_refused(capfd: Capture) -> None:
    write_image(Path("real/1.png"), texture(40, 200, 0))
    assert estimate.main(["real"]) != 0
    assert "no picture has 64 pixels to each side" in capfd.readouterr().err
