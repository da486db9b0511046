"""Runs whose length is given in samples, megapixels or hours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.engine.witness import Witness, card, curves
from tests.support import make_pairs, run_training, small_options
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import StepResult
from traiNNer.models.networks import MovingAverage, Network
from traiNNer.options.length import MEASURES, RunLength
from traiNNer.utils.shape import Shape
from traiNNer.utils.work import Work

ITERATIONS = 12
# Of an iteration of `options`: two batches of two patches of 16 px.
SAMPLES = 4
MPIXELS = SAMPLES * 16 * 16 / 1e6
ONE = {"total_iter": 1, "total_samples": SAMPLES, "total_mpixels": MPIXELS}
SCHEDULES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"type": "CosineAnnealingLR"}, ()),
    ({"type": "MultiStepLR", "milestones": [3, 7], "gamma": 0.3}, ("milestones",)),
    ({"type": "StepLR", "step_size": 5, "gamma": 0.3}, ("step_size",)),
    ({"type": "OneCycleLR", "max_lr": 2e-3}, ()),
]


def in_measure(value: Any, key: str) -> Any:
    """Iterations in another measure."""
    if isinstance(value, list):
        return [in_measure(one, key) for one in value]
    return value * ONE[key]


def options(
    data: Path, key: str, schedule: tuple[dict[str, Any], tuple[str, ...]] = SCHEDULES[0]
) -> dict[str, Any]:
    """A run of 12 iterations whose lengths are all given in one measure."""
    scheduler, lengths = schedule
    result = small_options(data)
    result["datasets"]["train"]["accum_iter"] = 2
    result["train"].pop("total_iter")
    result["train"] |= {
        key: in_measure(ITERATIONS, key),
        "warmup": in_measure(4, key),
        "ema_half_life": in_measure(10, key),
        "scheduler": {
            name: in_measure(value, key) if name in lengths else value
            for name, value in scheduler.items()
        },
    }
    result["val"] = {"val_freq": in_measure(6, key)}
    result["logger"] = {"print_freq": 1, "save_checkpoint_freq": in_measure(6, key)}
    return result


class EndAt(Part):
    """Asks the run to end after a step, as Ctrl-C does."""

    name = "end"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_step(self, run: Run, result: StepResult) -> None:
        if result.iteration == self.iteration:
            run.interrupts.requested = True


def weights(name: str) -> dict[str, torch.Tensor]:
    models = Path("experiments") / name / "models"
    files = (f"net_g_{ITERATIONS}", f"net_g_ema_{ITERATIONS}", "net_g_6", "net_g_best")
    return {
        f"{file}.{key}": tensor
        for file in files
        for key, tensor in load_file(models / f"{file}.safetensors").items()
    }


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule[0]["type"])
@pytest.mark.parametrize("key", ["total_samples", "total_mpixels"])
def test_with_sizes_that_stay_a_run_is_bit_for_bit_that_in_iterations(
    tmp_path: Path, key: str, schedule: tuple[dict[str, Any], tuple[str, ...]]
) -> None:
    data = make_pairs(tmp_path / "data")
    assert run_training(options(data, "total_iter", schedule), "--name", "iterations") == 0
    other = options(data, key, schedule)
    assert run_training(other, "--name", "whole") == 0
    assert run_training(other, "--name", "parts", parts=[EndAt(7)]) == 130
    assert run_training(other, "--name", "parts", "--auto_resume") == 0
    expected = weights("iterations")
    for name in ("whole", "parts"):
        found = weights(name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[file], expected[file]) for file in expected)
    log = (Path("experiments/whole/log/train.log")).read_text()
    assert re.search(r"12 \((48/48 samples|0.01229/0.01229 Mpx)\)  l1", log)


def growing(data: Path, **length: float) -> dict[str, Any]:
    """A run on a simulated card that sizes may fill."""
    result = small_options(data)
    result["train"].pop("total_iter")
    result["train"] |= length | {"scheduler": {"type": "CosineAnnealingLR"}}
    result["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    result["val"] = {"val_enabled": False}
    result["logger"] = {"print_freq": 1, "save_checkpoint_freq": 1e6}
    return result


def test_sizes_that_grow_make_fewer_iterations_and_not_a_longer_run(tmp_path: Path) -> None:
    data = make_pairs(tmp_path / "data")
    witness = Witness(card(Shape(32, 6)))
    # As 200 iterations at the sizes of the options.
    mpixels = 200 * 2 * 16 * 16 / 1e6
    settings = growing(data, total_mpixels=mpixels)
    assert run_training(settings, memory=witness.memory, parts=[witness]) == 0
    pixels = [shape.batch_size * shape.lq_size**2 for shape in witness.entered]
    assert sum(pixels[:-1]) < mpixels * 1e6 <= sum(pixels)
    assert len(pixels) < 150
    assert max(pixels) <= sum(pixels) / 49, "no step is more than a fiftieth of the run"
    rates, seen = curves("lr/generator", "progress/mpixels", run="small")
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01 * rates[0], "the schedule ends with the run"
    assert seen[-1] == pytest.approx(sum(pixels) / 1e6)


def test_a_run_of_some_hours_ends_in_time_and_counts_former_sittings(tmp_path: Path) -> None:
    data = make_pairs(tmp_path / "data")
    settings = growing(data, total_hours=3 / 3600)
    settings["training_automations"] = {}
    assert run_training(settings, parts=[EndAt(3)]) == 130
    assert run_training(settings, "--auto_resume") == 0
    hours, rates = curves("progress/hours", "lr/generator", run="small")
    assert hours == sorted(hours)
    assert 3 <= hours[-1] * 3600 < 9
    # A hundredth at the end; more if the last step took long.
    assert rates[-1] < 0.2 * rates[0]
    log = Path("experiments/small/log/train.log").read_text()
    assert "length       0.0008333 hours" in log


LENGTHS = "total_iter, total_samples, total_mpixels, total_hours"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({}, f"train.total_iter is missing: the length of the run, exactly one of {LENGTHS}"),
        (
            {"total_iter": 5, "total_hours": 1},
            "train.total_hours = 1: total_iter is the length of the run already; leave one of them",
        ),
        ({"total_samples": 0}, "train.total_samples = 0: expected at least 1"),
        ({"total_mpixels": 0}, "train.total_mpixels = 0: expected more than 0"),
        ({"total_mpixels": -3}, "train.total_mpixels = -3: expected more than 0"),
        ({"total_hours": 1e9}, "train.total_hours = 1000000000.0: expected at most 87660"),
        ({"total_iter": 10**15}, "train.total_iter = 1000000000000000: expected at most 10000000"),
        ({"total_samples": 2.5}, "train.total_samples = 2.5: expected a whole number"),
        ({"total_hours": "long"}, 'train.total_hours = "long": expected a number'),
        (
            {"total_iter": 5, "warmup": 2, "warmup_iter": 3},
            "train.warmup = 2: warmup_iter says the same; leave one of them out",
        ),
        (
            {"total_iter": 9, "scheduler": {"type": "StepLR", "step_size": 2.5}},
            "train.scheduler.step_size = 2.5: expected a whole number of iterations",
        ),
        (
            {"total_samples": 9, "scheduler": {"type": "MultiStepLR", "milestones": [2, 4.5]}},
            "train.scheduler.milestones.1 = 4.5: expected a whole number of samples",
        ),
    ],
)
def test_what_is_no_length(
    tmp_path: Path, train: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = small_options(make_pairs(tmp_path / "data", count=1))
    del settings["train"]["total_iter"]
    settings["train"] |= train
    assert run_training(settings, "--check") == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("o.yml:") == 2, "one sentence, below the heading"


def test_a_length_on_the_command_line_replaces_the_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = small_options(make_pairs(tmp_path / "data"))
    assert run_training(settings, "--set", "train.total_samples=9", "--check") == 0
    told = capfd.readouterr()
    assert "train.total_samples replaces train.total_iter" in told.err
    assert "length       9 samples = 5 iterations of 2 x 16 px (10 samples" in told.out
    # In iterations a frequency of the file would mean something else.
    assert "train.total_samples replaces val.val_freq" in told.err
    assert "validation   every 1 sample on" in told.out
    typed = ("--set", "val.val_freq=4", "--set", "train.total_samples=9")
    assert run_training(settings, *typed, "--check") == 0
    assert "validation   every 4 samples on" in capfd.readouterr().out
    both = ("--set", "train.total_samples=9", "--set", "train.total_hours=1")
    assert run_training(settings, *both, "--check") == 2
    assert "leave one of them out" in capfd.readouterr().err


def test_a_length_replaces_that_of_the_base(tmp_path: Path) -> None:
    Path("base.yml").write_text("train: {total_iter: 100, warmup_iter: 5, ema_decay: 0.9}\n")
    settings = options(make_pairs(tmp_path / "data"), "total_mpixels")
    assert run_training({"extends": "base.yml"} | settings, "--check") == 0


def test_a_frequency_longer_than_the_run_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = options(make_pairs(tmp_path / "data"), "total_samples")
    settings["val"]["val_freq"] = 1000
    assert run_training(settings, "--check") == 0
    told = capfd.readouterr().err
    assert "val.val_freq (1,000 samples) is longer than the run (48 samples)" in told


@pytest.mark.parametrize("key", ["total_samples", "total_mpixels"])
def test_a_resume_under_another_measure_follows_its_schedule_and_says_so(
    tmp_path: Path, key: str
) -> None:
    data = make_pairs(tmp_path / "data")
    assert run_training(options(data, "total_iter"), "--name", "straight") == 0
    settings = options(data, "total_iter")
    assert run_training(settings, "--name", "other", parts=[EndAt(6)]) == 130
    assert run_training(options(data, key), "--name", "other", "--auto_resume") == 0
    expected, found = (curves("lr/generator", run=name)[0] for name in ("straight", "other"))
    assert found == pytest.approx(expected, rel=1e-5)
    log = Path("experiments/other/log/train.log").read_text()
    assert "the schedule CosineAnnealingLR of the generator is rebuilt for" in log


def test_a_place_in_the_schedule_is_that_of_whole_steps() -> None:
    length = RunLength.of("total_mpixels", 0.01, samples=2, pixels=1000)
    assert (length.total, length.step, length.steps) == (10_000, 1000, 10)
    places = [length.place(Work(pixels=pixels)) for pixels in (0, 999, 1000, 9999, 25_000)]
    assert places == [0, 0, 1, 9, 10]
    assert length.schedule({"milestones": [0.002, 0.0049], "gamma": 2}, ("milestones",)) == {
        "milestones": [2, 5],
        "gamma": 2,
    }
    assert set(MEASURES) == set(LENGTHS.split(", "))


def test_an_average_by_decay_is_that_of_torch_and_one_by_half_life_counts_work() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    torchs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = MovingAverage(Network("net", network), 0.9)
    coarse = MovingAverage(Network("net", network), 0, half_life=10)
    fine = MovingAverage(Network("net", network), 0, half_life=10)
    for step in range(4):
        torchs.update_parameters(network)
        ours.update(step)
        coarse.update(4 * step)
        for part in range(4):
            fine.update(4 * (step - 1) + part + 1)
        with torch.no_grad():
            network(torch.rand(2, 3, 8, 8))
            for parameter in network.parameters():
                parameter += torch.rand_like(parameter)
    states = [a.network.module.state_dict() for a in (ours, coarse, fine)]
    for name, value in torchs.module.state_dict().items():
        assert torch.equal(states[0][name], value)
        torch.testing.assert_close(states[1][name], states[2][name])


def test_the_warm_up_of_an_average_forgets_the_beginning() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = MovingAverage(Network("net", network), 0.6, power=0.75)
    (weight,), (followed,) = network.parameters(), average.network.module.parameters()
    expected = 0.0
    for iteration in range(1, 6):
        with torch.no_grad():
            weight.fill_(float(iteration))
        average.update(iteration, iteration=iteration)
        decay = min(0.6, 1 - iteration**-0.75)
        expected = decay * expected + (1 - decay) * iteration
        assert followed.item() == pytest.approx(expected, rel=1e-6)
    # From here on the decay is the one of the options.
    assert 1 - 5**-0.75 > 0.6


def test_the_climb_is_on_the_curves_and_in_the_log_whatever_print_freq_is(tmp_path: Path) -> None:
    witness = Witness(card(Shape(32, 6)))
    settings = growing(make_pairs(tmp_path / "data"), total_iter=60)
    settings["logger"] = {"print_freq": 50, "save_checkpoint_freq": 1000}
    assert run_training(settings, memory=witness.memory, parts=[witness]) == 0
    (sides,) = curves("dynamic/lq_size")
    assert sides == [shape.lq_size for shape in witness.entered]
    (losses,) = curves("losses/l1")
    assert len(losses) == 2, "means of print_freq iterations"
    log = Path("experiments/small/log/train.log").read_text()
    for shape in dict.fromkeys(witness.entered):
        assert f"lq_size {shape.lq_size}  batch {shape.batch_size}  memory" in log
