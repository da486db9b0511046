"""What an automation is: a part that changes how a run goes, through hooks that the loop calls by
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape


@dataclass(frozen=True)
class Decision:
    """What is to change before the next step, and why.

    Attributes:
        shape: the batches from now on.
        reason: for the log, one clause.
        predicted_share: share of the memory that a step at `shape` should take; 0.85 is 85 %.
    """

    shape: Shape
    reason: str
    predicted_share: float

    def __str__(self) -> str:
        return f"{self.shape}: predicted {self.predicted_share:.1%} ({self.reason})"


@dataclass(frozen=True)
class StepReport:
    """What the loop knows after a step.

    Attributes:
        iteration: changes of the weights so far.
        shape: of the tensor that entered the network in this step, not of what was asked for.
        reading: memory of this step; None where it was not measured.
        settled: the reading tells what a step at this shape takes. Not so when something else had
            its peak in the window (validation, checkpoint, compilation, a retried phase).
    """

    iteration: int
    shape: Shape
    reading: MemoryReading | None = None
    settled: bool = True


class Automation:
    """Base of the automations. Every hook does nothing here; an automation overrides those that it
    needs.

    A hook sees values, never the model or the loader: what it returns is carried out by the loop,
    so the same decision can be taken on every rank and replayed in a test.

    Args:
        enabled: whether it takes part in the run.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled

    def describe(self) -> str:
        """One line for the log at the start of a run."""
        return type(self).__name__

    def before_training(self) -> Shape | None:
        """The shape to begin (or to resume) with; None leaves what the options say."""
        return None

    def after_step(self, report: StepReport) -> Decision | None:  # noqa: ARG002 (a hook)
        """After every change of the weights. A decision takes effect from the next batch on."""
        return None

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision | None:  # noqa: ARG002 (a hook)
        """After a step at `shape` ran out of memory and was repeated in chunks, the largest of them
        being `fitted`.

        Raises:
            TrainingError: if nothing smaller is possible.
        """
        return None

    def after_validation(self, iteration: int, means: Mapping[str, float]) -> None:
        """After a validation, with the mean of each metric by label."""

    def scalars(self) -> dict[str, float]:
        """Points for TensorBoard, by tag."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: numbers, strings, lists and dictionaries of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
