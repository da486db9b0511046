"""Several moving averages of one network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.engine.test_recipes import Stop
from tests.support import make_pairs, run_training, small_options

NAMES = ("net_g", "net_g_ema", "net_g_ema_0.5", "net_g_ema_0.9")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data"))
    options["train"] |= {"total_iter": 6, "ema_decay": 0.2, "ema_also": [0.5, 0.9]}
    options["val"] = {"val_freq": 3}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 1, "keep_last": 9}
    return options


def weights(run: str, iteration: int, name: str) -> dict[str, torch.Tensor]:
    return load_file(Path("experiments") / run / "models" / f"{name}_{iteration}.safetensors")


def test_each_is_the_average_of_its_decay_and_is_judged(options: dict[str, Any]) -> None:
    assert run_training(options) == 0
    for name, decay in zip(NAMES[1:], (0.2, 0.5, 0.9), strict=True):
        # The first update copies.
        expected = weights("small", 1, "net_g")
        for iteration in range(2, 7):
            trained = weights("small", iteration, "net_g")
            expected = {key: value.lerp(trained[key], 1 - decay) for key, value in expected.items()}
        found = weights("small", 6, name)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
    with safe_open("experiments/small/models/net_g_ema_0.9_6.safetensors", "pt") as file:
        assert file.metadata()["arch"] == "compact"
        assert file.metadata()["ema"] == "true"
    log = Path("experiments/small/log/train.log").read_text(encoding="utf-8")
    told = dict(re.findall(r"validation at 6 on (val[^(]*) \(.*psnr ([\d.]+)", log))
    assert set(told) == {"val", "val, net_g_ema_0.5", "val, net_g_ema_0.9"}
    assert len(set(told.values())) == 3
    (best,) = re.findall(r"best so far: psnr ([\d.]+) at iteration 6", log) or [told["val"]]
    assert best == told["val"]


def test_they_resume_bit_for_bit(options: dict[str, Any]) -> None:
    assert run_training(options) == 0
    half = options | {"name": "half"}
    assert run_training(half, parts=[Stop(4)]) == 130
    assert run_training(half, "--auto_resume") == 0
    for name in NAMES:
        whole, resumed = (weights(run, 6, name) for run in ("small", "half"))
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    # One more begins where it is added, and one less is no error.
    # However near to each other they are.
    half["train"] |= {"total_iter": 8, "ema_also": [0.9999999, 0.99999991]}
    assert run_training(half, "--auto_resume") == 0
    assert weights("half", 8, "net_g_ema_0.9999999")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"ema_decay": 0}, "goes beside the first moving average; set ema_decay"),
        ({"ema_also": [0.5, 0.5]}, "expected each decay once"),
        ({"ema_also": [1.0]}, "train.ema_also"),
        (
            {"optim_g": {"type": "ScheduleFreeAdamW"}, "ema_decay": 0},
            "ScheduleFreeAdamW averages the weights itself; leave ema_also out",
        ),
    ],
)
def test_what_does_not_go_together_is_told(
    options: dict[str, Any],
    train: dict[str, Any],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options["train"] |= train
    assert run_training(options) == 2
    assert message in " ".join(capfd.readouterr().err.split())
