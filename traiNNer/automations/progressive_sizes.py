"""Small patches first, large ones last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from traiNNer.automations.base import Automation, AutomationContext, Decision, StepReport
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS

GivenStage = dict[Literal["size", "until"], Annotated[float, Field(gt=0)]]


@dataclass(frozen=True)
class Stage:
    """A part of the run with patches of one size.

    Attributes:
        size: side in LQ pixels.
        until: the part of the run that is done when it ends.
    """

    size: int
    until: float


@AUTOMATIONS.register("ProgressiveSizes")
class ProgressiveSizes(Automation):
    """The run in stages, each with its patch size. DynamicBatchAndPatchSizeOptimizer, where it is
    enabled too, fits the batch of each stage to the memory; else it stays that of the options.

    Args:
        context: what network, images, options and device allow.
        enabled: whether it takes part in the run.
        stages: {size: side in LQ pixels, until: end of the stage} each. An end is a part of the run
            (0.3), or an amount in the measure of its length where it is above 1. The last stage
            goes to the end of the run.
    """

    def __init__(
        self, context: AutomationContext, *, enabled: bool = True, stages: list[GivenStage]
    ) -> None:
        super().__init__(context, enabled=enabled)
        self.stages = read_stages(stages, context.run_length)
        for stage in self.stages:
            require_size(stage.size, context.bounds, "stages")
        self._progress = 0.0

    @property
    def stage(self) -> Stage:
        """The present one."""
        return next((s for s in self.stages if self._progress < s.until), self.stages[-1])

    @property
    def bounds(self) -> ShapeBounds:
        """The size of the present stage alone."""
        size = self.stage.size
        return self.context.bounds.narrowed(min_lq_size=size, max_lq_size=size)

    def describe(self) -> str:
        """The stages."""
        return describe_stages(self.stages)

    def after_step(self, report: StepReport) -> Decision | None:
        """Go on to the next stage when it is time."""
        self._progress = report.progress
        return None

    def scalars(self) -> dict[str, float]:
        """The number of the stage, from 1."""
        return {"dynamic/stage": float(1 + self.stages.index(self.stage))}

    def state_dict(self) -> dict[str, Any]:
        """How far the run is."""
        return {"progress": self._progress}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the stage of the same progress."""
        self._progress = float(state["progress"])


def read_stages(given: Sequence[GivenStage], run_length: float) -> tuple[Stage, ...]:
    """The stages of the options.

    Args:
        given: see `ProgressiveSizes`.
        run_length: of the run, in its own measure.

    Raises:
        OptionsError: naming the stage that has no size, no end, or one out of order.
    """
    if not given:
        raise OptionsError("stages is empty; expected {size: ..., until: ...} for each stage")
    stages: list[Stage] = []
    before = 0.0
    for number, values in enumerate(given, 1):
        where = f"stages: number {number}"
        size = values.get("size", 0.0)
        if size < 1 or size != int(size):
            raise OptionsError(f"{where} needs a size, a side in whole LQ pixels")
        until = values.get("until")
        if number == len(given):
            share = 1.0
        elif until is None:
            raise OptionsError(f"{where} needs an end (until); only the last one goes to the end")
        else:
            share = until if until <= 1 else until / run_length
        if not before < share <= 1 or (number < len(given) and share == 1):
            raise OptionsError(
                f"{where} ends at {share:.0%} of the run; expected more than {before:.0%}, the end "
                "of the one before, and less than 100%"
            )
        stages.append(Stage(int(size), share))
        before = share
    return tuple(stages)


def describe_stages(stages: Sequence[Stage]) -> str:
    """For example `32 px until 30%, then 64 px`; empty for none."""
    if not stages:
        return ""
    parts = [f"{stage.size} px until {stage.until:.0%}" for stage in stages[:-1]]
    return ", ".join([*parts, f"then {stages[-1].size} px" if parts else f"{stages[-1].size} px"])


def require_size(size: int, bounds: ShapeBounds, where: str) -> None:
    """Refuse a size that network and images do not allow.

    Raises:
        OptionsError: saying what they allow.
    """
    multiple = bounds.size_multiple
    if size % multiple or not bounds.min_lq_size <= size <= bounds.max_lq_size:
        raise OptionsError(
            f"{where}: a size of {size} px is not possible: at least {bounds.min_lq_size} "
            f"({bounds.min_lq_due_to}), at most {bounds.max_lq_size} ({bounds.max_lq_due_to}), a "
            f"multiple of {multiple} (the network)"
        )
