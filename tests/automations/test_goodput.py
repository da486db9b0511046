"""What larger steps are worth: what is known of noise and time, and the run that follows it."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from traiNNer.automations import (
    AutomationContext,
    CardModel,
    DynamicBatchAndPatchSizeOptimizer,
    ShapeBounds,
    SimulatedMemory,
    StepReport,
)
from traiNNer.automations.goodput import Goodput
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import GIB

STEPS = 600
START = Shape(32, 8)


@pytest.mark.parametrize("noise", [300.0, 8_000.0, 500_000.0])
@pytest.mark.parametrize("pixels", [2_000, 40_000])
def test_the_noise_is_found_from_looks_that_scatter(noise: float, pixels: int) -> None:
    chance = random.Random(f"{noise} {pixels}")
    goodput = Goodput()
    truth = pixels / (pixels + noise)
    found: list[float] = []
    for _ in range(400):
        goodput.look(truth * chance.uniform(0.5, 1.5), pixels)
        found.append(goodput.signal(pixels))
    # A single figure goes on scattering, by far less than the looks do.
    late = found[50:]
    assert sum(late) / len(late) == pytest.approx(truth, rel=0.05)
    assert all(abs(signal - truth) < 0.4 * truth for signal in late)


def test_looks_at_another_size_go_on_from_what_is_known() -> None:
    goodput = Goodput()
    for pixels in (1_000, 4_000, 64_000):
        for _ in range(30):
            goodput.look(pixels / (pixels + 9_000), pixels)
        assert goodput.noise == pytest.approx(9_000, rel=1e-6)


@pytest.mark.parametrize("cosine", [float("nan"), -0.4, 0.0])
def test_looks_that_tell_nothing_do_no_harm(cosine: float) -> None:
    goodput = Goodput()
    for _ in range(20):
        goodput.look(cosine, 1_000)
    assert 0 <= goodput.noise <= 1_000 * 1_000


@pytest.mark.parametrize("fixed", [0.0, 3_000.0, 400_000.0])
def test_the_fixed_part_of_a_step_is_found_from_times(fixed: float) -> None:
    chance = random.Random(str(fixed))
    goodput = Goodput()
    for pixels in (256, 2_048, 8_192, 30_000, 90_000):
        goodput.note_time(pixels, (fixed + pixels) * 1e-7 * chance.uniform(0.97, 1.03))
    assert goodput.fixed == pytest.approx(fixed, rel=0.4, abs=300)


def test_times_of_one_size_tell_nothing() -> None:
    goodput = Goodput(noise=1_000.0, looks=1)
    assert goodput.best_pixels == 0
    goodput.note_time(1_000, 0.1)
    goodput.note_time(1_100, 0.1)
    assert goodput.best_pixels == 0


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_best_step_makes_the_most_progress_a_second(power: float) -> None:
    goodput = Goodput(power, noise=20_000.0, looks=1)
    for pixels in (1_000, 100_000):
        goodput.note_time(pixels, (5_000 + pixels) * 1e-7)
    best = goodput.best_pixels

    def seconds_each(pixels: float) -> float:
        """By the definition: a step makes p^power * sqrt(p / (p + noise)) in (fixed + p)."""
        return (5_000 + pixels) / (pixels**power * (pixels / (pixels + 20_000)) ** 0.5)

    assert min(range(1_000, 40_000, 5), key=seconds_each) == pytest.approx(best, rel=1e-3)
    others = [best * factor for factor in (0.1, 0.5, 0.9, 1.1, 2.0, 10.0)]
    assert all(goodput.cost(other, best) > 1 for other in others)
    expected = seconds_each(40_000) / seconds_each(best)
    assert goodput.cost(40_000, best) == pytest.approx(expected, rel=1e-3)


def test_where_no_size_takes_longer_than_another_larger_ones_are_better() -> None:
    goodput = Goodput(noise=20_000.0, looks=1)
    # Scatter, by which the line through the times falls.
    for pixels, seconds in ((1_000, 0.011), (100_000, 0.01)):
        goodput.note_time(pixels, seconds)
    assert math.isinf(goodput.fixed)
    assert goodput.cost(1_000, 100_000) == pytest.approx((21 / 1.2) ** 0.5)


class Run:
    """A run on a card with room for some 60 times the pixels of the options, whose noise grows."""

    def __init__(
        self, fixed: float, noise: tuple[float, float], start: Shape = START, **options: Any
    ) -> None:
        self.context = AutomationContext(ShapeBounds(16, 128), start, 8 * GIB)
        self.fixed = fixed
        self.noise = noise
        self.options = {"pace": "measured"} | options
        self.automation = DynamicBatchAndPatchSizeOptimizer(self.context, **self.options)
        card = CardModel(8 * GIB, 0.5 * GIB, 6 * GIB / (60 * START.pixels()))
        self.memory = SimulatedMemory(card)
        self.shapes: list[Shape] = []
        self.reasons: list[str] = []

    def go(self, first: int = 1, last: int = STEPS) -> Run:
        for number in range(first, last + 1):
            shape = self.automation.shape
            self.shapes.append(shape)
            self.memory.start_window()
            self.memory.step(shape)
            pixels = shape.pixels()
            known = len(self.shapes) > 1 and self.shapes[-2] == shape
            seconds = (self.fixed + pixels) * 1e-7 if known else None
            progress = number / STEPS
            noise = self.noise[0] * (self.noise[1] / self.noise[0]) ** progress
            half = pixels / 2
            report = StepReport(
                number,
                shape,
                self.memory.read(),
                rate=None if seconds is None else pixels / seconds,
                seconds=seconds,
                progress=progress,
                cosine=half / (half + noise) if number % 20 == 0 else None,
            )
            decision = self.automation.after_step(report)
            if decision is not None:
                self.reasons.append(decision.reason)
        return self


def test_steps_stay_small_where_large_ones_bring_nothing() -> None:
    run = Run(fixed=0.0, noise=(500.0, 50_000.0)).go()
    # The lq_size of the options, at the least batch that has two halves, once it was looked.
    assert run.shapes[18] == START
    assert run.shapes[STEPS // 2] == Shape(32, 2)
    assert 0.82 <= run.memory.share(run.shapes[-1]) <= 0.87
    assert run.shapes[-1].lq_size == 128


def test_steps_follow_the_noise_where_small_ones_waste_the_device() -> None:
    run = Run(fixed=100_000.0, noise=(500.0, 50_000.0)).go(last=int(0.6 * STEPS))
    for number in (150, 250, 350):
        noise = 500.0 * 100 ** (number / STEPS)
        # By the law, and no step takes more than a twentieth more time than that of the options.
        best = ((noise**2 + 8 * noise * 100_000) ** 0.5 - noise) / 4
        best = min(best, 1.05 * START.pixels() + 0.05 * 100_000)
        # A move is made where it is a real step, and what is known of the noise lags a little.
        assert 0.45 * best < run.shapes[number].pixels() < 1.05 * best
    sides = [shape.lq_size for shape in run.shapes]
    assert sides == sorted(sides)
    assert any("x the progress a second expected" in reason for reason in run.reasons)


@pytest.mark.parametrize("fixed", [3_500.0, 4_500.0, 6_000.0])
def test_waiting_does_not_delay_the_last_part(fixed: float) -> None:
    """While no size lies between the present one and what is worth it, growth waits; it has not
    searched in vain.
    """
    start = Shape(20, 2)
    run = Run(fixed, noise=(300_000.0, 300_000.0), start=start).go(last=int(0.92 * STEPS))
    assert run.shapes[int(0.89 * STEPS)] == start
    assert run.shapes[-1].lq_size > 1.5 * start.lq_size


def test_what_is_not_worth_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="traiNNer")
    run = Run(fixed=2_000.0, noise=(3_000.0, 3_300.0)).go(last=STEPS // 2)
    told = [line for line in caplog.text.splitlines() if "larger steps are not worth it" in line]
    assert len(told) == 1, "once, though its figures change"
    assert "with a full memory the same progress would take" in told[-1]
    points = run.automation.scalars()
    assert points["goodput/noise_scale"] == pytest.approx(3_150, rel=0.05)
    pixels = run.automation.shape.pixels()
    assert points["goodput/worth"] == pytest.approx(3_150 / (3_150 + pixels), rel=0.05)
    assert points["goodput/pixels_per_s"] > 0


def test_a_resumed_run_goes_on_as_it_would_have() -> None:
    straight = Run(fixed=30_000.0, noise=(500.0, 50_000.0)).go()
    half = Run(fixed=30_000.0, noise=(500.0, 50_000.0)).go(last=250)
    state = json.loads(json.dumps(half.automation.state_dict()))
    half.automation = DynamicBatchAndPatchSizeOptimizer(half.context, **half.options)
    half.automation.load_state_dict(state)
    assert half.go(251).shapes == straight.shapes


@pytest.mark.parametrize("batches", [None, 2])
def test_without_halves_to_look_at_it_is_a_ramp(
    batches: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="traiNNer")
    context = AutomationContext(ShapeBounds(16, 128), START, 8 * GIB, batches_per_step=batches)
    automation = DynamicBatchAndPatchSizeOptimizer(context, pace="measured")
    assert "ramp in its place" in caplog.text
    assert not automation.wants_noise
    assert "from 20% to 80% of the run" in automation.describe()
    single = DynamicBatchAndPatchSizeOptimizer(
        AutomationContext(ShapeBounds(16, 128), START, 8 * GIB), pace="measured", max_batch_size=1
    )
    assert not single.wants_noise
