"""What a run is made of besides its step: parts, each with its own business and its own state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rich.table import Table

from traiNNer.models import StepResult

if TYPE_CHECKING:
    from traiNNer.engine.run import Run


class Stateful(Protocol):
    """What a checkpoint keeps under its name."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, so that reading them executes nothing."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        ...


class Part:
    """Base of the parts. Every method does nothing here; a part overrides those that it needs.

    The order of a run's parts is the order in which they are called.

    Attributes:
        name: its state's name in a checkpoint.
        needs_per_sample: whether it wants each sample's losses in the step's result.
    """

    name: ClassVar[str]
    needs_per_sample: ClassVar[bool] = False

    def start(self, run: Run) -> None:
        """Once, before the first step and after a checkpoint was loaded."""

    def before_step(self, run: Run) -> None:
        """Before the samples of a step are read."""

    def after_step(self, run: Run, result: StepResult) -> None:
        """After the weights have changed."""

    def stop(self, run: Run) -> None:
        """In place of a step, whose samples have not come: somebody wants the run to end."""

    def rescue(self, run: Run) -> str:  # noqa: ARG002
        """An error ends the run, and its weights are those of the last whole step.

        Returns:
            What was kept of it, as the end of the error's message; empty for nothing to say.
        """
        return ""

    def close(self, run: Run) -> None:
        """Once, however the run ends."""

    def scalars(self) -> dict[str, float]:
        """Points for TensorBoard, by tag."""
        return {}

    def status(self) -> str:
        """A clause for the log's line, for example `memory 84.1 %`."""
        return ""

    def summary(self) -> Table | None:
        """What is printed when a run has come to its end."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
