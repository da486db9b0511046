"""A few steps on this machine, and the time that the whole run is expected to take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import load_script, make_pairs, run_training, small_options, write_options
from traiNNer.options.length import RunLength, expected_seconds
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.trial import trial_work
from traiNNer.utils.device import Runtime
from traiNNer.utils.work import Work

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("key", "value", "seconds"),
    [
        ("total_iter", 1000, 200.0),
        ("total_samples", 1000, 50.0),
        ("total_mpixels", 1, 500.0),
        ("total_hours", 1, None),
    ],
)
def test_the_time_is_that_of_the_length_at_a_rate(
    key: str, value: float, seconds: float | None
) -> None:
    rate = Work(iterations=10, samples=40, pixels=4000, seconds=2.0)
    length = RunLength.of(key, value, samples=4, pixels=400)
    assert expected_seconds(length, rate) == seconds


def test_a_trial_counts_the_steps_that_it_times(tmp_path: Path) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    options["datasets"]["train"] |= {"batch_size_per_gpu": 3, "accum_iter": 2}
    loaded = load_options(TrainingOptions, write_options(tmp_path / "o.yml", options))
    before = torch.get_rng_state()
    work = trial_work(loaded, Runtime(torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), before)
    assert 1 <= work.iterations <= 50
    assert work.samples == 6 * work.iterations
    assert work.pixels == work.samples * 16 * 16
    assert work.seconds > 0


def test_the_planner_says_how_long_the_run_takes_here(tmp_path: Path, capfd: Capture) -> None:
    options = write_options(tmp_path / "o.yml", small_options(make_pairs(tmp_path / "data")))
    plan = load_script("scripts/plan_vram.py").main
    assert plan(["-opt", str(options), "--vram", "8", "--trial"]) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert "on this machine (CPU" in told
    assert "6 iterations take about 0:00:0" in told


def test_a_check_knows_the_rate_of_the_run_before(tmp_path: Path, capfd: Capture) -> None:
    small = small_options(make_pairs(tmp_path / "data"))
    small["path"] = {
        "experiments_root": str(tmp_path / "exp"),
        "tb_root": str(tmp_path / "tb"),
    }
    options = write_options(tmp_path / "o.yml", small)
    assert run_training(options, "--check") == 0
    assert "at the rate of" not in capfd.readouterr().out
    assert run_training(options) == 0
    capfd.readouterr()
    assert run_training(options, "--check", "--set", "train.total_iter=6000000") == 0
    assert "for the whole run, at the rate of" in " ".join(capfd.readouterr().out.split())
    # Of another network it says nothing.
    assert run_training(options, "--check", "--set", "network_g.num_feat=12") == 0
    assert "at the rate of" not in capfd.readouterr().out
