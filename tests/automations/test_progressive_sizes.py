"""Stages of one patch size each: where they end, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from traiNNer.automations import (
    AutomationContext,
    Automations,
    ProgressiveSizes,
    Shape,
    ShapeBounds,
    StepReport,
)
from traiNNer.automations.progressive_sizes import describe_stages, read_stages
from traiNNer.utils.errors import OptionsError

CONTEXT = AutomationContext(ShapeBounds(16, 128, 8), Shape(32, 4), 2**30, run_length=1000)
STAGES: Any = [{"size": 32, "until": 0.25}, {"size": 48, "until": 500}, {"size": 96}]


def progressed(automations: Automations, progress: float) -> Shape:
    automations.after_step(StepReport(1, automations.shape, progress=progress))
    return automations.shape


def test_stages_end_at_parts_of_the_run_or_at_amounts() -> None:
    stages = read_stages(STAGES, 1000)
    assert [stage.until for stage in stages] == [0.25, 0.5, 1.0]
    assert describe_stages(stages) == "32 px until 25%, 48 px until 50%, then 96 px"


def test_alone_they_change_the_patch_and_leave_the_batch() -> None:
    automations = Automations({"ProgressiveSizes": ProgressiveSizes(CONTEXT, stages=STAGES)})
    assert automations.before_training() == Shape(32, 4)
    wanted = {0.0: 32, 0.249: 32, 0.25: 48, 0.4: 48, 0.5: 96, 1.0: 96}
    assert {at: progressed(automations, at) for at in wanted} == {
        at: Shape(size, 4) for at, size in wanted.items()
    }
    assert automations.scalars()["dynamic/stage"] == 3


def test_a_change_is_one_decision_with_its_reason() -> None:
    automations = Automations({"ProgressiveSizes": ProgressiveSizes(CONTEXT, stages=STAGES)})
    automations.before_training()
    assert automations.after_step(StepReport(1, Shape(32, 4), progress=0.2)) is None
    decision = automations.after_step(StepReport(2, Shape(32, 4), progress=0.3))
    assert decision is not None
    assert decision.shape == Shape(48, 4)
    assert decision.decided_by == "ProgressiveSizes"
    assert automations.after_step(StepReport(3, Shape(48, 4), progress=0.31)) is None


def test_a_resume_goes_on_in_its_stage() -> None:
    first = Automations({"ProgressiveSizes": ProgressiveSizes(CONTEXT, stages=STAGES)})
    progressed(first, 0.3)
    second = Automations({"ProgressiveSizes": ProgressiveSizes(CONTEXT, stages=STAGES)})
    second.load_state_dict(first.state_dict())
    assert second.before_training(resumed=True) == Shape(48, 4)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages is empty"),
        ([{"until": 0.5}, {"size": 64}], "number 1 needs a size"),
        ([{"size": 32.5}], "number 1 needs a size, a side in whole LQ pixels"),
        ([{"size": 32}, {"size": 64}], r"number 1 needs an end \(until\)"),
        (
            [{"size": 32, "until": 0.5}, {"size": 48, "until": 0.4}, {"size": 64}],
            "number 2 ends at 40% of the run; expected more than 50%",
        ),
        ([{"size": 32, "until": 2000}, {"size": 64}], "number 1 ends at 200% of the run"),
        ([{"size": 32, "until": 1.0}, {"size": 64}], "number 1 ends at 100% of the run"),
        ([{"size": 33}], r"a size of 33 px is not possible: .* a multiple of 8"),
        ([{"size": 8}], "at least 16"),
        ([{"size": 136}], "at most 128"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: Any, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        ProgressiveSizes(CONTEXT, stages=stages)
