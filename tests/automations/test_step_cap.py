"""What bounds a step besides the memory: its time, the speed that larger ones lose, the pace."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from traiNNer.automations import (
    AutomationContext,
    CardModel,
    Decision,
    DynamicBatchAndPatchSizeOptimizer,
    ShapeBounds,
    SimulatedMemory,
    StepReport,
)
from traiNNer.automations.step_cap import Ramp
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import GIB

START = Shape(32, 8)
STEPS = 400


class Trial:
    """A run of 400 steps on a card with room for some 60 times the pixels of the options."""

    def __init__(self, rate: Callable[[Shape], float], **options: Any) -> None:
        context = AutomationContext(
            ShapeBounds(16, 128), START, 8 * GIB, options.pop("step_seconds", None)
        )
        self.automation = DynamicBatchAndPatchSizeOptimizer(context, **options)
        self.rate = rate
        card = CardModel(8 * GIB, 0.5 * GIB, 6 * GIB / (60 * START.pixels()))
        self.memory = SimulatedMemory(card)
        self.shapes: list[Shape] = []
        self.moves: list[tuple[int, Decision]] = []

    def run(self, first: int = 1, last: int = STEPS) -> Trial:
        for number in range(first, last + 1):
            shape = self.automation.shape
            self.shapes.append(shape)
            self.memory.start_window()
            self.memory.step(shape)
            # The first step at a shape tells nothing of the speed.
            is_known = len(self.shapes) > 1 and self.shapes[-2] == shape
            rate = self.rate(shape) if is_known else None
            seconds = None if rate is None else shape.pixels() / rate
            report = StepReport(
                number,
                shape,
                self.memory.read(),
                rate=rate,
                seconds=seconds,
                progress=number / STEPS,
            )
            decision = self.automation.after_step(report)
            if decision is not None:
                self.moves.append((number, decision))
        return self

    @property
    def used(self) -> float:
        return self.memory.share(self.shapes[-1])


def steady(shape: Shape) -> float:
    return 1e6


def falling(shape: Shape) -> float:
    """Speed falls beyond 16 times the pixels of the options."""
    return 1e6 if shape.pixels() <= 16 * START.pixels() else 0.7e6


def test_without_bounds_the_memory_is_filled_at_once() -> None:
    trial = Trial(steady).run(last=80)
    assert 0.82 <= trial.used <= 0.87


def test_a_move_tells_the_speed_before_and_after() -> None:
    texts = [str(decision) for _, decision in Trial(steady).run().moves]
    assert texts[0].endswith("\n  1 LQ megapixels a second")
    assert all(text.endswith("\n  1 LQ megapixels a second, 1 before") for text in texts[1:])


def test_lost_speed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    trial = Trial(falling).run()
    assert 0.82 <= trial.used <= 0.87
    assert "30% fewer pixels a second than at lq_size" in caplog.text
    assert "0.7 LQ megapixels a second, 1 before" in caplog.text
    caplog.clear()
    Trial(falling, throughput_guard="off").run()
    assert "fewer pixels" not in caplog.text


def test_a_move_that_loses_speed_is_taken_back_and_barred(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="traiNNer")
    trial = Trial(falling, throughput_guard="revert").run()
    assert falling(trial.shapes[-1]) == 1e6
    back = [decision for _, decision in trial.moves if "fewer pixels a second" in decision.reason]
    assert 1 <= len(back) <= 6
    barred = min(shape.pixels() for shape in trial.shapes if falling(shape) < 1e6)
    assert trial.shapes[-1].pixels() < barred
    assert trial.shapes[-1].pixels() > 8 * START.pixels()
    # It looks half-way between what was fast and what was not, until it is held or close.
    ends = ("larger steps lost speed (throughput_guard: revert)", "moves went up and down: holding")
    assert any(end in caplog.text for end in ends)


@pytest.mark.parametrize("rate", [steady, falling])
def test_a_step_stays_below_its_seconds(
    rate: Callable[[Shape], float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="traiNNer")
    seconds = 20 * START.pixels() / 1e6
    by_option = Trial(rate, max_step_seconds=seconds).run()
    by_context = Trial(rate, step_seconds=seconds).run()
    for trial in (by_option, by_context):
        times = [shape.pixels() / rate(shape) for shape in trial.shapes]
        assert times[-1] <= 1.25 * seconds
        assert times[-1] >= 0.5 * seconds
        assert max(times) <= 2 * seconds
    ends = ("(max_step_seconds)", "moves went up and down: holding")
    assert any(end in caplog.text for end in ends)


def test_sizes_go_down_when_steps_become_slow() -> None:
    trial = Trial(steady, max_step_seconds=20 * START.pixels() / 1e6).run(last=100)
    before = trial.shapes[-1]
    trial.rate = lambda shape: 0.25e6
    trial.run(first=101)
    assert trial.shapes[-1].pixels() <= 0.4 * before.pixels()
    assert trial.shapes[-1].pixels() >= START.pixels()
    assert any("a step took" in decision.reason for _, decision in trial.moves)


def test_the_options_own_sizes_are_never_too_slow() -> None:
    trial = Trial(steady, max_step_seconds=START.pixels() / 1e7).run()
    assert trial.shapes[-1] == START


def test_a_ramp_rises_over_the_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="traiNNer")
    trial = Trial(steady, pace="ramp").run()
    pixels = [shape.pixels() / START.pixels() for shape in trial.shapes]
    assert max(pixels[:80]) <= 1, "the first fifth is that of the options"
    assert 3 <= pixels[STEPS // 2] <= 9, "half of the way by factors"
    assert pixels == sorted(pixels)
    assert 0.82 <= trial.used <= 0.87
    assert len(trial.moves) <= 25
    assert "growth waits for its part of the run (pace: ramp)" in caplog.text
    earlier = Trial(steady, pace="ramp", ramp={"until": 0.4}).run(last=STEPS // 2)
    assert 0.82 <= earlier.used <= 0.87


def test_a_resumed_ramp_goes_on() -> None:
    whole = Trial(steady, pace="ramp").run()
    half = Trial(steady, pace="ramp").run(last=200)
    state = json.loads(json.dumps(half.automation.state_dict()))
    resumed = Trial(steady, pace="ramp")
    resumed.automation.load_state_dict(state)
    resumed.run(first=201)
    assert 0.82 <= resumed.used <= 0.87
    assert resumed.shapes[0] == half.automation.shape
    assert resumed.shapes[100].pixels() == pytest.approx(whole.shapes[300].pixels(), rel=0.3)


def test_a_ramp_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"ramp goes from 0\.9 until 0\.8; expected parts"):
        Trial(steady, pace="ramp", ramp={"from": 0.9})


def test_a_ramp_is_even_in_factors() -> None:
    ramp = Ramp(0.2, 0.8)
    assert [round(ramp.most_pixels(p, 100, 10_000)) for p in (0, 0.2, 0.5, 0.65)] == [
        100,
        100,
        1000,
        3162,
    ]
    assert ramp.most_pixels(0.8, 100, 10_000) == float("inf")
    assert ramp.most_pixels(0.5, 100, 50) == 100
