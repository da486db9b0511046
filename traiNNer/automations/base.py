"""What an automation is: a part that changes how a run goes, through hooks that the loop calls by
name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from traiNNer.automations.pressure import TimedLook
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.utils.memory import MemoryReading
from traiNNer.utils.shape import Shape


@dataclass(frozen=True)
class AutomationContext:
    """What every automation is built from, before its own options.

    Attributes:
        bounds: the shapes that network, images and dataset allow.
        start: the lq_size and batch_size of the options.
        total: bytes of the device, or the limit.
        step_seconds: what a step should take at most where the options of the automation say
            nothing; None is as long as it likes.
        run_length: of the run, in its own measure.
        seed: of the run.
        companions: names of the other automations that take part.
        batches_per_step: that are accumulated; None where it depends on the batch.
        pace: of growth where the automation's options say nothing: "measured" needs steps whose
            gradients somebody looks at, and a place in the run.
        rate_power: of the batch that the learning rate follows; 0 for one that stays.
    """

    bounds: ShapeBounds
    start: Shape
    total: int
    step_seconds: float | None = None
    run_length: float = 1.0
    seed: int = 0
    companions: tuple[str, ...] = ()
    batches_per_step: int | None = 1
    pace: Literal["at_once", "measured"] = "at_once"
    rate_power: float = 0.0


@dataclass(frozen=True)
class Decision:
    """What is to change before the next step, and why.

    Attributes:
        shape: the batches from now on.
        reason: for the log, one clause.
        predicted_share: share of the memory that a step at `shape` should take; 0.85 is 85 %. None
            where nobody can tell.
        decided_by: the automation's name; empty until the automations are taken together.
        speed: of the steps before, in words, where it is known.
    """

    shape: Shape
    reason: str
    predicted_share: float | None = None
    decided_by: str = ""
    speed: str = ""

    def __str__(self) -> str:
        predicted = ""
        if self.predicted_share is not None:
            predicted = f": predicted {self.predicted_share:.1%}"
        speed = f"\n  {self.speed}" if self.speed else ""
        return f"{self.shape}{predicted} ({self.reason}){speed}"


@dataclass(frozen=True)
class StepReport:
    """What the loop knows after a step.

    Attributes:
        iteration: changes of the weights so far.
        shape: of the tensor that entered the network in this step, not of what was asked for.
        reading: memory of this step; None where it was not measured.
        settled: the reading tells what a step at this shape takes. Not so when something else had
            its peak since `start_window` (validation, checkpoint, compilation, a retried phase, the
            first step of a process).
        rate: LQ pixels a second of the steps at this shape; None while it is not known.
        seconds: of a step at this shape; None while it is not known.
        progress: the part of the run that is done, between 0 and 1.
        cosine: between the mean gradients of the two halves of the step's samples; None where
            nobody looked.
    """

    iteration: int
    shape: Shape
    reading: MemoryReading | None = None
    settled: bool = True
    rate: float | None = None
    seconds: float | None = None
    progress: float = 0.0
    cosine: float | None = None


# The hooks do nothing and name their arguments all the same, for whoever overrides them reads them.
class Automation:
    """Base of the automations. Every hook does nothing here; an automation overrides those that it
    needs.

    A hook sees values, never the model or the loader: what it returns is carried out by the loop,
    so the same decision can be taken on every rank and replayed in a test. What it returns is a
    wish: of several automations the one that asks for the fewest pixels decides, within the bounds
    that all of them allow (see `Automations`).

    Args:
        context: what network, images, options and device allow.
        enabled: whether it takes part in the run.

    Attributes:
        polls_per_second: how often it wants the memory to be looked at between steps; 0 for never.
        wants_memory_back: cached memory is to be given back before the next step.
        wants_noise: the noise of gradients is to be looked at now and then.
    """

    polls_per_second: float = 0.0
    wants_memory_back: bool = False
    wants_noise: bool = False

    def __init__(self, context: AutomationContext, *, enabled: bool = True) -> None:
        self.context = context
        self.enabled = enabled

    @property
    def bounds(self) -> ShapeBounds:
        """The shapes that this automation allows now. They may change with every hook."""
        return self.context.bounds

    def describe(self) -> str:
        """One line for the log at the start of a run."""
        return type(self).__name__

    def before_training(self, *, resumed: bool = False) -> Shape | None:  # noqa: ARG002
        """The shape to begin with, or after `load_state_dict` to go on with; None leaves what the
        options say.

        Args:
            resumed: the run goes on in another process than that of the state, which does not hold
                exactly what the former one did.
        """
        return None

    def watch(self, looks: Sequence[TimedLook]) -> Decision | None:  # noqa: ARG002
        """Before a step: how the memory looked since the step before, at `polls_per_second`. A
        decision takes effect from the next batch on.
        """
        return None

    def after_step(self, report: StepReport) -> Decision | None:  # noqa: ARG002
        """After every change of the weights. A decision takes effect from the next batch on."""
        return None

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision | None:  # noqa: ARG002
        """After a step at `shape` ran out of memory and was repeated in chunks, the largest of them
        being `fitted`.

        Raises:
            TrainingError: if nothing smaller is possible.
        """
        return None

    def narrow(self, bounds: ShapeBounds) -> Decision | None:  # noqa: ARG002
        """`bounds` are what all automations together allow from now on; they may be wider than
        before, or the same. A decision is a wish that replaces one outside of them.
        """
        return None

    def follow(self, shape: Shape) -> None:
        """`shape` is asked for from the next batch on, whether it is this automation's wish or
        not.
        """

    def predict(self, shape: Shape) -> float | None:  # noqa: ARG002
        """The share of the memory that a step at `shape` should take; None if it cannot tell."""
        return None

    def shape_of_batch(self, shape: Shape, position: int) -> Shape:  # noqa: ARG002
        """What the batch that begins at `position` of the samples is to be, where `shape` is asked
        for: no larger patches, and no more pixels.
        """
        return shape

    def scalars(self) -> dict[str, float]:
        """Points for TensorBoard, by tag."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: numbers, strings, None, lists and dictionaries of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, as if the run had never ended."""
