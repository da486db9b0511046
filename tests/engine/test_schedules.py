"""The learning rate after a resume: the same length, another one, or a schedule begun anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import small_options, write_options
from traiNNer.archs import build_network
from traiNNer.engine.schedules import adapt_schedules
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import RECIPES

RATE = 1e-3
COSINE = {"type": "CosineAnnealingLR"}
WITH_LENGTH = [
    COSINE,
    {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.1},
    {"type": "PolynomialLR", "power": 2.0},
    {"type": "ConstantLR", "factor": 0.5},
    {"type": "OneCycleLR", "max_lr": 2e-3},
]


def options_of(folder: Path, total: int, scheduler: dict, **changes: Any) -> TrainingOptions:
    train = small_options(folder)["train"] | {"total_iter": total, "scheduler": scheduler} | changes
    train["optim_g"] = {"type": "adamw", "lr": changes.pop("lr", RATE)}
    train.pop("lr", None)
    path = write_options(folder / f"{total}.yml", small_options(folder, train=train))
    return load_options(TrainingOptions, path)


class Training:
    """A recipe whose schedule alone goes on."""

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options
        network = build_network("compact", scale=2, num_feat=8, num_conv=1)
        self.recipe = RECIPES["SRModel"](options, Runtime(torch.device("cpu")), network)

    def rates(self, number: int) -> list[float]:
        """The rates of the next iterations."""
        rates: list[float] = []
        phase = self.recipe.phases[0]
        assert phase.scheduler is not None
        for _ in range(number):
            rates.append(phase.optimizer.param_groups[0]["lr"])
            phase.optimizer.step()
            self.recipe.work.add(2, 512)
            phase.advance(1)
        return rates

    def resumed(self, options: TrainingOptions) -> Training:
        """Another process that goes on from here with these options."""
        other = Training(options)
        other.recipe.load_state_dict(self.recipe.state_dict())
        before = self.options.train.model_dump(mode="json")
        adapt_schedules(other.recipe, self.options.length, before, options)
        return other


@pytest.mark.parametrize("scheduler", WITH_LENGTH, ids=lambda s: s["type"])
@pytest.mark.parametrize("total", [60, 14])
def test_another_length_goes_on_in_the_schedule_of_that_length(
    tmp_path: Path, scheduler: dict, total: int, caplog: pytest.LogCaptureFixture
) -> None:
    start = Training(options_of(tmp_path, 20, scheduler))
    start.rates(10)
    target = options_of(tmp_path, total, scheduler)
    straight = Training(target).rates(total - 1)
    caplog.set_level("INFO", logger="traiNNer")
    resumed = start.resumed(target).rates(total - 11)
    assert resumed == pytest.approx(straight[10:], rel=1e-6)
    assert f"rebuilt for {total} iterations" in caplog.text


def test_the_same_length_goes_on_bit_for_bit(tmp_path: Path) -> None:
    options = options_of(tmp_path, 20, COSINE)
    straight = Training(options)
    start = Training(options)
    assert straight.rates(20) == start.rates(10) + start.resumed(options).rates(10)


def test_a_run_that_had_arrived_goes_on_from_its_place(tmp_path: Path) -> None:
    start = Training(options_of(tmp_path, 20, COSINE))
    assert start.rates(20)[-1] < 0.01 * RATE
    longer = options_of(tmp_path, 80, COSINE)
    rates = start.resumed(longer).rates(60)
    assert rates == pytest.approx(Training(longer).rates(80)[20:], rel=1e-6)
    assert rates == sorted(rates, reverse=True)


def test_milestones_stay_where_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = {"type": "MultiStepLR", "milestones": [12, 30], "gamma": 0.1}
    start = Training(options_of(tmp_path, 20, steps))
    start.rates(10)
    longer = options_of(tmp_path, 40, steps)
    caplog.set_level("INFO", logger="traiNNer")
    assert start.resumed(longer).rates(30) == pytest.approx(Training(longer).rates(40)[10:])
    assert "MultiStepLR has no length of its own and goes on as it was" in caplog.text


def test_a_length_of_its_own_is_the_options(tmp_path: Path) -> None:
    start = Training(options_of(tmp_path, 20, COSINE | {"T_max": 16}))
    start.rates(10)
    longer = options_of(tmp_path, 40, COSINE | {"T_max": 36})
    assert start.resumed(longer).rates(30) == pytest.approx(Training(longer).rates(40)[10:])
    same = options_of(tmp_path, 40, COSINE | {"T_max": 16})
    assert start.resumed(same).rates(5) == pytest.approx(Training(same).rates(15)[10:])


@pytest.mark.parametrize("scheduler", WITH_LENGTH, ids=lambda s: s["type"])
def test_a_restart_is_the_schedule_of_what_is_left(tmp_path: Path, scheduler: dict) -> None:
    start = Training(options_of(tmp_path, 20, scheduler))
    start.rates(20)
    longer = options_of(tmp_path, 50, scheduler, restart_scheduler=True)
    restarted = start.resumed(longer)
    fresh = Training(options_of(tmp_path, 30, scheduler)).rates(29)
    assert restarted.rates(29) == pytest.approx(fresh, rel=1e-6)


def test_a_restart_takes_the_rate_of_the_options(tmp_path: Path) -> None:
    start = Training(options_of(tmp_path, 20, COSINE))
    start.rates(10)
    lower = options_of(tmp_path, 20, COSINE, restart_scheduler=True, lr=1e-4)
    assert start.resumed(lower).rates(1) == [1e-4]


def test_a_restart_happens_once_and_again_with_another_length(tmp_path: Path) -> None:
    start = Training(options_of(tmp_path, 20, COSINE))
    start.rates(10)
    restart = options_of(tmp_path, 30, COSINE, restart_scheduler=True)
    straight = start.resumed(restart)
    interrupted = start.resumed(restart)
    expected = straight.rates(20)
    assert interrupted.rates(8) + interrupted.resumed(restart).rates(12) == expected
    again = options_of(tmp_path, 60, COSINE, restart_scheduler=True)
    assert straight.resumed(again).rates(1) == [RATE]


def test_a_restarted_schedule_becomes_longer_by_what_the_run_does(tmp_path: Path) -> None:
    start = Training(options_of(tmp_path, 20, COSINE))
    start.rates(10)
    restarted = start.resumed(options_of(tmp_path, 30, COSINE, restart_scheduler=True))
    restarted.rates(5)
    longer = restarted.resumed(options_of(tmp_path, 50, COSINE))
    expected = Training(options_of(tmp_path, 40, COSINE)).rates(40)
    assert longer.rates(35) == pytest.approx(expected[5:], rel=1e-6)
