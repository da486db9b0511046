"""Several moving averages of one network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from scripts.posthoc_average import main as posthoc_average
from tests.engine.test_recipes import Stop
from tests.support import make_pairs, run_training, small_options
from traiNNer.models.power_average import WIDEST, Profile, exponent_of, shares_for

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


@pytest.mark.parametrize("width", [0.02, 0.1, 0.25, WIDEST])
def test_the_width_is_that_of_the_times(width: float) -> None:
    times = (np.arange(200_000) + 0.5) / 200_000
    weights = times ** exponent_of(width)
    mean = np.average(times, weights=weights)
    assert np.average((times - mean) ** 2, weights=weights) == pytest.approx(width**2, rel=1e-3)


def test_other_widths_are_made_of_two() -> None:
    """A walk of 2,000 steps, followed by averages of which eight are kept."""
    steps = 2000
    walk = np.random.default_rng(0).standard_normal(steps).cumsum()

    def average(done: int, width: float) -> float:
        power = exponent_of(width) + 1
        ends = np.arange(done + 1.0) / done
        return float(np.diff(ends**power) @ walk[:done])

    kept = [Profile(done, width) for done in range(250, 2001, 250) for width in (0.05, 0.1)]
    for width in (0.04, 0.075, 0.15, 0.2):
        shares, missed = shares_for(Profile(steps, width), kept)
        made = sum(s * average(int(p.done), p.width) for s, p in zip(shares, kept, strict=True))
        assert sum(shares) == pytest.approx(1)
        assert 0.001 < missed < 0.1
        found = average(steps, width)
        assert abs(made - found) < 0.1 * abs(found - walk[-1])
    assert shares_for(kept[-1], kept)[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("measure", "each"), [("total_iter", 1), ("total_samples", 2)])
def test_power_law_averages_follow_the_work(
    options: dict[str, Any], measure: str, each: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options["train"] |= {"ema_also": [], "ema_widths": [0.05, 0.15], "total_iter": None}
    options["train"][measure] = 6 * each
    options["datasets"]["train"]["batch_size_per_gpu"] = 2
    options["val"] = {"val_freq": 3 * each}
    options["logger"] = {"save_checkpoint_freq": each, "keep_weights": True}
    assert run_training(options) == 0
    power = exponent_of(0.15) + 1
    shares = np.diff((np.arange(7.0) / 6) ** power)
    trained = [weights("small", iteration, "net_g") for iteration in range(1, 7)]
    for key, value in weights("small", 6, "net_g_ema_w0.15").items():
        expected = sum(s * one[key] for s, one in zip(shares, trained, strict=True))
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    with safe_open("experiments/small/models/net_g_ema_w0.15_6.safetensors", "pt") as file:
        assert file.metadata()["ema_width"] == "0.15"
        assert float(file.metadata()["done"]) == 6 * each
    capsys.readouterr()
    run = "experiments/small"
    assert posthoc_average([run, "--widths", "0.15", "0.1", "0.02", "-o", "made"]) == 0
    told = capsys.readouterr().out
    assert "made/net_g_w0.1.safetensors" in told
    assert "of that profile is missed" in told
    # A width that was kept is itself.
    made = load_file("made/net_g_w0.15.safetensors")
    for key, value in weights("small", 6, "net_g_ema_w0.15").items():
        torch.testing.assert_close(made[key], value, rtol=1e-4, atol=1e-5)


def test_a_run_without_widths_has_none_to_make(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_training(options) == 0
    for arguments, message in (
        (["--widths", "0.1"], "has no power-law averages of net_g; train with train.ema_widths"),
        (["--widths", "0.5"], "0.5; expected above 0 and below 0.289"),
    ):
        assert posthoc_average(["experiments/small", *arguments, "-o", "made"]) == 2
        assert message in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"ema_widths": [0.05, 0.05]}, "expected each width once"),
        ({"ema_decay": 0, "ema_also": [], "ema_widths": [0.1]}, "goes beside the first moving"),
        ({"ema_widths": [0.5]}, "train.ema_widths"),
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
